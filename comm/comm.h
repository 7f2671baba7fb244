/* Ranks and collectives: who this process is, and one table of operations among all of them.
 *
 * MPI launches and carries control messages; the table moves tensors: MPI on host buffers for CPU devices, NCCL on
 * device buffers for CUDA. World size 1 takes the same path. Sums over ranks are done in an order fixed by the rank
 * count, so that a rerun gives the same bits. A failing collective ends the whole job (comm_abort). */
#ifndef EXCON_COMM_COMM_H
#define EXCON_COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"

typedef struct Comm Comm;
struct Watchdog;

/* One bucket's all-reduce in flight. */
typedef struct CommRequest {
    int active;
    uint64_t handle[4]; /* backend's own */
} CommRequest;

typedef struct Collectives {
    const char *name; /* for the banner */
    int recordable;   /* 1: operations may be part of a recorded stretch (graph_begin in kernels/ops.h) */
    /* recv = concatenation in rank order; rank r contributes counts[r] elements of element_bytes. In place when send is
     * its own slot of recv. counts [size] on the host. */
    void (*all_gather)(Comm *, const void *send, const int64_t *counts, size_t element_bytes, void *recv);
    /* buffer[i] = sum over ranks, in place; f32, f64, i32, i64. */
    void (*all_reduce)(Comm *, void *buffer, int64_t n, DType type);
    /* The same for f32, started now and finished by reduce_wait; reduce_poll drives progress without waiting. */
    void (*reduce_start)(Comm *, float *buffer, int64_t n, CommRequest *request);
    void (*reduce_poll)(Comm *, CommRequest *request);
    void (*reduce_wait)(Comm *, CommRequest *request);
    void (*broadcast)(Comm *, void *buffer, size_t bytes, int root);
} Collectives;

struct Comm {
    int rank, size, local_rank, local_size;
    char host[64];
    const Collectives *collectives; /* set by comm_attach */
    Device *device;                 /* borrowed */
    int threads;                    /* CPU threads this rank should use */
    int rebound;                    /* 1 when the launcher's one-core binding was widened to this rank's share */
    double seconds;                 /* spent waiting in collectives since the last reset (reset by the reader) */
    struct Watchdog *watchdog;      /* told of every wait; NULL: off (comm/watchdog.h) */
    void *impl;
};

/* MPI_Init and the questions above. Without mpirun: a world of one. Also decides the CPU threads of this rank:
 * OMP_NUM_THREADS when set, else this host's cores divided by its ranks; a narrower binding is widened then. */
Status comm_init(Comm *comm, Error *err);
void comm_finalize(Comm *comm);

/* Chooses the collectives for `device`. */
Status comm_attach(Comm *comm, Device *device, Error *err);

/* Ends every rank with `code` as mpirun's exit status. Never returns. */
void comm_abort(Comm *comm, Status code) __attribute__((noreturn));

/* Control messages on host memory, by MPI whatever the device. */
void comm_host_gather_i64(Comm *comm, const int64_t *mine, int n, int64_t *all /* [size, n] */);
void comm_host_sum_f64(Comm *comm, double *values, int n);
void comm_host_max_i64(Comm *comm, int64_t *values, int n);
void comm_host_broadcast(Comm *comm, void *bytes, size_t size, int root);
/* recv = concatenation in rank order of counts[r] elements of element_bytes; send may be its own slot of recv. */
void comm_host_gather_rows(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv);
void comm_barrier(Comm *comm);

/* Agrees on a status: every rank returns the largest code of all, and, where it had none itself, the message of the
 * lowest failing rank. */
Status comm_agree(Comm *comm, Status mine, Error *err);

/* "MPI 3.1, Open MPI v4.1.4": header and library, for the banner. */
void comm_versions(char *out, size_t size);

#endif
