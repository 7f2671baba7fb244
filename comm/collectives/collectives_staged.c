/* The collectives on devices whose memory MPI cannot see: through pinned host memory and the collectives on host
 * buffers. The host waits in each for the device's stream, so several ranks may share a device, and none of this can
 * be recorded. Staging blocks are taken from the device once and kept; they grow when a larger transfer comes. */
#include <stdlib.h>

#include "comm/comm_mpi.h"
#include "kernels/ops.h"

/* All-reduces and broadcasts go in parts of this size, a gather as a whole. */
static const int64_t PART_BYTES = (int64_t)16 << 20;

typedef struct Block {
    void *memory;
    size_t bytes;
    int busy;
    /* a reduction in flight */
    CommRequest host;
    float *device;
    int64_t n;
} Block;

typedef struct Staging {
    Collectives table;
    Block *blocks; /* requests know them by index */
    int count;
} Staging;

static Staging *staging_of(const Comm *comm) {
    return comm->impl;
}

static void grow(Comm *comm, Block *block, size_t bytes) {
    Error err;
    const Ops *ops = comm->device->ops;
    ops->memory->host_release(comm->device, block->memory, block->bytes);
    if (ops->memory->host_alloc(comm->device, bytes, &block->memory, &err) != STATUS_OK)
        device_fatal(comm->device, STATUS_SYSTEM, "staging for MPI: %s", err.message);
    block->bytes = bytes;
}

/* A free block of at least `bytes`: the first that is large enough, else the first free one, grown, else a new one. A
 * step that takes and returns the same sizes every time finds the same blocks every time. */
static int take(Comm *comm, size_t bytes) {
    Staging *s = staging_of(comm);
    int chosen = -1;
    for (int i = 0; i < s->count && (chosen < 0 || s->blocks[chosen].bytes < bytes); i++)
        if (!s->blocks[i].busy && (chosen < 0 || s->blocks[i].bytes >= bytes))
            chosen = i;
    if (chosen < 0) {
        Block *blocks = realloc(s->blocks, sizeof *blocks * (size_t)(s->count + 1));
        if (!blocks)
            device_fatal(comm->device, STATUS_SYSTEM, "out of memory for staging blocks");
        chosen = s->count++;
        blocks[chosen] = (Block){0};
        s->blocks = blocks;
    }
    if (s->blocks[chosen].bytes < bytes)
        grow(comm, &s->blocks[chosen], bytes);
    return chosen;
}

static void *take_memory(Comm *comm, size_t bytes) {
    const int chosen = take(comm, bytes); /* may move the blocks */
    return staging_of(comm)->blocks[chosen].memory;
}

static void all_gather_staged(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv) {
    const Ops *ops = comm->device->ops;
    size_t before = 0, total = 0;
    for (int r = 0; r < comm->size; r++) {
        before += r < comm->rank ? (size_t)counts[r] * element_bytes : 0;
        total += (size_t)counts[r] * element_bytes;
    }
    char *host = take_memory(comm, total), *slot = host + before;
    ops->memory->copy_out(comm->device, slot, send, (size_t)counts[comm->rank] * element_bytes);
    collectives_mpi_host.all_gather(comm, slot, counts, element_bytes, host);
    ops->memory->copy_in(comm->device, recv, host, total);
}

static void all_reduce_staged(Comm *comm, void *buffer, int64_t n, DType type) {
    const Ops *ops = comm->device->ops;
    const int64_t size = (int64_t)dtype_size(type), part = PART_BYTES / size;
    char *at = buffer;
    void *host = take_memory(comm, (size_t)((n < part ? n : part) * size));
    for (; n > 0; n -= part, at += PART_BYTES) {
        const int64_t now = n < part ? n : part;
        ops->memory->copy_out(comm->device, host, at, (size_t)(now * size));
        collectives_mpi_host.all_reduce(comm, host, now, type);
        ops->memory->copy_in(comm->device, at, host, (size_t)(now * size));
    }
}

static void reduce_start_staged(Comm *comm, float *buffer, int64_t n, CommRequest *request) {
    const int chosen = take(comm, (size_t)n * sizeof *buffer);
    Block *block = &staging_of(comm)->blocks[chosen];
    block->busy = 1;
    block->device = buffer;
    block->n = n;
    comm->device->ops->memory->copy_out(comm->device, block->memory, buffer, (size_t)n * sizeof *buffer);
    collectives_mpi_host.reduce_start(comm, block->memory, n, &block->host);
    request->handle[0] = (uint64_t)chosen;
    request->active = 1;
}

static void reduce_poll_staged(Comm *comm, CommRequest *request) {
    if (request->active)
        collectives_mpi_host.reduce_poll(comm, &staging_of(comm)->blocks[request->handle[0]].host);
}

static void reduce_wait_staged(Comm *comm, CommRequest *request) {
    if (!request->active)
        return;
    Block *block = &staging_of(comm)->blocks[request->handle[0]];
    collectives_mpi_host.reduce_wait(comm, &block->host);
    comm->device->ops->memory->copy_in(comm->device, block->device, block->memory, (size_t)block->n * sizeof(float));
    block->busy = 0; /* the next use begins with a copy out, which waits for this copy in */
    request->active = 0;
}

static void broadcast_staged(Comm *comm, void *buffer, size_t bytes, int root) {
    const Ops *ops = comm->device->ops;
    const size_t part = (size_t)PART_BYTES;
    char *at = buffer;
    void *host = take_memory(comm, bytes < part ? bytes : part);
    while (bytes > 0) {
        const size_t now = bytes < part ? bytes : part;
        if (comm->rank == root)
            ops->memory->copy_out(comm->device, host, at, now);
        else
            ops->stream->sync(comm->device); /* `host` may still be read by an earlier copy in */
        comm_host_broadcast(comm, host, now, root);
        if (comm->rank != root)
            ops->memory->copy_in(comm->device, at, host, now);
        at += now;
        bytes -= now;
    }
}

/* The device never waits for another rank here. */
static void settle_staged(Comm *comm) {
    comm->device->ops->stream->sync(comm->device);
}

static void detach_staged(Comm *comm) {
    Staging *s = staging_of(comm);
    for (int i = 0; i < s->count; i++)
        comm->device->ops->memory->host_release(comm->device, s->blocks[i].memory, s->blocks[i].bytes);
    free(s->blocks);
    free(s);
}

Status staged_attach(Comm *comm, const char *name, Error *err) {
    Staging *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, STATUS_SYSTEM, "out of memory for the collectives");
    s->table = (Collectives){.name = name,
                             .recordable = 0,
                             .all_gather = all_gather_staged,
                             .all_reduce = all_reduce_staged,
                             .reduce_start = reduce_start_staged,
                             .reduce_poll = reduce_poll_staged,
                             .reduce_wait = reduce_wait_staged,
                             .broadcast = broadcast_staged,
                             .settle = settle_staged,
                             .detach = detach_staged};
    comm->collectives = &s->table;
    comm->impl = s;
    return STATUS_OK;
}
