/* Calibration measures: closed forms, edges, and what must hold for any logits. The values of other packages are in
 * tests/golden/calibration-*.h5 (test_golden). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/philox.h"
#include "trainer/evaluate/calibration/calibration.h"

enum { MOST = 600, MOST_CLASSES = 12 };

/* Rounding of a few hundred doubles; nothing here is known less exactly. */
static const double rounding = 1e-12;

typedef struct Set {
    ClassifierOutput output;
    float logits[MOST * MOST_CLASSES];
    int32_t labels[MOST];
} Set;

static Set *new_set(int64_t n, int classes) {
    Set *set = calloc(1, sizeof *set);
    assert_non_null(set);
    set->output = (ClassifierOutput){n, classes, set->logits, set->labels, 1};
    return set;
}

/* Every measure, in one order. */
typedef struct Measures {
    double ece, adaptive, mce, debiased, sweep, smooth, classwise; /* from sorted forecasts */
    double nll, brier, temperature;
} Measures;
enum { MEASURES = sizeof(Measures) / sizeof(double), SORTED = 7 };

static Measures measure(const ClassifierOutput *output, int bins) {
    Measures m;
    Forecasts f;
    assert_int_equal(forecasts_top_label(&f, output, NULL), STATUS_OK);
    m.ece = calibration_ece(&f, BINS_EQUAL_WIDTH, bins);
    m.adaptive = calibration_ece(&f, BINS_EQUAL_MASS, bins);
    m.mce = calibration_mce(&f, bins);
    m.debiased = calibration_debiased(&f, bins);
    m.sweep = calibration_sweep(&f, NULL);
    assert_int_equal(calibration_smooth(&f, &m.smooth, NULL), STATUS_OK);
    assert_int_equal(calibration_classwise(output, bins, &m.classwise, NULL), STATUS_OK);
    m.nll = calibration_nll(output);
    m.brier = calibration_brier(output);
    m.temperature = calibration_temperature(output);
    forecasts_free(&f);
    return m;
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= rounding * fmax(1, fabs(want))))
        fail_msg("got %.17g, want %.17g", got, want);
}

/* Two equal logits, half of the labels 0: it says 1/2 and is right half of the time. */
static void test_fair_coin(void **state) {
    (void)state;
    Set *set = new_set(100, 2);
    for (int i = 0; i < 100; i++)
        set->labels[i] = i % 2;
    const Measures m = measure(&set->output, 10);
    near(m.ece, 0);
    near(m.adaptive, 0);
    near(m.mce, 0);
    near(m.debiased, 0);
    near(m.sweep, 0);
    near(m.smooth, 0);
    near(m.classwise, 0);
    near(m.nll, log(2));
    near(m.brier, 0.5);
    near(m.temperature, 1); /* nothing depends on it */
    free(set);
}

/* One logit 60 above the other, label the other (or that one). */
static Set *certain(int right) {
    Set *set = new_set(50, 2);
    for (int i = 0; i < 50; i++) {
        set->logits[2 * i + i % 2] = 60;
        set->labels[i] = right ? i % 2 : 1 - i % 2;
    }
    return set;
}

static void test_always_wrong(void **state) {
    (void)state;
    Set *set = certain(0);
    const Measures m = measure(&set->output, 10);
    near(m.ece, 1);
    near(m.adaptive, 1);
    near(m.mce, 1);
    near(m.debiased, 1);
    near(m.sweep, 1);
    near(m.classwise, 1);
    near(m.nll, 60);
    near(m.brier, 2);
    near(m.temperature, TEMPERATURE_MOST);
    assert_true(m.smooth > 0.99 && m.smooth <= 1); /* density_floor takes a little */
    free(set);
}

static void test_always_right(void **state) {
    (void)state;
    Set *set = certain(1);
    const Measures m = measure(&set->output, 10);
    for (int i = 0; i < SORTED; i++)
        near(((const double *)&m)[i], 0);
    near(m.nll, 0);
    near(m.brier, 0);
    near(m.temperature, TEMPERATURE_LEAST);
    free(set);
}

/* k equal logits of ten, the rest so far below that their probability is 0: confidence 1/k. */
static void test_bin_edges(void **state) {
    (void)state;
    static const int equal[] = {1, 2, 5, 10}, bin[] = {9, 5, 2, 1};
    Set *set = new_set(4, 10);
    for (int i = 0; i < 4; i++)
        for (int c = equal[i]; c < 10; c++)
            set->logits[10 * i + c] = -2000;
    Forecasts f;
    assert_int_equal(forecasts_top_label(&f, &set->output, NULL), STATUS_OK);
    int64_t first = 0;
    for (int b = 0; b < 10; b++) {
        const CalibrationBin at = calibration_bin(&f, BINS_EQUAL_WIDTH, 10, b, first);
        int64_t want = 0;
        for (int i = 0; i < 4; i++)
            want += bin[i] == b;
        assert_int_equal(at.count, want);
        assert_int_equal(at.first, first);
        near(at.low, b / 10.0);
        near(at.high, (b + 1) / 10.0);
        first += at.count;
    }
    assert_int_equal(first, 4);
    near(f.items[0].probability, 0.1);
    near(f.items[3].probability, 1);
    forecasts_free(&f);
    free(set);
}

/* Three samples, ten bins of equal mass: each is its own bin. Confidence a/(a + b) from logits log a, log b. */
static void test_fewer_samples_than_bins(void **state) {
    (void)state;
    Set *set = new_set(3, 2);
    set->logits[0] = logf(3); /* 0.75, right */
    set->logits[2] = logf(4); /* 0.8, wrong */
    set->logits[4] = logf(9); /* 0.9, right */
    set->labels[1] = 1;
    const double f32 = 1e-6; /* of the logarithms */
    const Measures m = measure(&set->output, 10);
    assert_true(fabs(m.adaptive - (0.25 + 0.8 + 0.1) / 3) <= f32);
    assert_true(fabs(m.ece - (0.25 + 0.8 + 0.1) / 3) <= f32);
    assert_true(fabs(m.mce - 0.8) <= f32);
    /* One bin of all, the only one with two samples or more: gap 2.45/3 - 2/3, minus the variance 2/9 / 2. */
    near(m.debiased, 0);
    /* One bin: with two the accuracy falls from 1/2 to 1 and not; with three it is 1, 0, 1. Two bins: {0.75, 0.8},
     * {0.9}. */
    assert_true(fabs(m.sweep - (fabs(0.775 - 0.5) * 2 + 0.1) / 3) <= f32);
    free(set);
}

static void test_sweep_bins(void **state) {
    (void)state;
    Set *set = new_set(8, 2);
    for (int i = 0; i < 8; i++) {
        set->logits[2 * i] = 0.1f * (float)(i + 1);
        set->labels[i] = i < 3; /* the first three are wrong: as many bins as samples never fall */
    }
    Forecasts f;
    int64_t bins;
    assert_int_equal(forecasts_top_label(&f, &set->output, NULL), STATUS_OK);
    near(calibration_sweep(&f, &bins), calibration_ece(&f, BINS_EQUAL_MASS, 8));
    assert_int_equal(bins, 8);
    forecasts_free(&f);
    for (int i = 0; i < 8; i++)
        set->labels[i] = i >= 5; /* the surest are wrong: no two bins */
    assert_int_equal(forecasts_top_label(&f, &set->output, NULL), STATUS_OK);
    near(calibration_sweep(&f, &bins), calibration_ece(&f, BINS_EQUAL_MASS, 1));
    assert_int_equal(bins, 1);
    forecasts_free(&f);
    free(set);
}

static void test_one_class(void **state) {
    (void)state;
    Set *set = new_set(5, 1);
    set->logits[2] = -1e30f;
    const Measures m = measure(&set->output, 10);
    for (int i = 0; i < MEASURES; i++)
        near(((const double *)&m)[i], i == MEASURES - 1 ? 1 : 0);
    free(set);
}

static void all_nan(const ClassifierOutput *output) {
    const Measures m = measure(output, 10);
    const BootstrapOptions options = {0.95, 10, 1};
    ReliabilityBin bins[4];
    Forecasts f;
    for (int i = 0; i < MEASURES; i++)
        if (!isnan(((const double *)&m)[i]))
            fail_msg("measure %d is %g", i, ((const double *)&m)[i]);
    assert_int_equal(forecasts_top_label(&f, output, NULL), STATUS_OK);
    assert_int_equal(calibration_reliability(&f, BINS_EQUAL_WIDTH, 4, &options, bins, NULL), STATUS_OK);
    for (int b = 0; b < 4; b++)
        assert_true(bins[b].bin.count == 0 && isnan(bins[b].bin.accuracy) && isnan(bins[b].low));
    forecasts_free(&f);
}

static void test_undefined(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    Set *set = new_set(20, 3);
    for (int i = 0; i < 3; i++) {
        set->logits[31] = bad[i];
        all_nan(&set->output);
    }
    set->logits[31] = 0;
    set->labels[19] = 3;
    all_nan(&set->output);
    set->labels[19] = -1;
    all_nan(&set->output);
    set->labels[19] = 0;
    assert_true(measure(&set->output, 10).ece >= 0);
    set->output.n = 0;
    all_nan(&set->output);
    free(set);
}

/* Random logits of random sharpness; some sets with extreme or equal ones. */
static Set *random_set(uint64_t seed) {
    PhiloxReader r = philox_reader(seed, PHILOX_SYNTHETIC, 1, 0);
    const int64_t n = 1 + philox_next_below(&r, MOST);
    Set *set = new_set(n, 1 + (int)philox_next_below(&r, MOST_CLASSES));
    const int C = set->output.classes, kind = (int)philox_next_below(&r, 4);
    const float scale = expf(8 * philox_next_uniform(&r) - 3);
    for (int64_t i = 0; i < n * C; i++) {
        set->logits[i] = scale * (philox_next_uniform(&r) + philox_next_uniform(&r) - 1);
        if (kind == 1)
            set->logits[i] = rintf(set->logits[i]);
        if (kind == 2)
            set->logits[i] *= 1e30f;
    }
    for (int64_t i = 0; i < n; i++) {
        int best = 0;
        for (int c = 1; c < C; c++)
            best = set->logits[i * C + c] > set->logits[i * C + best] ? c : best;
        set->labels[i] = philox_next_uniform(&r) < 0.5f ? best : (int32_t)philox_next_below(&r, (uint32_t)C);
    }
    return set;
}

static double nll_at(const ClassifierOutput *output, double temperature) {
    ClassifierOutput scaled = *output;
    scaled.temperature = temperature;
    return calibration_nll(&scaled);
}

static void test_temperature_is_the_minimum(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 80; seed++) {
        Set *set = random_set(seed);
        const ClassifierOutput *output = &set->output;
        const double T = calibration_temperature(output), least = nll_at(output, T);
        assert_true(T >= TEMPERATURE_LEAST && T <= TEMPERATURE_MOST);
        assert_true(least <= nll_at(output, 1));
        for (int i = -1; i <= 1; i += 2) {
            const double other = T * (1 + 1e-3 * i);
            if (other < TEMPERATURE_LEAST || other > TEMPERATURE_MOST)
                continue;
            if (!(least <= nll_at(output, other) * (1 + rounding)))
                fail_msg("seed %d: nll %.17g at %g, %.17g at %g", (int)seed, least, T, nll_at(output, other), other);
        }
        free(set);
    }
}

static void test_ranges(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        Set *set = random_set(seed);
        const Measures m = measure(&set->output, 1 + (int)(seed % 40));
        for (int i = 0; i < SORTED; i++) {
            const double value = ((const double *)&m)[i];
            if (!(value >= 0 && value <= 1) && !(set->output.n < 2 && i == 3))
                fail_msg("seed %d: measure %d is %g", (int)seed, i, value);
        }
        assert_true(m.mce >= m.ece - rounding && m.brier >= 0 && m.brier <= 2 && m.nll >= 0);
        free(set);
    }
}

/* The sums are over sorted samples: not a bit may change. */
static void test_order_does_not_matter(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        Set *set = random_set(seed), *turned = random_set(seed);
        const int C = set->output.classes;
        const int64_t n = set->output.n;
        PhiloxReader r = philox_reader(seed, PHILOX_ORDER, 1, 0);
        for (int64_t i = n - 1; i > 0; i--) {
            const int64_t j = philox_next_below(&r, (uint32_t)i + 1);
            float row[MOST_CLASSES];
            const int32_t label = turned->labels[i];
            turned->labels[i] = turned->labels[j];
            turned->labels[j] = label;
            memcpy(row, turned->logits + i * C, sizeof *row * (size_t)C);
            memcpy(turned->logits + i * C, turned->logits + j * C, sizeof *row * (size_t)C);
            memcpy(turned->logits + j * C, row, sizeof *row * (size_t)C);
        }
        const Measures a = measure(&set->output, 10), b = measure(&turned->output, 10);
        assert_memory_equal(&a, &b, SORTED * sizeof(double));
        free(set);
        free(turned);
    }
}

/* Labels drawn from the probabilities: the plain root mean square error of 15 bins has a bias that the debiased one has
 * not. */
static void test_debiased_on_calibrated(void **state) {
    (void)state;
    double plain = 0, debiased = 0;
    for (int trial = 0; trial < 200; trial++) {
        Set *set = new_set(300, 2);
        PhiloxReader r = philox_reader((uint64_t)trial, PHILOX_SYNTHETIC, 2, 0);
        for (int i = 0; i < 300; i++) {
            set->logits[2 * i] = 3 * philox_next_uniform(&r);
            set->labels[i] = !(philox_next_uniform(&r) < 1 / (1 + expf(-set->logits[2 * i])));
        }
        Forecasts f;
        assert_int_equal(forecasts_top_label(&f, &set->output, NULL), STATUS_OK);
        double squares = 0;
        for (int64_t b = 0, first = 0; b < 15; b++) {
            const CalibrationBin bin = calibration_bin(&f, BINS_EQUAL_MASS, 15, (int)b, first);
            squares += (double)bin.count * pow(bin.confidence - bin.accuracy, 2) / 300;
            first += bin.count;
        }
        plain += sqrt(squares) / 200;
        debiased += calibration_debiased(&f, 15) / 200;
        forecasts_free(&f);
        free(set);
    }
    assert_true(plain > 0.07);
    assert_true(debiased < plain / 2);
}

static void test_reliability_bands(void **state) {
    (void)state;
    const BootstrapOptions options = {0.9, 200, 5}, other = {0.9, 200, 6};
    Set *set = new_set(MOST, 3);
    PhiloxReader r = philox_reader(1, PHILOX_SYNTHETIC, 3, 0);
    for (int i = 0; i < MOST; i++) {
        for (int c = 0; c < 3; c++)
            set->logits[3 * i + c] = 3 * philox_next_uniform(&r);
        set->labels[i] = (int32_t)philox_next_below(&r, 3);
    }
    Forecasts f;
    ReliabilityBin a[8], b[8], c[8];
    assert_int_equal(forecasts_top_label(&f, &set->output, NULL), STATUS_OK);
    assert_int_equal(calibration_reliability(&f, BINS_EQUAL_WIDTH, 8, &options, a, NULL), STATUS_OK);
    assert_int_equal(calibration_reliability(&f, BINS_EQUAL_WIDTH, 8, &options, b, NULL), STATUS_OK);
    assert_int_equal(calibration_reliability(&f, BINS_EQUAL_WIDTH, 8, &other, c, NULL), STATUS_OK);
    int64_t total = 0;
    for (int i = 0; i < 8; i++) {
        total += a[i].bin.count;
        if (a[i].bin.count == 0) {
            assert_true(isnan(a[i].low) && isnan(a[i].high));
            continue;
        }
        assert_true(a[i].low <= a[i].bin.accuracy && a[i].bin.accuracy <= a[i].high);
        assert_true(a[i].low == b[i].low && a[i].high == b[i].high);
    }
    assert_int_equal(total, MOST);
    assert_true(memcmp(a, c, sizeof a) != 0);
    assert_int_equal(a[0].bin.count, 0); /* three classes: no confidence below a third */
    forecasts_free(&f);
    free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fair_coin),
        cmocka_unit_test(test_always_wrong),
        cmocka_unit_test(test_always_right),
        cmocka_unit_test(test_bin_edges),
        cmocka_unit_test(test_fewer_samples_than_bins),
        cmocka_unit_test(test_sweep_bins),
        cmocka_unit_test(test_one_class),
        cmocka_unit_test(test_undefined),
        cmocka_unit_test(test_temperature_is_the_minimum),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_debiased_on_calibrated),
        cmocka_unit_test(test_reliability_bands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
