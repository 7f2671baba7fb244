/* Sample order: a pure function of (seed, epoch, layout), whatever the rank count.
 *
 * Block shuffle: the ids are cut into blocks of consecutive storage positions (`block` rows, a shard chunk); block order
 * is shuffled, then samples are shuffled within windows of `window` consecutive blocks. Disk reads stay chunk-sized and
 * every window holds window * block samples of many classes. */
#ifndef EXCON_IO_ORDER_H
#define EXCON_IO_ORDER_H

#include <stdint.h>

typedef struct OrderLayout {
    const int64_t *ids; /* [n] ascending storage positions, borrowed */
    int64_t n;
    int block;  /* rows per block */
    int window; /* blocks per shuffle window; 0: the whole epoch (in-memory mode uses the same value to keep the order) */
} OrderLayout;

/* Fills order [n] with ids for `epoch` (from 1). shuffle 0: ascending ids. */
void order_fill(const OrderLayout *layout, uint64_t seed, uint32_t epoch, int shuffle, int64_t *order);

/* Rank's contiguous part of `total` items: sizes differ by at most one, larger parts first. */
void order_share(int64_t total, int rank, int size, int64_t *first, int64_t *count);

#endif
