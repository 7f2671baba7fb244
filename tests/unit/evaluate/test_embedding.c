/* Measures of an embedding against scikit-learn and PyTorch (tests/golden/embedding.h5, by
 * scripts/golden/evaluation_golden.py), and their edges. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/numbers/golden_values.h"
#include "trainer/evaluate/embedding/embedding.h"
#include "trainer/evaluate/embedding/linear_probe.h"

typedef struct Golden {
    ArrayFile *file;
    Array train, train_labels, test, test_labels, unit, moved;
    EmbeddingSet training, testing, units;
} Golden;

static int setup(void **state) {
    Golden *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->file = golden_open("embedding.h5");
    g->train = golden_array(g->file, "train", ARRAY_F32);
    g->test = golden_array(g->file, "test", ARRAY_F32);
    g->unit = golden_array(g->file, "unit", ARRAY_F32);
    g->moved = golden_array(g->file, "moved", ARRAY_F32);
    g->train_labels = golden_array(g->file, "train_labels", ARRAY_I32);
    g->test_labels = golden_array(g->file, "test_labels", ARRAY_I32);
    const int D = (int)g->train.shape[1];
    g->training = (EmbeddingSet){g->train.shape[0], D, g->train.f32, g->train_labels.i32};
    g->testing = (EmbeddingSet){g->test.shape[0], D, g->test.f32, g->test_labels.i32};
    g->units = (EmbeddingSet){g->unit.shape[0], D, g->unit.f32, g->train_labels.i32};
    *state = g;
    return 0;
}

static int teardown(void **state) {
    Golden *g = *state;
    Array *const arrays[] = {&g->train, &g->train_labels, &g->test, &g->test_labels, &g->unit, &g->moved};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        array_free(arrays[i]);
    array_file_close(g->file);
    free(g);
    return 0;
}

static void test_alignment(void **state) {
    const Golden *g = *state;
    const EmbeddingSet *u = &g->units;
    double value;
    golden_equals_one(g->file, "expect/alignment", embedding_alignment(u->n, u->dim, u->z, g->moved.f32, 2));
    golden_equals_one(g->file, "expect/alignment_1", embedding_alignment(u->n, u->dim, u->z, g->moved.f32, 1));
    assert_int_equal(embedding_class_alignment(u, 2, &value, NULL), STATUS_OK);
    golden_equals_one(g->file, "expect/class_alignment", value);
    assert_int_equal(embedding_uniformity(u, 2, &value, NULL), STATUS_OK);
    golden_equals_one(g->file, "expect/uniformity", value);
}

static void test_alignment_edges(void **state) {
    (void)state;
    const float poles[] = {1, 0, -1, 0, 1, 0}, bad[] = {1, 0, NAN, 0};
    const int32_t all_differ[] = {0, 1, 2}, two_equal[] = {0, 0, 2};
    EmbeddingSet set = {3, 2, poles, all_differ};
    double value;
    assert_true(isnan(embedding_alignment(0, 2, poles, poles, 2)));
    assert_true(embedding_alignment(3, 2, poles, poles, 2) == 0);
    assert_int_equal(embedding_class_alignment(&set, 2, &value, NULL), STATUS_OK);
    assert_true(isnan(value));
    set.labels = two_equal;
    assert_int_equal(embedding_class_alignment(&set, 2, &value, NULL), STATUS_OK);
    assert_true(value == 4);
    assert_int_equal(embedding_uniformity(&set, 2, &value, NULL), STATUS_OK);
    assert_true(fabs(value - log((2 * exp(-8) + 1) / 3)) < 1e-12);
    set.n = 1;
    assert_int_equal(embedding_uniformity(&set, 2, &value, NULL), STATUS_OK);
    assert_true(isnan(value));
    set = (EmbeddingSet){2, 2, bad, two_equal};
    assert_int_equal(embedding_uniformity(&set, 2, &value, NULL), STATUS_OK);
    assert_true(isnan(value));
}

static void test_knn(void **state) {
    const Golden *g = *state;
    const KnnOptions options = {20, 0.07};
    const size_t bytes = sizeof(int32_t) * (size_t)g->testing.n;
    int32_t *weighted = malloc(bytes), *majority = malloc(bytes);
    Array want_weighted = golden_array(g->file, "expect/weighted", ARRAY_I32);
    Array want_majority = golden_array(g->file, "expect/majority", ARRAY_I32);
    KnnAccuracy accuracy;
    knn_predict(&g->training, &g->testing, &options, weighted, majority);
    assert_memory_equal(weighted, want_weighted.i32, bytes);
    assert_memory_equal(majority, want_majority.i32, bytes);
    assert_int_equal(knn_accuracy(&g->training, &g->testing, &options, &accuracy, NULL), STATUS_OK);
    golden_equals_one(g->file, "expect/weighted_accuracy", accuracy.weighted);
    golden_equals_one(g->file, "expect/majority_accuracy", accuracy.majority);
    array_free(&want_weighted);
    array_free(&want_majority);
    free(weighted);
    free(majority);
}

/* Classes 7 (twice as near) and 4, 4 (further): what each vote says; then rows that cannot take part. */
static void test_knn_edges(void **state) {
    (void)state;
    const float rows[] = {1, 0.1f, 1, 0.5f, 1, 0.5f, NAN, 0, 0, 0}, asked[] = {3, 0, 0, 0, NAN, 1};
    const int32_t labels[] = {7, 4, 4, 9, 9};
    EmbeddingSet train = {5, 2, rows, labels}, test = {3, 2, asked, labels};
    const KnnOptions options = {3, 0.01}, more = {KNN_MOST, 0.07};
    int32_t weighted[3], majority[3];
    KnnAccuracy accuracy;
    knn_predict(&train, &test, &options, weighted, majority);
    assert_int_equal(weighted[0], 7);
    assert_int_equal(majority[0], 4);
    /* Without a direction all similarities are 0, and the first three count. */
    assert_int_equal(weighted[1], 4);
    assert_int_equal(majority[1], 4);
    assert_int_equal(weighted[2], -1);
    assert_int_equal(majority[2], -1);
    train.n = 1;
    knn_predict(&train, &test, &more, weighted, majority);
    assert_int_equal(weighted[0], 7);
    train.n = test.n = 0;
    assert_int_equal(knn_accuracy(&train, &test, &options, &accuracy, NULL), STATUS_OK);
    assert_true(isnan(accuracy.weighted) && isnan(accuracy.majority));
}

static const LinearProbeOptions fit = {.l2 = 1e-3, .fit = {.most_iterations = 2000, .tolerance = 1e-10}};

static void test_linear_probe(void **state) {
    const Golden *g = *state;
    enum { C = 5 };
    const int64_t D = g->training.dim, n = g->testing.n;
    LinearProbe probe;
    Error err;
    if (linear_probe_fit(&probe, &g->training, C, &fit, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    if (!probe.report.converged)
        fail_msg("%d iterations, gradient %g", probe.report.iterations, probe.report.gradient);
    golden_equals_one(g->file, "expect/objective", probe.report.value);
    golden_equals(g->file, "expect/weights", C * D, probe.weights);
    golden_equals(g->file, "expect/biases", C, probe.weights + C * D); /* from zeros they keep adding up to 0 */
    float *logits = malloc(sizeof *logits * (size_t)(n * C));
    double *probabilities = malloc(sizeof *probabilities * (size_t)(n * C));
    linear_probe_logits(&probe, &g->testing, logits);
    int64_t hits = 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        int best = 0;
        for (int c = 0; c < C; c++) {
            sum += exp((double)logits[i * C + c]);
            best = logits[i * C + c] > logits[i * C + best] ? c : best;
        }
        for (int c = 0; c < C; c++)
            probabilities[i * C + c] = exp((double)logits[i * C + c]) / sum;
        hits += best == g->testing.labels[i];
    }
    golden_equals(g->file, "expect/probabilities", n * C, probabilities);
    golden_equals_one(g->file, "expect/probe_accuracy", (double)hits / (double)n);
    free(logits);
    free(probabilities);
    linear_probe_free(&probe);
}

static void test_threads_do_not_matter(void **state) {
    const Golden *g = *state;
    LinearProbe probes[2];
    double uniformity[2];
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(1 + 2 * i);
        assert_int_equal(linear_probe_fit(&probes[i], &g->training, 5, &fit, NULL), STATUS_OK);
        assert_int_equal(embedding_uniformity(&g->units, 2, &uniformity[i], NULL), STATUS_OK);
    }
    assert_memory_equal(probes[0].weights, probes[1].weights, sizeof(double) * (size_t)(5 * (g->training.dim + 1)));
    assert_memory_equal(&uniformity[0], &uniformity[1], sizeof(double));
    linear_probe_free(&probes[0]);
    linear_probe_free(&probes[1]);
}

static void test_probe_refuses(void **state) {
    (void)state;
    const float bad[] = {1, 0, NAN, 0};
    const int32_t labels[] = {0, 1};
    EmbeddingSet set = {2, 2, bad, labels};
    LinearProbe probe;
    Error err;
    assert_int_equal(linear_probe_fit(&probe, &set, 2, &fit, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "embedding 1 is not finite"));
    linear_probe_free(&probe);
    set.n = 0;
    assert_int_equal(linear_probe_fit(&probe, &set, 2, &fit, &err), STATUS_DATA);
    linear_probe_free(&probe);
}

/* Rosenbrock's valley: not convex, so that the line search and the curvature have work to do. */
static double valley(void *context, const double *x, double *gradient) {
    (void)context;
    const double off = x[1] - x[0] * x[0];
    gradient[0] = -400 * x[0] * off - 2 * (1 - x[0]);
    gradient[1] = 200 * off;
    return 100 * off * off + (1 - x[0]) * (1 - x[0]);
}

static void test_lbfgs(void **state) {
    (void)state;
    double x[] = {-1.2, 1};
    const LbfgsOptions options = {200, 1e-9};
    LbfgsReport report;
    assert_int_equal(lbfgs_minimise(2, x, valley, NULL, &options, &report, NULL), STATUS_OK);
    assert_true(report.converged && fabs(x[0] - 1) < 1e-8 && fabs(x[1] - 1) < 1e-8);
    const LbfgsOptions short_of_it = {3, 1e-9};
    x[0] = -1.2;
    x[1] = 1;
    assert_int_equal(lbfgs_minimise(2, x, valley, NULL, &short_of_it, &report, NULL), STATUS_OK);
    assert_true(!report.converged && report.iterations == 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment),     cmocka_unit_test(test_alignment_edges),
        cmocka_unit_test(test_knn),           cmocka_unit_test(test_knn_edges),
        cmocka_unit_test(test_linear_probe),  cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_probe_refuses), cmocka_unit_test(test_lbfgs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
