/* Golden numbers: `excon probe` against a float64 PyTorch implementation of the method on tiny nets, on one and two
 * ranks, or as many as a file asks for.
 *
 * One test per run and rank count (those that the run's expectation holds for) of the files tests/golden/NAME.h5:
 * logits, embeddings, saliency maps, masks, accept decisions, loss, every gradient, parameter and running statistic by
 * name, and ten losses in a row. Remake the files with scripts/golden/make_golden.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"
#include "tests/support/programs/probe.h"

/* f32 in the same PyTorch code is within 3e-5 of float64 on every tensor of these files (the generator checks it).
 * Files in bf16 bring the tolerance of each tensor, measured with a rounding PyTorch (make_golden.py). */
static const ProbeTolerance tolerance = {.loss = 1e-4, .other = 1e-4};
static const int rank_counts[] = {1, 2, 3}; /* the last for files that ask for it alone */
enum { RANK_COUNTS = sizeof rank_counts / sizeof *rank_counts };

typedef struct GoldenTest {
    const ProbeCase *probe;
    int ranks;
    const char *folder;
    char name[2 * PROBE_PATH];
} GoldenTest;

static void outputs_agree(void **state) {
    const GoldenTest *test = *state;
    launch_skip_for(probe_missing());
    char out[PROBE_PATH + 32], group[128];
    snprintf(out, sizeof out, "%s/out.h5", test->folder);
    snprintf(group, sizeof group, "/expect/%s", test->probe->run);
    remove(out);
    assert_int_equal(probe_run(test->probe, test->ranks, out), 0);
    assert_int_equal(probe_compare(test->name, test->probe->file, group, out, &tolerance), 0);
}

int main(void) {
    size_t cases;
    ProbeCase *probes = probe_cases("", &cases);
    char folder[FOLDER_BYTES];
    GoldenTest *tests = calloc(cases * RANK_COUNTS, sizeof *tests);
    struct CMUnitTest *units = calloc(cases * RANK_COUNTS, sizeof *units);
    if (!probes || !tests || !units) {
        fprintf(stderr, "test_golden: no memory\n");
        return EXIT_FAILURE;
    }
    folder_make(folder);
    size_t count = 0;
    for (size_t i = 0; i < cases * RANK_COUNTS; i++) {
        const ProbeCase *probe = &probes[i / RANK_COUNTS];
        const int ranks = rank_counts[i % RANK_COUNTS];
        if (probe->ranks ? probe->ranks != ranks : ranks > 2)
            continue;
        GoldenTest *test = &tests[count];
        *test = (GoldenTest){.probe = probe, .ranks = ranks, .folder = folder};
        snprintf(test->name, sizeof test->name, "%s, %s, %d rank(s)", probe->file, probe->run, ranks);
        units[count++] = (struct CMUnitTest){.name = test->name, .test_func = outputs_agree, .initial_state = test};
    }
    int failed = _cmocka_run_group_tests("golden", units, count, NULL, NULL);
    failed += folder_remove(folder) != 0;
    free(units);
    free(tests);
    free(probes);
    return failed;
}
