/* Collectives and gradient buckets on closed-form integers, 1 to 4 ranks, ragged sizes. The program starts itself again
 * under mpirun as the ranks. */
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

/* ---- a rank ---- */

/* Rank r brings r + 1 rows (rank 1 none) of 3 floats: row i of rank r is 100 r + i. */
static int64_t rows_of(int rank) {
    return rank == 1 ? 0 : rank + 1;
}

static int gather_is_right(Comm *comm) {
    int64_t counts[8], total = 0, own = 0;
    for (int r = 0; r < comm->size; r++) {
        counts[r] = rows_of(r);
        own = r == comm->rank ? total : own;
        total += counts[r];
    }
    for (int in_place = 0; in_place < 2; in_place++) {
        float send[8 * 3], recv[32 * 3];
        memset(recv, 0xff, sizeof recv);
        float *from = in_place ? recv + own * 3 : send;
        for (int64_t i = 0; i < counts[comm->rank] * 3; i++)
            from[i] = (float)(100 * comm->rank + (int)i / 3);
        comm->collectives->all_gather(comm, from, counts, 3 * sizeof(float), recv);
        const float *at = recv;
        for (int r = 0; r < comm->size; r++)
            for (int64_t i = 0; i < counts[r] * 3; i++)
                if (*at++ != (float)(100 * r + (int)i / 3))
                    return 0;
    }
    return 1;
}

static int sums_are_right(Comm *comm) {
    const int n = comm->size;
    double f64[3] = {comm->rank, 1, -2.0 * comm->rank};
    comm->collectives->all_reduce(comm, f64, 3, DTYPE_F64);
    int64_t i64 = (int64_t)1 << (40 + comm->rank);
    comm->collectives->all_reduce(comm, &i64, 1, DTYPE_I64);
    const double triangle = n * (n - 1) / 2.0;
    return f64[0] == triangle && f64[1] == n && f64[2] == -2 * triangle && i64 == (((int64_t)1 << n) - 1) << 40;
}

/* Readiness comes in uneven pieces from the end; every element is reduced once, outside elements never. */
static int buckets_are_right(Comm *comm, Error *err) {
    enum { N = 10000, BEGIN = 17, END = 9990 };
    static float gradient[N];
    Buckets *buckets;
    if (buckets_init(&buckets, comm, gradient, N, 4096, err) != STATUS_OK)
        return 0;
    int good = 1;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            gradient[i] = (float)(i % 97 + comm->rank);
        buckets_begin(buckets, BEGIN, END);
        const int64_t ready[] = {9989, 9000, 8999, 4000, 400, 18};
        for (size_t i = 0; i < sizeof ready / sizeof *ready; i++)
            buckets_ready(buckets, ready[i]);
        buckets_finish(buckets);
        for (int i = 0; i < N; i++) {
            const int inside = i >= BEGIN && i < END, n = comm->size;
            const float want = (float)(inside ? n * (i % 97) + n * (n - 1) / 2 : i % 97 + comm->rank);
            good = good && gradient[i] == want;
        }
    }
    buckets_free(buckets);
    return good;
}

static int agreement_is_right(Comm *comm) {
    Error err = {.code = STATUS_OK};
    const int last = comm->size - 1;
    Status mine = comm->rank == last ? error_set(&err, STATUS_DATA, "row 7 is bad") : STATUS_OK;
    return comm_agree(comm, mine, &err) == STATUS_DATA && strstr(err.message, "row 7 is bad") != NULL &&
           comm_agree(comm, STATUS_OK, &err) == STATUS_OK;
}

static int be_a_rank(void) {
    Comm comm;
    Device device;
    Error err = {.code = STATUS_OK};
    if (comm_init(&comm, &err) != STATUS_OK || device_open_cpu(&device, 1, &err) != STATUS_OK ||
        comm_attach(&comm, &device, &err) != STATUS_OK)
        return 9;
    int result = !gather_is_right(&comm)           ? 1
                 : !sums_are_right(&comm)          ? 2
                 : !buckets_are_right(&comm, &err) ? 3
                 : !agreement_is_right(&comm)      ? 4
                                                   : 0;
    device_close(&device);
    comm_finalize(&comm);
    return result;
}

/* ---- the tests ---- */

static const char *program;

static void ranks_agree(void **state) {
    char command[1200];
    const char *mpirun = getenv("MPIRUN");
    snprintf(command, sizeof command, "%s -n %d --oversubscribe --allow-run-as-root '%s' rank",
             mpirun ? mpirun : "mpirun", *(const int *)*state, program);
    int status = system(command);
    if (status != 0)
        fail_msg("'%s' ended with %d: 1 gather, 2 sums, 3 buckets, 4 agreement", command, status);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "rank") == 0)
        return be_a_rank();
    program = argv[0];
    static int ranks[] = {1, 2, 3, 4};
    const struct CMUnitTest tests[] = {
        {"collectives on 1 rank", ranks_agree, NULL, NULL, &ranks[0]},
        {"collectives on 2 ranks", ranks_agree, NULL, NULL, &ranks[1]},
        {"collectives on 3 ranks", ranks_agree, NULL, NULL, &ranks[2]},
        {"collectives on 4 ranks", ranks_agree, NULL, NULL, &ranks[3]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
