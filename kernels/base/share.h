/* How the items of a whole are split over ranks: the samples of a batch, the rows of a test. */
#ifndef EXCON_BASE_SHARE_H
#define EXCON_BASE_SHARE_H

#include <stdint.h>

/* Rank's contiguous part of `total` items: sizes differ by at most one, larger parts first. */
static inline void share_of(int64_t total, int rank, int size, int64_t *first, int64_t *count) {
    const int64_t base = total / size, extra = total % size;
    *count = base + (rank < extra);
    *first = base * rank + (rank < extra ? rank : extra);
}

#endif
