/* The convolutions of every network that can be configured, with each instruction set that oneDNN makes code for
 * (tests/support/numbers/conv_sweep.h says how they are judged).
 *
 * Run by `make test`, a fixed selection: the narrow strided 1x1 convolutions, and some of all drawn at random. With the
 * argument "soak" and a number of seconds (make soak): all of them in random order, with rows, threads and what follows
 * drawn anew for each, until the time is over; 0 seconds: to the end. oneDNN reads the instruction set's name once, so
 * each set has a process of its own, and one that crashes or hangs is a failure of its set alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/clock.h"
#include "kernels/base/philox.h"
#include "kernels/cpu/products/onednn.h"
#include "tests/support/numbers/conv_sweep.h"

enum { MOST_ROWS = 33, SKIPPED = 77, SECONDS_FOR_A_SET = 300 };

/* The order is that of the sets: each contains those before it. `name` is oneDNN's, `shown` the device's. */
static const struct {
    const char *name, *shown;
} sets[] = {
    {"SSE41", "sse41"},         {"AVX2", "avx2"}, {"AVX512_CORE", "avx512"}, {"AVX512_CORE_BF16", "avx512_bf16"},
    {"AVX512_CORE_AMX", "amx"},
};
enum { SETS = sizeof sets / sizeof *sets };

typedef struct Tally {
    int agree, differ, refused;
} Tally;

static void run_case(Sweep *sweep, const SweepCase *c, Tally *tally) {
    switch (sweep_run(sweep, c)) {
    case SWEEP_AGREES:
        tally->agree++;
        break;
    case SWEEP_DIFFERS:
        tally->differ++;
        break;
    case SWEEP_REFUSED:
        tally->refused++;
        char name[160];
        sweep_name(c, name, sizeof name);
        printf("refused: %s\n", name);
        break;
    }
}

/* Rows, threads, type and what follows, all from `draw`. */
static SweepCase drawn_case(const ConvGeometry *g, Philox4 draw) {
    SweepCase c = {.geometry = *g, .type = draw.v[0] & 1 ? DTYPE_BF16 : DTYPE_F32};
    c.N = 1 + draw.v[1] % MOST_ROWS;
    c.threads = 1 + (int)(draw.v[2] % SWEEP_THREADS);
    c.bias = draw.v[3] & 1;
    c.add = draw.v[3] >> 1 & 1;
    return c;
}

/* The strided 1x1 convolutions of networks of some widths that have at most C channels. */
static void shortcuts(Sweep *sweep, int first_width, int last_width, int C, int64_t N, Tally *tally) {
    const int side = 64;
    int count;
    ConvGeometry *all = sweep_geometries(first_width, last_width, &side, 1, &count);
    for (int i = 0; i < count; i++)
        for (int t = 0; t < 2 && all[i].R == 1 && all[i].stride > 1 && all[i].C <= C; t++) {
            SweepCase c = {.geometry = all[i], .type = t ? DTYPE_BF16 : DTYPE_F32, .N = N, .threads = 2};
            run_case(sweep, &c, tally);
        }
    free(all);
}

/* So many rows of large images that one call does not take them where bf16 is computed on widened copies. */
static void large_images(Sweep *sweep, Tally *tally) {
    SweepCase c = {.geometry = {.H = 128, .W = 128, .C = 4, .K = 4, .R = 3, .stride = 1, .pad = 1},
                   .type = DTYPE_BF16,
                   .N = 41,
                   .threads = 2,
                   .bias = 1,
                   .add = 1};
    run_case(sweep, &c, tally);
}

static void some_of_all(Sweep *sweep, Tally *tally) {
    enum { CASES = 32 };
    static const int sides[] = {8, 9, 16, 31, 32, 64};
    int count, tried = 0;
    ConvGeometry *all = sweep_geometries(4, 64, sides, 6, &count);
    for (uint64_t i = 0; tried < CASES; i++) {
        SweepCase c = drawn_case(&all[philox4x32(1, i, 0).v[0] % (uint32_t)count], philox4x32(1, i, 1));
        if (sweep_work(&c) > 2e7)
            continue;
        run_case(sweep, &c, tally);
        tried++;
    }
    free(all);
}

/* In the process of a set; returns its exit status. */
static int selection(int set) {
    Tally tally = {0};
    Sweep sweep;
    sweep_open(&sweep, (size_t)160 << 20);
    int code = SKIPPED;
    if (strcmp(onednn_isa_name(), sets[set].shown) == 0) {
        shortcuts(&sweep, 4, 15, 15, 20, &tally);  /* oneDNN 2.6's own ones write past their temporaries */
        shortcuts(&sweep, 64, 64, 64, 33, &tally); /* enough pixels for several calls */
        large_images(&sweep, &tally);
        some_of_all(&sweep, &tally);
        printf("%s: %d agree, %d differ, %d refused\n", sets[set].name, tally.agree, tally.differ, tally.refused);
        code = tally.differ || tally.refused || !tally.agree;
    }
    sweep_close(&sweep);
    return code;
}

/* Exit status of work(set) in a process of its own under the instruction set; -1 when a signal ended it. */
static int in_a_process(int set, int (*work)(int set), int seconds) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("DNNL_MAX_CPU_ISA", sets[set].name, 1);
        alarm((unsigned)seconds);
        int code = work(set);
        fflush(NULL);
        _exit(code);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    if (WIFSIGNALED(status))
        printf("%s: ended by signal %d\n", sets[set].name, WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_set(int set) {
    const int code = in_a_process(set, selection, SECONDS_FOR_A_SET);
    if (code == SKIPPED) {
        print_message("this processor, or this oneDNN, has no %s\n", sets[set].name);
        skip();
    }
    assert_int_equal(code, 0);
}

static void test_sse41(void **state) {
    (void)state;
    check_set(0);
}

static void test_avx2(void **state) {
    (void)state;
    check_set(1);
}

static void test_avx512(void **state) {
    (void)state;
    check_set(2);
}

static void test_avx512_bf16(void **state) {
    (void)state;
    check_set(3);
}

static void test_amx(void **state) {
    (void)state;
    check_set(4);
}

/* ---- all of them ---- */

static int soak_seconds;

static int all_of_them(int set) {
    static const int sides[] = {8, 9, 12, 16, 28, 31, 32, 48, 64};
    Sweep sweep;
    sweep_open(&sweep, (size_t)2 << 30);
    if (strcmp(onednn_isa_name(), sets[set].shown) != 0) {
        sweep_close(&sweep);
        return SKIPPED;
    }
    Tally tally = {0};
    int count, tried = 0;
    ConvGeometry *all = sweep_geometries(4, 64, sides, sizeof sides / sizeof *sides, &count);
    const uint64_t seed = (uint64_t)time(NULL);
    const double end = soak_seconds ? clock_seconds() + soak_seconds : HUGE_VAL;
    for (int i = count - 1; i > 0; i--) { /* in random order */
        const uint32_t other = philox4x32(seed, (uint64_t)i, 2).v[0] % (uint32_t)(i + 1);
        const ConvGeometry kept = all[i];
        all[i] = all[other];
        all[other] = kept;
    }
    for (; tried < 2 * count && clock_seconds() < end; tried++) {
        SweepCase c = drawn_case(&all[tried / 2], philox4x32(seed, (uint64_t)tried, 3));
        c.type = tried % 2 ? DTYPE_BF16 : DTYPE_F32;
        run_case(&sweep, &c, &tally);
    }
    free(all);
    sweep_close(&sweep);
    printf("%s: %d of %d convolutions tried (seed %llu): %d agree, %d differ, %d refused\n", sets[set].name, tried,
           2 * count, (unsigned long long)seed, tally.agree, tally.differ, tally.refused);
    return tally.differ || tally.refused || !tally.agree;
}

static int soak(int seconds) {
    int failed = 0;
    soak_seconds = seconds / SETS;
    for (int set = 0; set < SETS; set++) {
        const int code = in_a_process(set, all_of_them, soak_seconds ? soak_seconds + SECONDS_FOR_A_SET : 0);
        if (code == SKIPPED)
            printf("%s: this processor, or this oneDNN, has none\n", sets[set].name);
        failed |= code != 0 && code != SKIPPED;
    }
    return failed;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "soak") == 0)
        return soak(atoi(argv[2]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sse41), cmocka_unit_test(test_avx2),
                                       cmocka_unit_test(test_avx512), cmocka_unit_test(test_avx512_bf16),
                                       cmocka_unit_test(test_amx)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
