/* A list of device buffers that are allocated, freed and counted together.
 *
 * An object writes one function that lists its buffers, from the sizes that it keeps, and gives the list to all three:
 *
 *     static void list_buffers(Thing *t, Buffer list[THING_BUFFERS]) {
 *         const Buffer all[THING_BUFFERS] = {{&t->images, t->rows * ROW}, {(void **)&t->labels, 4 * t->rows}}; ... */
#ifndef EXCON_KERNELS_BUFFERS_H
#define EXCON_KERNELS_BUFFERS_H

#include "kernels/ops.h"

typedef struct Buffer {
    void **at;    /* the pointer to the buffer: NULL while it is not allocated */
    size_t bytes; /* 0: not used */
} Buffer;

/* Allocates each, zeroed; those of 0 bytes stay NULL. STATUS_SYSTEM when memory is short; then none is left allocated.
 */
Status buffers_alloc(Device *device, const Buffer *list, int count, Error *err);

/* Frees what is allocated and sets the pointers to NULL. The list must have the sizes it was allocated with. */
void buffers_free(Device *device, const Buffer *list, int count);

/* All of the list together. */
size_t buffers_bytes(const Buffer *list, int count);

#endif
