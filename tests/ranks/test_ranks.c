/* Rank invariance: the same global batch on 2, 3 and 4 ranks gives the loss, decisions, gradients, parameters and
 * running statistics of 1 rank, for batches the rank count does not divide, and for ranks without any sample.
 *
 * The batches and nets are those of the step files of tests/golden; only one rank's output is compared with, not the
 * expected values there. Left out are runs that mean a certain number of ranks (local batch norm), and those in bf16,
 * where a last bit of f32 moves roundings: test_golden runs them on two ranks within the tolerances of their files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"
#include "tests/support/programs/probe.h"

/* Ranks change the order of f32 additions only; batch statistics are summed in double. A gradient is a sum of some
 * thousand terms that partly cancel, behind up to four passes of batch norm. */
static const ProbeTolerance tolerance = {.loss = 1e-5, .other = 1e-4};
enum { MAX_RANKS = 4 };

/* EXCON_TEST_RANKS makes it fewer: for backends on which a rank takes seconds, whose own tests try the rest. */
static int most_ranks(void) {
    const char *most = getenv("EXCON_TEST_RANKS");
    const int given = most ? atoi(most) : MAX_RANKS;
    return given >= 2 && given < MAX_RANKS ? given : MAX_RANKS;
}

typedef struct RankTest {
    const ProbeCase *probe;
    const char *folder;
    char name[2 * PROBE_PATH];
} RankTest;

static void ranks_agree(void **state) {
    const RankTest *test = *state;
    launch_skip_for(probe_missing());
    char alone[PROBE_PATH + 32], together[PROBE_PATH + 32], what[2 * PROBE_PATH + 32];
    snprintf(alone, sizeof alone, "%s/alone.h5", test->folder);
    snprintf(together, sizeof together, "%s/together.h5", test->folder);
    remove(alone);
    assert_int_equal(probe_run(test->probe, 1, alone), 0);
    int faults = 0;
    for (int ranks = 2; ranks <= most_ranks(); ranks++) {
        remove(together);
        assert_int_equal(probe_run(test->probe, ranks, together), 0);
        snprintf(what, sizeof what, "%s, %d ranks against 1", test->name, ranks);
        faults += probe_compare(what, alone, "/", together, &tolerance);
    }
    assert_int_equal(faults, 0);
}

int main(void) {
    size_t cases, count = 0;
    ProbeCase *probes = probe_cases("step-", &cases);
    char folder[FOLDER_BYTES];
    RankTest *tests = calloc(cases, sizeof *tests);
    struct CMUnitTest *units = calloc(cases, sizeof *units);
    if (!probes || !tests || !units) {
        fprintf(stderr, "test_ranks: no memory\n");
        return EXIT_FAILURE;
    }
    folder_make(folder);
    for (size_t i = 0; i < cases; i++) {
        if (probes[i].ranks || strstr(probes[i].sets, "precision=bf16"))
            continue;
        RankTest *test = &tests[count];
        *test = (RankTest){.probe = &probes[i], .folder = folder};
        snprintf(test->name, sizeof test->name, "%s, %s", probes[i].file, probes[i].run);
        units[count++] = (struct CMUnitTest){.name = test->name, .test_func = ranks_agree, .initial_state = test};
    }
    int failed = _cmocka_run_group_tests("ranks", units, count, NULL, NULL);
    failed += folder_remove(folder) != 0;
    free(units);
    free(tests);
    free(probes);
    return failed;
}
