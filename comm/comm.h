/* Ranks and collectives: who this process is, and one table of operations among all of them.
 *
 * MPI launches and carries control messages; the table moves tensors: MPI on host buffers for CPU devices; for CUDA
 * NCCL on device buffers, or MPI through pinned host memory. A single rank makes the same calls, which then copy or do
 * nothing. A failing collective ends the whole job.
 *
 * Sums over ranks: a rerun with the same rank count on the same hosts, with the same libraries, gives the same bits.
 * The order in which the ranks' parts are added is the library's choice, by element count and by how the ranks are
 * connected, so another placement of the ranks may give other last bits. All ranks get the same bits in any case. How
 * far libraries promise this: MPI recommends it to implementations (MPI 3.1, 5.9.1, advice to implementors); NCCL
 * promises nothing, comm/nccl/collectives_nccl.c says what it does and which of its ways is switched off for that.
 *
 * All operations take device pointers and stand in the order of the device's stream, as if each were one more operator:
 * they see what was queued before them, and what is queued after them sees their results. Whether the host waits in
 * them is the table's part. Every rank calls the same ones in the same order. */
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
    /* 1 when the operations up to broadcast may stand in a capture that ops->graph->begin records. A reduction is then
     * started and waited for on the same side of the capture's begin and end. All ranks record such a capture together
     * and replay it together (NCCL wants it so): its keys come from what all ranks know alike. */
    int recordable;
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
    /* Waits for the device as ops->stream->sync does, and meanwhile looks out for ranks that have failed. For the waits
     * that all ranks make at the same places; others use ops->stream->sync. */
    void (*settle)(Comm *);
    /* Undoes comm_attach; NULL: nothing to do. */
    void (*detach)(Comm *);
} Collectives;

/* How tensors of CUDA devices travel between ranks. */
typedef enum CommTransport {
    TRANSPORT_AUTO, /* NCCL where the backend's library has it, else MPI */
    TRANSPORT_NCCL,
    TRANSPORT_MPI /* through pinned host memory; ranks may share a device */
} CommTransport;

typedef struct CommOptions {
    CommTransport transport;
    double connect_seconds; /* NCCL gives up connecting the ranks after so long */
} CommOptions;

struct Comm {
    int rank, size, local_rank, local_size;
    char host[64];
    const Collectives *collectives; /* set by comm_attach */
    Device *device;                 /* borrowed */
    int threads;                    /* CPU threads this rank should use */
    char threads_why[144];          /* what decided their number, for the banner */
    double seconds;                 /* spent waiting in collectives since the last reset (reset by the reader) */
    struct Launcher *launcher;      /* watched from comm_init on; NULL: none (comm/launcher.h) */
    struct Watchdog *watchdog;      /* told of every wait; NULL: off (comm/watchdog.h) */
    void *impl;                     /* owned by the collectives */
};

/* MPI_Init and the questions above. Without mpirun: a world of one. Also decides the CPU threads of this rank:
 * OMP_NUM_THREADS when set, else its share of the processors it may run on and of its control group's quota, both
 * divided by the ranks of this host that use them. The binding that Open MPI's mpirun chooses by itself, one core for
 * each of one or two ranks, is widened to that share, within what mpirun itself may use. */
Status comm_init(Comm *comm, Error *err);
/* MPI_Finalize, once: all ranks wait for each other in it. */
void comm_finalize(Comm *comm);

/* Chooses the collectives for `device` and connects the ranks; collective, all ranks return the same status, and after
 * a failure none has anything to detach. When NCCL has begun to connect and fails, the job ends here (exit status 71):
 * half-made connections cannot be undone safely. */
Status comm_attach(Comm *comm, Device *device, const CommOptions *options, Error *err);

/* Waits for the device and frees what comm_attach made; before device_close. Collective after comm_attach succeeded;
 * does nothing otherwise. */
void comm_detach(Comm *comm);

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

/* Rank 0 prints the message of a failure that all ranks have agreed on, and every rank's *err is marked silent. Before
 * comm_finalize, where the ranks wait for each other: mpirun ends the rest when the first rank exits. */
void comm_say_failure(const Comm *comm, Status status, Error *err);

/* Rank that the launcher named in this process's environment, before MPI runs; 0 without a launcher. */
int comm_launched_rank(void);

/* For a process that ends before comm_init, while others may be in it or end likewise: agrees with them as comm_agree
 * would, and says the message once. Every rank must call this or comm_init and comm_agree. `mine` as it is without a
 * launcher of several ranks, and once MPI has been initialised. */
Status comm_agree_early(Status mine, Error *err);

/* The same for ranks that have waited a long time for the others: they sleep instead of keeping a processor busy. Not
 * under a watchdog. */
Status comm_agree_asleep(Comm *comm, Status mine, Error *err);

/* 1 when a launcher started this process as one of several, or may have: for programs that else need no MPI. */
int comm_launched(void);

/* "MPI 3.1, Open MPI v4.1.4": header and library, for the banner. */
void comm_versions(char *out, size_t size);

#endif
