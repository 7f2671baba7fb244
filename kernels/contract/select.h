/* Choosing rows by a decision per row. */
#ifndef EXCON_CONTRACT_SELECT_H
#define EXCON_CONTRACT_SELECT_H

#include "kernels/device.h"

typedef struct SelectOps {
    /* out row i = accept[i] ? a row i : b row i. */
    void (*rows)(Device *, int64_t N, size_t row_bytes, const int32_t *accept, const void *a, const void *b, void *out);
    /* index [N] = the first min(count, max) positions with accept == 0 in order, then -1; count [1] = how many there
     * are (not capped). */
    void (*rejected)(Device *, int64_t N, const int32_t *accept, int64_t max, int32_t *index, int32_t *count);
} SelectOps;

#endif
