/* The collectives on device buffers, by NCCL. Part of the CUDA backend's library.
 *
 * All of NCCL's work is on one stream of its own, which is ordered against the device's by events: a fork lets it
 * see what the device's stream has so far, a join lets the device's stream see its results. Nothing here waits for the
 * device except settle and detach, nothing is allocated after attach, and a fork inside a recording is joined inside
 * it, so all of it can be recorded in graphs. Since the stream runs in order, one join serves every operation before
 * it.
 *
 * The communicator is a blocking one: a call returns when its work is on the stream, put there by the calling thread. A
 * non-blocking one starts a thread for every call, which launches for it, into the capture of another thread where one
 * is under way. A call may wait for other ranks (the first use of an algorithm makes connections), so calls are marked
 * for the watchdog. Connecting and closing, which must end in time, run in a thread that the caller waits for so long
 * and no longer. Errors that come later, such as a rank that has died, are looked for wherever the host waits; they end
 * the job. What the watchdog counts are the waits in settle: operations in a replayed recording pass no code here, and
 * ranks need not replay the same ones.
 *
 * Order of sums (comm/comm.h). NCCL documents none, and for NVLink SHARP (NVLS), where the switch adds, its maintainers
 * say that calls differ from each other (github.com/NVIDIA/nccl, issue 1497); so that is switched off by NCCL's own
 * variable, unless the user has set it or NCCL_ALGO. What is left are rings and trees (CollNet is off by
 * default), in which each element is added
 * in an order that the connections, the count, the type and the number of channels decide. NCCL 2.28.9 decides all of
 * them from what all ranks know before the call, and treats a captured sum as an uncaptured one when it is in place
 * (src/register/coll_reg.cc), as every sum here is. That is how its sources are, not what it promises. */
#include <nccl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/nccl/transport.h"
#include "comm/watchdog.h"
#include "kernels/cuda/device/cuda_stream.h"

_Static_assert(sizeof(ncclUniqueId) == NCCL_ID_BYTES, "an id travels whole");

typedef struct NcclRank {
    Collectives table;
    char name[80];
    ncclComm_t nccl;
    cudaStream_t stream;
    cudaEvent_t fork, join;
    uint64_t issued, joined; /* operations given to the stream; of those, how many the device's stream waits for */
    int recording;           /* whether the last fork stood in a recording */
} NcclRank;

static NcclRank *nccl_of(const Comm *comm) {
    return comm->impl;
}

/* ---- errors and waits -------------------------------------------------------------------------------------------- */

/* `what`: a phrase, or a call, of which the arguments are left out. */
static void __attribute__((noreturn)) fail(Comm *comm, ncclResult_t code, const char *what) {
    char step[48] = "";
    if (comm->watchdog)
        snprintf(step, sizeof step, " at step %lld", (long long)atomic_load(&comm->watchdog->marks.step));
    device_fatal(comm->device, STATUS_SYSTEM,
                 "rank %d on %s%s: %.*s: NCCL says: %s (%s)%s; run with NCCL_DEBUG=WARN to see more", comm->rank,
                 comm->host, step, (int)strcspn(what, "("), what, ncclGetErrorString(code),
                 ncclGetLastError(nccl_of(comm)->nccl),
                 code == ncclRemoteError ? "; another rank has ended or the network between the hosts has failed" : "");
}

/* What has gone wrong since. */
static ncclResult_t state_of(const NcclRank *rank) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(rank->nccl, &state);
    return asked != ncclSuccess ? asked : state;
}

/* Between two looks at something that comes soon, or else takes long. */
static void pause_after(int looks) {
    if (looks < 2000)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* Gives NCCL one call, or group of calls; its work is on the stream then. */
#define ISSUE(comm, call)                                                                                              \
    do {                                                                                                               \
        watchdog_wait((comm)->watchdog, "the start of a collective");                                                  \
        const ncclResult_t issued_ = (call);                                                                           \
        if (issued_ != ncclSuccess)                                                                                    \
            fail((comm), issued_, #call);                                                                              \
        watchdog_leave((comm)->watchdog);                                                                              \
    } while (0)

/* Inside a group: a call only notes what it is asked. */
#define NOTE(comm, call)                                                                                               \
    do {                                                                                                               \
        const ncclResult_t noted_ = (call);                                                                            \
        if (noted_ != ncclSuccess)                                                                                     \
            fail((comm), noted_, #call);                                                                               \
    } while (0)

/* ---- the two streams --------------------------------------------------------------------------------------------- */

static void fork_stream(Comm *comm) {
    NcclRank *rank = nccl_of(comm);
    const int recording = cuda_capturing(comm->device);
    if (recording && !rank->recording && rank->issued != rank->joined)
        device_fatal(comm->device, STATUS_INTERNAL,
                     "a reduction was started before a recorded capture and is not waited for");
    rank->recording = recording;
    CUDA_CHECK(comm->device, cudaEventRecord(rank->fork, cuda_stream(comm->device)));
    CUDA_CHECK(comm->device, cudaStreamWaitEvent(rank->stream, rank->fork, 0));
}

static void join_stream(Comm *comm) {
    NcclRank *rank = nccl_of(comm);
    CUDA_CHECK(comm->device, cudaEventRecord(rank->join, rank->stream));
    CUDA_CHECK(comm->device, cudaStreamWaitEvent(cuda_stream(comm->device), rank->join, 0));
    rank->joined = rank->issued;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static ncclDataType_t datatype(DType type) {
    switch (type) {
    case DTYPE_F64:
        return ncclFloat64;
    case DTYPE_I32:
        return ncclInt32;
    case DTYPE_I64:
        return ncclInt64;
    default:
        return ncclFloat32;
    }
}

/* Each rank with rows broadcasts them, all in one group. */
static void gather_ragged(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, char *recv) {
    NcclRank *rank = nccl_of(comm);
    NOTE(comm, ncclGroupStart());
    for (int r = 0; r < comm->size; r++) {
        const size_t bytes = (size_t)counts[r] * element_bytes;
        if (bytes)
            NOTE(comm,
                 ncclBroadcast(r == comm->rank ? send : recv, recv, bytes, ncclUint8, r, rank->nccl, rank->stream));
        recv += bytes;
    }
    ISSUE(comm, ncclGroupEnd());
}

static void all_gather_nccl(Comm *comm, const void *send, const int64_t *counts, size_t element_bytes, void *recv) {
    NcclRank *rank = nccl_of(comm);
    int64_t total = 0;
    int equal = 1;
    for (int r = 0; r < comm->size; r++) {
        total += counts[r];
        equal = equal && counts[r] == counts[0];
    }
    if (total == 0)
        return;
    fork_stream(comm);
    if (equal)
        ISSUE(comm, ncclAllGather(send, recv, (size_t)counts[0] * element_bytes, ncclUint8, rank->nccl, rank->stream));
    else
        gather_ragged(comm, send, counts, element_bytes, recv);
    rank->issued++;
    join_stream(comm);
}

static void start_sum(Comm *comm, void *buffer, int64_t n, DType type) {
    NcclRank *rank = nccl_of(comm);
    fork_stream(comm);
    ISSUE(comm, ncclAllReduce(buffer, buffer, (size_t)n, datatype(type), ncclSum, rank->nccl, rank->stream));
    rank->issued++;
}

static void all_reduce_nccl(Comm *comm, void *buffer, int64_t n, DType type) {
    if (n == 0)
        return;
    start_sum(comm, buffer, n, type);
    join_stream(comm);
}

static void reduce_start_nccl(Comm *comm, float *buffer, int64_t n, CommRequest *request) {
    request->active = n > 0;
    if (n == 0)
        return;
    start_sum(comm, buffer, n, DTYPE_F32);
    request->handle[0] = nccl_of(comm)->issued;
}

/* NCCL needs no driving; this looks for errors. */
static void reduce_poll_nccl(Comm *comm, CommRequest *request) {
    if (!request->active)
        return;
    const ncclResult_t state = state_of(nccl_of(comm));
    if (state != ncclSuccess)
        fail(comm, state, "an all-reduce of gradients");
}

static void reduce_wait_nccl(Comm *comm, CommRequest *request) {
    if (request->active && request->handle[0] > nccl_of(comm)->joined)
        join_stream(comm);
    request->active = 0;
}

static void broadcast_nccl(Comm *comm, void *buffer, size_t bytes, int root) {
    NcclRank *rank = nccl_of(comm);
    if (bytes == 0)
        return;
    fork_stream(comm);
    ISSUE(comm, ncclBroadcast(buffer, buffer, bytes, ncclUint8, root, rank->nccl, rank->stream));
    rank->issued++;
    join_stream(comm);
}

static void settle_nccl(Comm *comm) {
    watchdog_enter(comm->watchdog, "work of the device and its collectives");
    for (int looks = 0;; looks++) {
        const cudaError_t code = cudaStreamQuery(cuda_stream(comm->device));
        if (code == cudaSuccess)
            break;
        if (code != cudaErrorNotReady)
            cuda_check(comm->device, code, "the device's work", __FILE__, __LINE__);
        const ncclResult_t state = state_of(nccl_of(comm));
        if (state != ncclSuccess)
            fail(comm, state, "a collective");
        pause_after(looks);
    }
    watchdog_leave(comm->watchdog);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void version_text(int code, char *out, size_t size) {
    snprintf(out, size, "%d.%d.%d", code / 10000, code / 100 % 100, code % 100);
}

static void name_table(NcclRank *rank) {
    char library[24], header[24];
    int version = 0;
    ncclGetVersion(&version);
    version_text(version, library, sizeof library);
    version_text(NCCL_VERSION_CODE, header, sizeof header);
    if (version == NCCL_VERSION_CODE)
        snprintf(rank->name, sizeof rank->name, "NCCL %s on its own stream", library);
    else
        snprintf(rank->name, sizeof rank->name, "NCCL %s (header %s) on its own stream", library, header);
}

static void free_rank(NcclRank *rank) {
    if (rank->fork)
        cudaEventDestroy(rank->fork);
    if (rank->join)
        cudaEventDestroy(rank->join);
    if (rank->stream)
        cudaStreamDestroy(rank->stream);
    free(rank);
}

/* A call that may wait for other ranks for ever. */
typedef struct Errand {
    ncclResult_t (*run)(struct Errand *);
    int device, ranks, mine;
    ncclUniqueId id;
    ncclComm_t nccl;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool done;
    ncclResult_t result;
} Errand;

static ncclResult_t run_connect(Errand *e) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    return ncclCommInitRankConfig(&e->nccl, e->ranks, e->id, e->mine, &config);
}

static ncclResult_t run_close(Errand *e) {
    const ncclResult_t finalized = ncclCommFinalize(e->nccl);
    return finalized == ncclSuccess ? ncclCommDestroy(e->nccl) : finalized;
}

static void *errand_main(void *argument) {
    Errand *e = argument;
    const ncclResult_t result = cudaSetDevice(e->device) == cudaSuccess ? e->run(e) : ncclUnhandledCudaError;
    pthread_mutex_lock(&e->mutex);
    e->result = result;
    e->done = true;
    pthread_cond_signal(&e->ended);
    pthread_mutex_unlock(&e->mutex);
    return NULL;
}

static bool ended_in_time(Errand *e, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const double end = (double)until.tv_nsec * 1e-9 + seconds;
    until.tv_sec += (time_t)end;
    until.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
    pthread_mutex_lock(&e->mutex);
    for (int code = 0; !e->done && code == 0;)
        code = pthread_cond_timedwait(&e->ended, &e->mutex, &until);
    const bool done = e->done;
    pthread_mutex_unlock(&e->mutex);
    return done;
}

static Errand *errand_new(ncclResult_t (*run)(Errand *), const Comm *comm) {
    Errand *e = calloc(1, sizeof *e);
    pthread_condattr_t monotonic;
    if (!e)
        return NULL;
    e->run = run;
    e->device = comm->device->index;
    e->ranks = comm->size;
    e->mine = comm->rank;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&e->mutex, NULL);
    return e;
}

static void errand_free(Errand *e) {
    pthread_cond_destroy(&e->ended);
    pthread_mutex_destroy(&e->mutex);
    free(e);
}

/* The result, and the communicator; or ncclInProgress, and the thread goes on without its caller. */
static ncclResult_t errand_go(Errand *e, double seconds, ncclComm_t *nccl) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, errand_main, e) != 0) {
        errand_free(e);
        return ncclSystemError;
    }
    if (!ended_in_time(e, seconds)) {
        pthread_detach(thread);
        return ncclInProgress;
    }
    pthread_join(thread, NULL);
    const ncclResult_t result = e->result;
    *nccl = e->nccl;
    errand_free(e);
    return result;
}

/* NCCL waits for recordings that hold work of it, so those go first. */
static void detach_nccl(Comm *comm) {
    static const double patience = 30;
    NcclRank *rank = nccl_of(comm);
    settle_nccl(comm);
    CUDA_CHECK(comm->device, cudaStreamSynchronize(rank->stream));
    cuda_forget_recordings(comm->device);
    Errand *close = errand_new(run_close, comm);
    if (!close)
        device_fatal(comm->device, STATUS_SYSTEM, "out of memory closing the collectives");
    close->nccl = rank->nccl;
    const ncclResult_t state = errand_go(close, patience, &rank->nccl);
    if (state != ncclSuccess) /* the process is about to end and takes the rest along */
        fprintf(stderr, "excon: rank %d on %s: NCCL's connections did not close: %s\n", comm->rank, comm->host,
                state == ncclInProgress ? "another rank did not answer" : ncclGetErrorString(state));
    free_rank(rank);
}

static const Collectives table_nccl = {.recordable = 1,
                                       .all_gather = all_gather_nccl,
                                       .all_reduce = all_reduce_nccl,
                                       .reduce_start = reduce_start_nccl,
                                       .reduce_poll = reduce_poll_nccl,
                                       .reduce_wait = reduce_wait_nccl,
                                       .broadcast = broadcast_nccl,
                                       .settle = settle_nccl,
                                       .detach = detach_nccl};

static Status identify(Device *device, unsigned char out[NCCL_DEVICE_BYTES], Error *err) {
    struct cudaDeviceProp properties;
    const cudaError_t code = cudaGetDeviceProperties(&properties, device->index);
    if (code != cudaSuccess)
        return error_set(err, STATUS_SYSTEM, "CUDA device %d: cudaGetDeviceProperties: %s", device->index,
                         cudaGetErrorString(code));
    _Static_assert(sizeof properties.uuid == NCCL_DEVICE_BYTES, "a device's id travels whole");
    memcpy(out, &properties.uuid, sizeof properties.uuid);
    return STATUS_OK;
}

static Status not_connected(const Comm *comm, const char *what, double seconds, ncclResult_t code, Error *err) {
    char why[600];
    const char *blocking = getenv("NCCL_COMM_BLOCKING");
    if (code == ncclInProgress && blocking && strcmp(blocking, "0") == 0)
        snprintf(why, sizeof why, "NCCL_COMM_BLOCKING=0 makes it return early; unset that variable");
    else if (code == ncclInProgress)
        snprintf(why, sizeof why, "not done after %g s (comm.connect_seconds)", seconds);
    else
        snprintf(why, sizeof why, "%s (%.400s)", ncclGetErrorString(code), ncclGetLastError(NULL));
    return error_set(err, STATUS_SYSTEM,
                     "NCCL cannot connect the %d ranks: %s: %s; check that every host reaches the others through the "
                     "network interface that NCCL picks (NCCL_SOCKET_IFNAME names another), run with NCCL_DEBUG=INFO "
                     "to see where it stops, or do without NCCL by comm.transport: mpi",
                     comm->size, what, why);
}

/* Before NCCL's first call in this process, which reads its variables. */
static void pin_order_of_sums(void) {
    if (!getenv("NCCL_ALGO"))
        setenv("NCCL_NVLS_ENABLE", "0", 0);
}

static Status make_id(Comm *comm, unsigned char out[NCCL_ID_BYTES], Error *err) {
    ncclUniqueId id;
    pin_order_of_sums();
    const ncclResult_t code = ncclGetUniqueId(&id);
    if (code != ncclSuccess)
        return not_connected(comm, "ncclGetUniqueId", 0, code, err);
    memcpy(out, &id, sizeof id);
    return STATUS_OK;
}

static cudaError_t make_streams(NcclRank *rank) {
    int least = 0, greatest = 0;
    cudaError_t code = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (code == cudaSuccess)
        code = cudaStreamCreateWithPriority(&rank->stream, cudaStreamNonBlocking, greatest);
    if (code == cudaSuccess)
        code = cudaEventCreateWithFlags(&rank->fork, cudaEventDisableTiming);
    if (code == cudaSuccess)
        code = cudaEventCreateWithFlags(&rank->join, cudaEventDisableTiming);
    return code;
}

static Status attach(Comm *comm, const unsigned char bytes[NCCL_ID_BYTES], double seconds, Error *err) {
    ncclUniqueId id;
    memcpy(&id, bytes, sizeof id);
    NcclRank *rank = calloc(1, sizeof *rank);
    if (!rank)
        return error_set(err, STATUS_SYSTEM, "out of memory for the collectives");
    const cudaError_t made = make_streams(rank);
    if (made != cudaSuccess) {
        free_rank(rank);
        return error_set(err, STATUS_SYSTEM, "CUDA device %d: no stream for the collectives: %s", comm->device->index,
                         cudaGetErrorString(made));
    }
    pin_order_of_sums();
    Errand *connect = errand_new(run_connect, comm);
    if (!connect)
        device_fatal(comm->device, STATUS_SYSTEM, "out of memory for the collectives");
    connect->id = id;
    const ncclResult_t state = errand_go(connect, seconds, &rank->nccl);
    if (state != ncclSuccess) /* `rank` is left: threads of NCCL may still use the communicator */
        return not_connected(comm, "ncclCommInitRankConfig", seconds, state, err);
    rank->table = table_nccl;
    name_table(rank);
    rank->table.name = rank->name;
    comm->collectives = &rank->table;
    comm->impl = rank;
    return STATUS_OK;
}

const NcclTransport excon_nccl = {.comm_size = sizeof(Comm),
                                  .collectives_size = sizeof(Collectives),
                                  .identify = identify,
                                  .make_id = make_id,
                                  .attach = attach};
