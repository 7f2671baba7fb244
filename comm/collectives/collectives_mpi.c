/* The collectives on host buffers, by MPI. */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_mpi.h"
#include "comm/watchdog.h"
#include "kernels/base/clock.h"
#include "kernels/ops.h"

static MPI_Datatype datatype(DType type) {
    switch (type) {
    case DTYPE_F64:
        return MPI_DOUBLE;
    case DTYPE_I32:
        return MPI_INT32_T;
    case DTYPE_I64:
        return MPI_INT64_T;
    default:
        return MPI_FLOAT;
    }
}

void comm_host_gather_rows(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv) {
    int *sizes = malloc(sizeof(int) * 2 * (size_t)comm->size);
    if (!sizes)
        comm_abort(comm, STATUS_SYSTEM);
    int *offsets = sizes + comm->size;
    int64_t at = 0;
    for (int r = 0; r < comm->size; r++) {
        sizes[r] = (int)counts[r];
        offsets[r] = (int)at;
        at += counts[r];
    }
    if (at > INT32_MAX)
        comm_abort(comm, STATUS_SYSTEM);
    MPI_Datatype row;
    MPI_CHECK(comm, MPI_Type_contiguous((int)element_bytes, MPI_BYTE, &row));
    MPI_CHECK(comm, MPI_Type_commit(&row));
    const char *slot = (const char *)recv + (size_t)offsets[comm->rank] * element_bytes;
    const void *from = slot == (const char *)send ? MPI_IN_PLACE : send;
    watchdog_enter(comm->watchdog, "a gather of rows");
    MPI_CHECK(comm, MPI_Allgatherv(from, sizes[comm->rank], row, recv, sizes, offsets, row, MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
    MPI_CHECK(comm, MPI_Type_free(&row));
    free(sizes);
}

static void all_gather_mpi(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv) {
    double begin = clock_seconds();
    comm_host_gather_rows(comm, send, counts, element_bytes, recv);
    comm->seconds += clock_seconds() - begin;
}

static void all_reduce_mpi(Comm *comm, void *buffer, int64_t n, DType type) {
    double begin = clock_seconds();
    const int64_t part = (int64_t)(COMM_PART_BYTES / dtype_size(type));
    char *at = buffer;
    watchdog_enter(comm->watchdog, "an all-reduce");
    for (; n > 0; n -= part, at += COMM_PART_BYTES)
        MPI_CHECK(comm,
                  MPI_Allreduce(MPI_IN_PLACE, at, (int)(n < part ? n : part), datatype(type), MPI_SUM, MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
    comm->seconds += clock_seconds() - begin;
}

static void reduce_start_mpi(Comm *comm, float *buffer, int64_t n, CommRequest *request) {
    MPI_Request mpi;
    watchdog_post(comm->watchdog);
    MPI_CHECK(comm, MPI_Iallreduce(MPI_IN_PLACE, buffer, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &mpi));
    _Static_assert(sizeof mpi <= sizeof request->handle, "an MPI request fits the handle");
    memcpy(request->handle, &mpi, sizeof mpi);
    request->active = 1;
}

static void finish(Comm *comm, CommRequest *request, int wait) {
    if (!request->active)
        return;
    MPI_Request mpi;
    memcpy(&mpi, request->handle, sizeof mpi);
    int done = 1;
    if (wait)
        MPI_CHECK(comm, MPI_Wait(&mpi, MPI_STATUS_IGNORE));
    else
        MPI_CHECK(comm, MPI_Test(&mpi, &done, MPI_STATUS_IGNORE));
    request->active = !done;
}

static void reduce_poll_mpi(Comm *comm, CommRequest *request) {
    finish(comm, request, 0);
}

static void reduce_wait_mpi(Comm *comm, CommRequest *request) {
    double begin = clock_seconds();
    watchdog_wait(comm->watchdog, "an all-reduce of gradients");
    finish(comm, request, 1);
    watchdog_leave(comm->watchdog);
    comm->seconds += clock_seconds() - begin;
}

static void broadcast_mpi(Comm *comm, void *buffer, size_t bytes, int root) {
    comm_host_broadcast(comm, buffer, bytes, root);
}

/* Every operation has finished when it returns, and nothing computes meanwhile. */
static void settle_mpi(Comm *comm) {
    comm->device->ops->stream->sync(comm->device);
}

const Collectives collectives_mpi_host = {
    .name = "MPI on host buffers",
    .recordable = 1, /* the CPU records nothing */
    .all_gather = all_gather_mpi,
    .all_reduce = all_reduce_mpi,
    .reduce_start = reduce_start_mpi,
    .reduce_poll = reduce_poll_mpi,
    .reduce_wait = reduce_wait_mpi,
    .broadcast = broadcast_mpi,
    .settle = settle_mpi,
};
