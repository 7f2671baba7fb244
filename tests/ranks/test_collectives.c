/* Collectives and gradient buckets on closed-form integers, 1 to 4 ranks, ragged sizes, on the backend that
 * EXCON_TEST_BACKEND says and with every way of transport it has. The program starts itself again under mpirun as the
 * ranks. On the stand-in GPU of tests/simt the checks run in three orders of threads and streams: host code that reads
 * a result before it is there, or a stream that does not wait for another, gives wrong numbers in at least one. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/buckets.h"
#include "kernels/ops.h"
#include "tests/simt/simt.h"
#include "tests/support/programs/launch.h"
#include "tests/support/programs/rank_device.h"

/* ---- a rank ------------------------------------------------------------------------------------------------------ */

static void *device_block(Comm *comm, size_t bytes) {
    void *block;
    Error err;
    if (comm->device->ops->memory->alloc(comm->device, bytes, &block, &err) != STATUS_OK)
        device_fatal(comm->device, STATUS_SYSTEM, "%s", err.message);
    return block;
}

static void release(Comm *comm, void *block, size_t bytes) {
    comm->device->ops->memory->release(comm->device, block, bytes);
}

static void put(Comm *comm, void *block, const void *host, size_t bytes) {
    comm->device->ops->memory->copy_in(comm->device, block, host, bytes);
    comm->device->ops->stream->sync(comm->device); /* it has read `host` */
}

static void get(Comm *comm, void *host, const void *block, size_t bytes) {
    comm->device->ops->memory->copy_out(comm->device, host, block, bytes);
}

/* Rows of 3 floats: row i of rank r is 100 r + i. */
enum { ROW = 3, ROWS_MAX = 32 };

static int gather(Comm *comm, const int64_t *counts, int in_place) {
    int64_t total = 0, before = 0;
    for (int r = 0; r < comm->size; r++) {
        before += r < comm->rank ? counts[r] : 0;
        total += counts[r];
    }
    const int64_t mine = counts[comm->rank];
    float host[ROWS_MAX * ROW], want[ROWS_MAX * ROW];
    float *at = want;
    for (int r = 0; r < comm->size; r++)
        for (int64_t i = 0; i < counts[r] * ROW; i++)
            *at++ = (float)(100 * r + (int)i / ROW);
    float *recv = device_block(comm, sizeof host), *send = device_block(comm, sizeof host);
    float *from = in_place ? recv + before * ROW : send;
    for (int i = 0; i < ROWS_MAX * ROW; i++)
        host[i] = -1;
    put(comm, recv, host, sizeof host);
    put(comm, from, want + before * ROW, (size_t)mine * ROW * sizeof(float));
    comm->collectives->all_gather(comm, from, counts, ROW * sizeof(float), recv);
    get(comm, host, recv, sizeof host);
    int good = memcmp(host, want, (size_t)total * ROW * sizeof(float)) == 0;
    for (int64_t i = total * ROW; i < ROWS_MAX * ROW; i++)
        good = good && host[i] == -1;
    release(comm, recv, sizeof host);
    release(comm, send, sizeof host);
    return good;
}

static int gather_is_right(Comm *comm, Error *err) {
    (void)err;
    int good = 1;
    for (int in_place = 0; in_place < 2; in_place++) {
        int64_t ragged[8], equal[8], none[8];
        for (int r = 0; r < comm->size; r++) {
            ragged[r] = r == 1 ? 0 : r + 1;
            equal[r] = 5;
            none[r] = 0;
        }
        good = good && gather(comm, ragged, in_place) && gather(comm, equal, in_place) && gather(comm, none, in_place);
    }
    return good;
}

static int sums_are_right(Comm *comm, Error *err) {
    (void)err;
    const int n = comm->size;
    const double triangle = n * (n - 1) / 2.0;
    double f64[3] = {comm->rank, 1, -2.0 * comm->rank};
    float f32[2] = {(float)comm->rank, 0.5F};
    int32_t i32[1] = {1 << (20 + comm->rank)};
    int64_t i64[1] = {(int64_t)1 << (40 + comm->rank)};
    char *block = device_block(comm, 1024);
    const struct {
        void *host;
        size_t bytes;
        int64_t n;
        DType type;
    } parts[] = {{f64, sizeof f64, 3, DTYPE_F64},
                 {f32, sizeof f32, 2, DTYPE_F32},
                 {i32, sizeof i32, 1, DTYPE_I32},
                 {i64, sizeof i64, 1, DTYPE_I64}};
    for (size_t i = 0; i < 4; i++) {
        put(comm, block + 256 * i, parts[i].host, parts[i].bytes);
        comm->collectives->all_reduce(comm, block + 256 * i, parts[i].n, parts[i].type);
        comm->collectives->all_reduce(comm, block + 256 * i, 0, parts[i].type);
    }
    for (size_t i = 0; i < 4; i++)
        get(comm, parts[i].host, block + 256 * i, parts[i].bytes);
    release(comm, block, 1024);
    return f64[0] == triangle && f64[1] == n && f64[2] == -2 * triangle && f32[0] == (float)triangle &&
           f32[1] == 0.5F * (float)n && i32[0] == ((1 << n) - 1) << 20 && i64[0] == (((int64_t)1 << n) - 1) << 40;
}

/* Two in a row, so that the second finds the first one's copies under way. */
static int broadcast_is_right(Comm *comm, Error *err) {
    (void)err;
    enum { N = 50, SENT = 45 };
    int good = 1;
    int32_t *blocks[2] = {device_block(comm, N * sizeof(int32_t)), device_block(comm, N * sizeof(int32_t))};
    for (int root = 0; root < comm->size; root++) {
        int32_t host[N];
        for (int b = 0; b < 2; b++) {
            for (int i = 0; i < N; i++)
                host[i] = 10000 * b + 1000 * comm->rank + i;
            put(comm, blocks[b], host, sizeof host);
        }
        for (int b = 0; b < 2; b++)
            comm->collectives->broadcast(comm, blocks[b], SENT * sizeof *host, root);
        comm->collectives->broadcast(comm, blocks[0], 0, root);
        for (int b = 0; b < 2; b++) {
            get(comm, host, blocks[b], sizeof host);
            for (int i = 0; i < N; i++)
                good = good && host[i] == 10000 * b + 1000 * (i < SENT ? root : comm->rank) + i;
        }
    }
    release(comm, blocks[0], N * sizeof(int32_t));
    release(comm, blocks[1], N * sizeof(int32_t));
    return good;
}

/* Readiness comes in uneven pieces from the end; every element is reduced once, outside elements never. */
static int buckets_are_right(Comm *comm, Error *err) {
    enum { N = 10000, BEGIN = 17, END = 9990 };
    static float host[N];
    float *gradient = device_block(comm, sizeof host);
    Buckets *buckets;
    if (buckets_init(&buckets, comm, gradient, N, 4096, err) != STATUS_OK)
        return 0;
    int good = 1;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            host[i] = (float)(i % 97 + comm->rank);
        put(comm, gradient, host, sizeof host);
        buckets_begin(buckets, BEGIN, END);
        const int64_t ready[] = {9989, 9000, 8999, 4000, 400, 18};
        for (size_t i = 0; i < sizeof ready / sizeof *ready; i++)
            buckets_ready(buckets, ready[i]);
        buckets_finish(buckets);
        get(comm, host, gradient, sizeof host);
        for (int i = 0; i < N; i++) {
            const int inside = i >= BEGIN && i < END, n = comm->size;
            const float want = (float)(inside ? n * (i % 97) + n * (n - 1) / 2 : i % 97 + comm->rank);
            good = good && host[i] == want;
        }
    }
    buckets_free(buckets);
    release(comm, gradient, sizeof host);
    return good;
}

/* ---- a capture of work as a step has it: computing, reductions in flight meanwhile, other collectives between
 * --------- */

enum { PARTS = 4, LENGTH = 1000 };

typedef struct Capture {
    float *x;     /* [PARTS][LENGTH], input */
    float *g;     /* [PARTS][LENGTH]: sums over ranks of 2 x */
    float *other; /* [LENGTH]: x[0] over and over, computed while reductions are in flight */
    float *total; /* [LENGTH]: sum of g over parts, then of `norm` */
    double *norm; /* [1]: sum of x[1] over ranks */
    float *rows;  /* [ranks * LENGTH], ragged: the first LENGTH - rank of each rank's x[2] */
    int64_t ragged[8];
} Capture;

static void capture_new(Comm *comm, Capture *s) {
    *s = (Capture){.x = device_block(comm, sizeof(float) * PARTS * LENGTH),
                   .g = device_block(comm, sizeof(float) * PARTS * LENGTH),
                   .other = device_block(comm, sizeof(float) * LENGTH),
                   .total = device_block(comm, sizeof(float) * LENGTH),
                   .norm = device_block(comm, sizeof(double)),
                   .rows = device_block(comm, sizeof(float) * LENGTH * (size_t)comm->size)};
    for (int r = 0; r < comm->size; r++)
        s->ragged[r] = LENGTH - r;
}

static void capture_free(Comm *comm, Capture *s) {
    release(comm, s->x, sizeof(float) * PARTS * LENGTH);
    release(comm, s->g, sizeof(float) * PARTS * LENGTH);
    release(comm, s->other, sizeof(float) * LENGTH);
    release(comm, s->total, sizeof(float) * LENGTH);
    release(comm, s->norm, sizeof(double));
    release(comm, s->rows, sizeof(float) * LENGTH * (size_t)comm->size);
}

static void capture_issue(Comm *comm, const Capture *s) {
    const Ops *ops = comm->device->ops;
    const Collectives *c = comm->collectives;
    CommRequest requests[PARTS];
    ops->memory->zero(comm->device, s->total, sizeof(float) * LENGTH);
    ops->memory->zero(comm->device, s->other, sizeof(float) * LENGTH);
    for (int p = 0; p < PARTS; p++) {
        float *x = s->x + p * LENGTH, *g = s->g + p * LENGTH;
        ops->memory->copy(comm->device, g, x, sizeof(float) * LENGTH);
        ops->convert->add(comm->device, LENGTH, x, g);
        c->reduce_start(comm, g, LENGTH, &requests[p]);
        for (int i = 0; i < 3; i++)
            ops->convert->add(comm->device, LENGTH, s->x, s->other);
        if (p == 1) {
            ops->convert->sum(comm->device, LENGTH, x, 1.0, s->norm);
            c->all_reduce(comm, s->norm, 1, DTYPE_F64);
        }
        if (p == 2)
            c->all_gather(comm, x, s->ragged, sizeof(float), s->rows);
        for (int i = 0; i <= p; i++)
            c->reduce_poll(comm, &requests[i]);
    }
    for (int p = PARTS - 1; p >= 0; p--) {
        c->reduce_wait(comm, &requests[p]);
        c->reduce_wait(comm, &requests[p]); /* waits once */
        ops->convert->add(comm->device, LENGTH, s->g + p * LENGTH, s->total);
    }
}

/* x[p][i] of a rank in a round. */
static float input_of(int round, int rank, int p, int i) {
    return (float)(i % 13 + 7 * p + rank + round);
}

static int capture_is_right(Comm *comm, const Capture *s, int round) {
    static float total[LENGTH], other[LENGTH], rows[8 * LENGTH];
    double norm, want_norm = 0;
    int good = 1;
    get(comm, total, s->total, sizeof total);
    get(comm, other, s->other, sizeof other);
    get(comm, &norm, s->norm, sizeof norm);
    get(comm, rows, s->rows, sizeof(float) * LENGTH * (size_t)comm->size);
    for (int i = 0; i < LENGTH; i++) {
        float sum = 0;
        for (int r = 0; r < comm->size; r++) {
            want_norm += (double)input_of(round, r, 1, i);
            for (int p = 0; p < PARTS; p++)
                sum += 2 * input_of(round, r, p, i);
        }
        good = good && total[i] == sum && other[i] == 3 * PARTS * input_of(round, comm->rank, 0, i);
    }
    const float *at = rows;
    for (int r = 0; r < comm->size; r++)
        for (int i = 0; i < s->ragged[r]; i++)
            good = good && *at++ == input_of(round, r, 2, i);
    return good && norm == want_norm;
}

static unsigned long long graphs_launched(const Device *device) {
    SimtCounters (*counters)(void) = NULL;
    if (device->library)
        *(void **)&counters = dlsym(device->library, "simt_counters");
    return counters ? counters().graph_launches : 0;
}

/* Several rounds with new inputs: plainly, and as a capture that is recorded and replayed. */
static int captures_are_right(Comm *comm, Error *err) {
    (void)err;
    enum { ROUNDS = 5 };
    static float x[PARTS * LENGTH];
    static uint64_t key = 0; /* of a capture on the memory allocated below */
    key++;
    const Ops *ops = comm->device->ops;
    int good = 1;
    Capture s;
    capture_new(comm, &s);
    const unsigned long long before = graphs_launched(comm->device);
    for (int recorded = 0; recorded <= comm->collectives->recordable; recorded++)
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < PARTS * LENGTH; i++)
                x[i] = input_of(round, comm->rank, i / LENGTH, i % LENGTH);
            put(comm, s.x, x, sizeof x);
            if (!recorded || ops->graph->begin(comm->device, key)) {
                capture_issue(comm, &s);
                if (recorded)
                    ops->graph->end(comm->device);
            }
            comm->collectives->settle(comm);
            good = good && capture_is_right(comm, &s, round);
        }
    capture_free(comm, &s);
    const unsigned long long launched = graphs_launched(comm->device) - before;
    return good && (launched == 0 || launched == ROUNDS - 1);
}

/* Ranks wait for their devices at different times, and for each other in between. */
static int waits_may_differ(Comm *comm, Error *err) {
    (void)err;
    double one = 1;
    double *block = device_block(comm, sizeof one);
    for (int round = 0; round < 3; round++) {
        put(comm, block, &one, sizeof one);
        comm->collectives->all_reduce(comm, block, 1, DTYPE_F64);
        if (comm->rank == round % comm->size)
            comm->device->ops->stream->sync(comm->device);
        comm_barrier(comm);
    }
    get(comm, &one, block, sizeof one);
    release(comm, block, sizeof one);
    return one == comm->size;
}

static int agreement_is_right(Comm *comm, Error *unused) {
    (void)unused;
    Error err = {.code = STATUS_OK};
    const int last = comm->size - 1;
    Status mine = comm->rank == last ? error_set(&err, STATUS_DATA, "row 7 is bad") : STATUS_OK;
    return comm_agree(comm, mine, &err) == STATUS_DATA && strstr(err.message, "row 7 is bad") != NULL &&
           comm_agree(comm, STATUS_OK, &err) == STATUS_OK;
}

static int run_checks(Comm *comm) {
    static const struct {
        const char *name;
        int (*is_right)(Comm *, Error *);
    } checks[] = {{"gather", gather_is_right},      {"sums", sums_are_right},        {"broadcast", broadcast_is_right},
                  {"buckets", buckets_are_right},   {"capture", captures_are_right}, {"waits", waits_may_differ},
                  {"agreement", agreement_is_right}};
    Error err = {.code = STATUS_OK};
    int wrong = 0;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].is_right(comm, &err)) {
            fprintf(stderr, "rank %d, %s: %s is wrong\n", comm->rank, comm->collectives->name, checks[i].name);
            wrong = 1;
        }
    return wrong;
}

/* The stand-in counts; a real NCCL is not asked. */
static int reached_nccl(const Device *device) {
    unsigned long long (*calls)(void) = NULL;
    if (device->library)
        *(void **)&calls = dlsym(device->library, "simt_nccl_calls");
    return calls && calls() > 0;
}

static int be_a_rank(const char *transport) {
    Comm comm;
    Device device;
    Error err = {.code = STATUS_OK};
    if (rank_open(&comm, &device, transport, 60, &err) != STATUS_OK) {
        fprintf(stderr, "rank %d: %s\n", comm.rank, err.message);
        return 9;
    }
    void (*set_order)(SimtOrder, unsigned) = NULL;
    if (device.library)
        *(void **)&set_order = dlsym(device.library, "simt_set_order");
    int wrong = 0;
    for (int order = SIMT_FORWARD; order <= (set_order ? SIMT_SHUFFLED : SIMT_FORWARD); order++) {
        if (set_order)
            set_order((SimtOrder)order, 7);
        wrong |= run_checks(&comm);
    }
    comm_detach(&comm);
    if (comm.size == 1 && reached_nccl(&device)) {
        fprintf(stderr, "a single rank goes through NCCL\n");
        wrong = 1;
    }
    if (device.bytes_now != 0) {
        fprintf(stderr, "rank %d: %zu bytes of device memory are left\n", comm.rank, device.bytes_now);
        wrong = 1;
    }
    device_close(&device);
    comm_finalize(&comm);
    return wrong;
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

typedef struct Case {
    const char *transport;
    int ranks;
} Case;

/* NULL: can run here. */
static const char *missing(const Case *c) {
    static char why[200];
    if (!rank_on_cuda() || strcmp(c->transport, "nccl") != 0 || rank_on_standin())
        return NULL;
    const int devices = device_count_cuda(why, sizeof why);
    if (devices >= c->ranks)
        return NULL;
    snprintf(why, sizeof why, "NCCL among %d ranks wants as many devices; here are %d", c->ranks, devices);
    return why;
}

static void ranks_agree(void **state) {
    const Case *c = *state;
    launch_skip_for(missing(c));
    setenv("EXCON_SIMT_DEVICES", strcmp(c->transport, "nccl") == 0 ? "4" : "1", 1);
    assert_int_equal(launch_ranks(c->ranks, NULL, NULL, "%s", c->transport), 0);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "rank") == 0)
        return be_a_rank(argv[2]);
    static Case cases[] = {{"auto", 1}, {"auto", 2}, {"auto", 3}, {"auto", 4}, {"nccl", 1},
                           {"nccl", 2}, {"nccl", 3}, {"mpi", 1},  {"mpi", 2},  {"mpi", 3}};
    const struct CMUnitTest on_host[] = {
        {"collectives on 1 rank", ranks_agree, NULL, NULL, &cases[0]},
        {"collectives on 2 ranks", ranks_agree, NULL, NULL, &cases[1]},
        {"collectives on 3 ranks", ranks_agree, NULL, NULL, &cases[2]},
        {"collectives on 4 ranks", ranks_agree, NULL, NULL, &cases[3]},
    };
    const struct CMUnitTest on_devices[] = {
        {"NCCL on 1 rank", ranks_agree, NULL, NULL, &cases[4]},
        {"NCCL on 2 ranks", ranks_agree, NULL, NULL, &cases[5]},
        {"NCCL on 3 ranks", ranks_agree, NULL, NULL, &cases[6]},
        {"MPI on 1 rank", ranks_agree, NULL, NULL, &cases[7]},
        {"MPI on 2 ranks that share a device", ranks_agree, NULL, NULL, &cases[8]},
        {"MPI on 3 ranks that share a device", ranks_agree, NULL, NULL, &cases[9]},
    };
    return rank_on_cuda() ? cmocka_run_group_tests(on_devices, NULL, NULL)
                          : cmocka_run_group_tests(on_host, NULL, NULL);
}
