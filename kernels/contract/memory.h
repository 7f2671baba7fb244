/* Memory of a device, and copies between it and the host, all in the order of the stream. Of the copies only copy_out
 * waits. */
#ifndef EXCON_CONTRACT_MEMORY_H
#define EXCON_CONTRACT_MEMORY_H

#include "kernels/device.h"

typedef struct MemoryOps {
    /* Zero-filled, 64-byte aligned. STATUS_SYSTEM with the size in the message when there is not enough. */
    Status (*alloc)(Device *, size_t bytes, void **out, Error *);
    /* `bytes` as it was allocated; NULL is allowed. Waits for the work that may use it. */
    void (*release)(Device *, void *pointer, size_t bytes);
    /* The copy happens in the order of the stream: the source must stay as it is until sync or copy_out, whatever
     * memory it is. (CUDA may have read a source that is not host_alloc's when the call returns, and does not promise
     * it.) */
    void (*copy_in)(Device *, void *dst, const void *host_src, size_t bytes);
    void (*copy_out)(Device *, void *host_dst, const void *src, size_t bytes); /* waits */
    /* From device memory to device memory, which are the same or do not overlap. */
    void (*copy)(Device *, void *dst, const void *src, size_t bytes);
    void (*zero)(Device *, void *dst, size_t bytes);
    /* Host memory that copies reach without a detour (pinned, for CUDA), zero-filled. */
    Status (*host_alloc)(Device *, size_t bytes, void **out, Error *);
    /* `bytes` as it was allocated; NULL is allowed. */
    void (*host_release)(Device *, void *pointer, size_t bytes);
} MemoryOps;

#endif
