/* Sample order: a pure function of (seed, epoch, layout), whatever the rank count.
 *
 * Block shuffle: the ids are cut into blocks of storage positions (ids with equal id / block belong together; with
 * `block` the chunk length of the shards, a block is a chunk); block order is shuffled, then samples are shuffled
 * within windows of `window` consecutive blocks. Disk reads stay chunk-sized and every window holds window * block
 * samples of many classes. */
#ifndef EXCON_IO_ORDER_H
#define EXCON_IO_ORDER_H

#include <stdint.h>

#include "kernels/base/philox.h"
#include "kernels/base/status.h"

typedef struct OrderLayout {
    const int64_t *ids; /* [n] ascending storage positions, borrowed */
    int64_t n;
    int block;  /* rows per block; below 1 counts as 1 */
    int window; /* blocks per shuffle window; 0: the whole epoch (in-memory mode uses the same value to keep the order)
                 */
} OrderLayout;

/* Fills order [n] with ids for `epoch` (from 1). shuffle 0: ascending ids. STATUS_SYSTEM when memory runs out (8 bytes
 * per block), nothing else fails. */
Status order_fill(const OrderLayout *layout, uint64_t seed, uint32_t epoch, int shuffle, int64_t *order);

/* Index of the first of ids [n], ascending, that is >= id; n when there is none. */
int64_t order_find(const int64_t *ids, int64_t n, int64_t id);

/* Fisher-Yates on items [n], n < 2^32, drawing from `reader`. */
void order_shuffle(PhiloxReader *reader, int64_t *items, int64_t n);

#endif
