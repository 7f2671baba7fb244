/* Block shuffle with Philox. The draws are consumed strictly in order (blocks first, then window after window), so the
 * result depends on nothing but the arguments. */
#include "io/loader/order.h"

#include <stdlib.h>
#include <string.h>

void order_shuffle(PhiloxReader *reader, int64_t *items, int64_t n) {
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = philox_next_below(reader, (uint32_t)(i + 1));
        int64_t item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}

static int64_t count_blocks(const OrderLayout *layout, int64_t block) {
    int64_t blocks = 0;
    for (int64_t i = 0; i < layout->n; i++)
        blocks += i == 0 || layout->ids[i] / block != layout->ids[i - 1] / block;
    return blocks;
}

/* Copies the block that starts at position `start` of the ids; returns its length. */
static int64_t copy_block(const OrderLayout *layout, int64_t block, int64_t start, int64_t *out) {
    int64_t end = start;
    while (end < layout->n && layout->ids[end] / block == layout->ids[start] / block)
        end++;
    memcpy(out, layout->ids + start, (size_t)(end - start) * sizeof *out);
    return end - start;
}

Status order_fill(const OrderLayout *layout, uint64_t seed, uint32_t epoch, int shuffle, int64_t *order) {
    if (layout->n == 0)
        return STATUS_OK;
    if (!shuffle) {
        memcpy(order, layout->ids, (size_t)layout->n * sizeof *order);
        return STATUS_OK;
    }
    const int64_t block = layout->block > 1 ? layout->block : 1;
    const int64_t blocks = count_blocks(layout, block);
    const int64_t window = layout->window > 0 ? layout->window : blocks;
    int64_t *starts = malloc((size_t)blocks * sizeof *starts);
    if (!starts)
        return STATUS_SYSTEM;
    for (int64_t i = 0, b = 0; i < layout->n; i++)
        if (i == 0 || layout->ids[i] / block != layout->ids[i - 1] / block)
            starts[b++] = i;

    PhiloxReader reader = philox_reader(seed, PHILOX_ORDER, epoch, 0);
    order_shuffle(&reader, starts, blocks);
    int64_t done = 0, window_start = 0;
    for (int64_t b = 0; b < blocks; b++) {
        done += copy_block(layout, block, starts[b], order + done);
        if ((b + 1) % window == 0 || b + 1 == blocks) {
            order_shuffle(&reader, order + window_start, done - window_start);
            window_start = done;
        }
    }
    free(starts);
    return STATUS_OK;
}

int64_t order_find(const int64_t *ids, int64_t n, int64_t id) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
