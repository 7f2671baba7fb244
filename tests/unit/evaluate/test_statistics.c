/* Bootstrap intervals, reliability bands, rank agreement and confusion against NumPy, SciPy and scikit-learn
 * (tests/golden/statistics.h5, by scripts/golden/evaluation_golden.py), and their edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/numbers/golden_values.h"
#include "trainer/evaluate/calibration/calibration.h"
#include "trainer/evaluate/statistics/bootstrap.h"
#include "trainer/evaluate/statistics/confusion.h"
#include "trainer/evaluate/statistics/kendall.h"

static int open_golden(void **state) {
    *state = golden_open("statistics.h5");
    return 0;
}

static int close_golden(void **state) {
    array_file_close(*state);
    return 0;
}

/* The dataset as doubles; freed by the caller. */
static double *doubles(const ArrayFile *file, const char *name, int64_t *n) {
    Array array = golden_array(file, name, ARRAY_F32);
    double *values = malloc(sizeof *values * (size_t)(array.count + 1));
    assert_non_null(values);
    for (int64_t i = 0; i < array.count; i++)
        values[i] = array.f32[i];
    *n = array.count;
    array_free(&array);
    return values;
}

static void test_intervals(void **state) {
    int64_t n, count;
    double *a = doubles(*state, "a", &n), *b = doubles(*state, "b", &n), *few = doubles(*state, "few", &count);
    Interval interval;
    const BootstrapOptions usual = {0.95, 1000, 7}, other = {0.9, 400, 0x8000000000000005u};
    assert_int_equal(bootstrap_mean(n, a, &usual, &interval, NULL), STATUS_OK);
    golden_equals(*state, "expect/mean", 3, &interval.estimate);
    assert_int_equal(bootstrap_mean(count, few, &other, &interval, NULL), STATUS_OK);
    golden_equals(*state, "expect/few", 3, &interval.estimate);
    assert_int_equal(bootstrap_difference(n, a, b, &usual, &interval, NULL), STATUS_OK);
    golden_equals(*state, "expect/difference", 3, &interval.estimate);
    free(a);
    free(b);
    free(few);
}

static void test_interval_edges(void **state) {
    (void)state;
    const BootstrapOptions options = {0.95, 50, 1};
    const double values[] = {2, 2, 2, 2}, bad[] = {1, NAN, 3};
    Interval i;
    assert_int_equal(bootstrap_mean(4, values, &options, &i, NULL), STATUS_OK);
    assert_true(i.estimate == 2 && i.low == 2 && i.high == 2);
    assert_int_equal(bootstrap_mean(1, values, &options, &i, NULL), STATUS_OK);
    assert_true(i.estimate == 2 && isnan(i.low) && isnan(i.high));
    assert_int_equal(bootstrap_mean(0, values, &options, &i, NULL), STATUS_OK);
    assert_true(isnan(i.estimate) && isnan(i.low) && isnan(i.high));
    assert_int_equal(bootstrap_mean(3, bad, &options, &i, NULL), STATUS_OK);
    assert_true(isnan(i.estimate) && isnan(i.low) && isnan(i.high));
    assert_true(quantile_of_sorted(4, (const double[]){0, 1, 2, 5}, 0.75) == 2.75);
    assert_true(quantile_of_sorted(1, (const double[]){3}, 1) == 3);
}

static void compare_bands(const ArrayFile *file, const Forecasts *f, const char *name, BinKind kind, int count,
                          const BootstrapOptions *options) {
    ReliabilityBin bins[10];
    double rows[50];
    assert_int_equal(calibration_reliability(f, kind, count, options, bins, NULL), STATUS_OK);
    for (int b = 0; b < count; b++) {
        const double row[] = {(double)bins[b].bin.count, bins[b].bin.confidence, bins[b].bin.accuracy, bins[b].low,
                              bins[b].high};
        for (int i = 0; i < 5; i++)
            rows[5 * b + i] = row[i];
    }
    golden_equals(file, name, 5 * count, rows);
}

static void test_bands(void **state) {
    Array logits = golden_array(*state, "logits", ARRAY_F32), truth = golden_array(*state, "truth", ARRAY_I32);
    const ClassifierOutput output = {truth.count, (int)logits.shape[1], logits.f32, truth.i32, 1};
    const BootstrapOptions width = {0.95, 300, 11}, mass = {0.9, 300, 12};
    Forecasts f;
    assert_int_equal(forecasts_top_label(&f, &output, NULL), STATUS_OK);
    compare_bands(*state, &f, "expect/reliability_width", BINS_EQUAL_WIDTH, 10, &width);
    compare_bands(*state, &f, "expect/reliability_mass", BINS_EQUAL_MASS, 7, &mass);
    forecasts_free(&f);
    array_free(&logits);
    array_free(&truth);
}

static void test_kendall(void **state) {
    int64_t n;
    double *a = doubles(*state, "a", &n), *b = doubles(*state, "b", &n);
    golden_equals_one(*state, "expect/kendall", kendall_tau_b(n, a, b));
    free(a);
    free(b);
    a = doubles(*state, "x", &n);
    b = doubles(*state, "y", &n);
    golden_equals_one(*state, "expect/kendall_ties", kendall_tau_b(n, a, b));
    const double up[] = {1, 2, 3, 4}, down[] = {9, 7, 5, -1}, flat[] = {1, 1, 1, 1}, bad[] = {1, NAN, 3, 4};
    assert_true(kendall_tau_b(4, up, up) == 1);
    assert_true(kendall_tau_b(4, up, down) == -1);
    assert_true(isnan(kendall_tau_b(4, up, flat)) && isnan(kendall_tau_b(4, bad, up)));
    assert_true(isnan(kendall_tau_b(1, up, up)) && isnan(kendall_tau_b(0, up, up)));
    free(a);
    free(b);
}

static void test_confusion(void **state) {
    enum { C = 6 };
    Array labels = golden_array(*state, "labels", ARRAY_I32), predicted = golden_array(*state, "predicted", ARRAY_I32);
    Array want = golden_array(*state, "expect/confusion", ARRAY_I32);
    int64_t counts[C * C];
    double accuracy[C];
    assert_int_equal(confusion_count(labels.count, labels.i32, predicted.i32, C, counts), 0);
    for (int i = 0; i < C * C; i++)
        assert_int_equal(counts[i], want.i32[i]);
    confusion_class_accuracy(C, counts, accuracy);
    golden_equals(*state, "expect/class_accuracy", C, accuracy);
    const int32_t own[] = {0, 0, 2, 5}, guess[] = {0, 1, -1, 0};
    assert_int_equal(confusion_count(4, own, guess, 3, counts), 2);
    confusion_class_accuracy(3, counts, accuracy);
    assert_true(accuracy[0] == 0.5 && isnan(accuracy[1]) && isnan(accuracy[2]));
    array_free(&labels);
    array_free(&predicted);
    array_free(&want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals), cmocka_unit_test(test_interval_edges), cmocka_unit_test(test_bands),
        cmocka_unit_test(test_kendall),   cmocka_unit_test(test_confusion),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
