/* The collectives of a single rank, on any device: a gather is a copy, sums and broadcasts are there already. No
 * library of communication takes part, so one GPU runs without NCCL, and everything can be recorded. */
#include "comm/comm_mpi.h"
#include "comm/watchdog.h"
#include "kernels/ops.h"

static void all_gather_single(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv) {
    if (recv != send)
        comm->device->ops->memory->copy(comm->device, recv, send, (size_t)counts[0] * element_bytes);
}

static void all_reduce_single(Comm *comm, void *buffer, int64_t n, DType type) {
    (void)comm, (void)buffer, (void)n, (void)type;
}

static void reduce_start_single(Comm *comm, float *buffer, int64_t n, CommRequest *request) {
    (void)comm, (void)buffer, (void)n;
    request->active = 0;
}

static void reduce_idle_single(Comm *comm, CommRequest *request) {
    (void)comm, (void)request;
}

static void broadcast_single(Comm *comm, void *buffer, size_t bytes, int root) {
    (void)comm, (void)buffer, (void)bytes, (void)root;
}

static void settle_single(Comm *comm) {
    watchdog_enter(comm->watchdog, "work of the device");
    comm->device->ops->stream->sync(comm->device);
    watchdog_leave(comm->watchdog);
}

const Collectives collectives_single = {
    .name = "none, a single rank",
    .recordable = 1,
    .all_gather = all_gather_single,
    .all_reduce = all_reduce_single,
    .reduce_start = reduce_start_single,
    .reduce_poll = reduce_idle_single,
    .reduce_wait = reduce_idle_single,
    .broadcast = broadcast_single,
    .settle = settle_single,
};
