/* The tiled contrastive loss against its definition in double (tests/support/numbers/contrast_case.h), and its gradient
 * against central differences of that as well. Rows are split over imagined ranks in uneven parts. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/device/exp_lanes.h"
#include "tests/support/numbers/contrast_case.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static const Case cases[] = {
    {64, 16, 4, CLASSES, 0.1f, 0, {0}, 0},
    {130, 33, 10, CLASSES, 0.5f, 1, {0}, 0},
    {257, 128, 7, CLASSES, 0.07f, 0, {100, 101, 230}, 0},
    {300, 20, 5, PAIRS, 0.1f, 0, {0}, 0},
    {300, 20, 5, PAIRS, 0.1f, 1, {7, 7, 200}, 0},
    {200, 31, 6, BACKGROUND_DENOMINATOR, 0.1f, 0, {199}, 0},
    {200, 31, 6, BACKGROUND_CLASS, 0.1f, 0, {0}, 0},
    {210, 12, 6, SINGLETONS, 1.0f, 0, {64, 128}, 0},
    {70, 12, 6, ALONE, 0.2f, 0, {0}, 0},
    {333, 128, 9, CLASSES, 0.01f, 0, {0}, 0},
    {333, 128, 9, BACKGROUND_DENOMINATOR, 0.01f, 1, {33, 300}, 0},
    {333, 64, 9, CLASSES, 0.02f, 1, {0}, 0},
    {333, 64, 9, PAIRS, 0.03f, 1, {0}, 0},
    {1, 8, 1, CLASSES, 0.1f, 0, {0}, 0},
    {2, 8, 1, CLASSES, 0.1f, 0, {1}, 0},
    {2, 8, 1, PAIRS, 0.1f, 1, {0}, 0},
    {17, 1, 3, CLASSES, 0.1f, 0, {16}, 0},
    {65, 65, 4, CLASSES, 0.1f, 0, {0}, 0},
    {129, 129, 5, CLASSES, 0.1f, 0, {64}, 0},
    {90, 300, 5, BACKGROUND_CLASS, 0.1f, 0, {50}, 0},
    {100, 16, 4, CLASSES, 1e-4f, 0, {0}, 0},
    {150, 40, 4, CLASSES, 0.07f, 0, {0}, 4.0f},
    {150, 40, 4, BACKGROUND_DENOMINATOR, 0.07f, 1, {0}, 1000.0f},
    {2100, 24, 11, SINGLETONS, 0.1f, 1, {0}, 0},
    {2100, 24, 11, BACKGROUND_CLASS, 0.1f, 0, {1, 2, 2000}, 0},
};
enum { CASES = sizeof cases / sizeof *cases, THREE_RANKS = CASES - 1 };

/* Where a thread costs much more than a number, the largest shrink to what still has several blocks and splits. */
static Case case_at(const Device *d, int k) {
    Case c = cases[k];
    if (d->kind == DEVICE_CUDA && c.rows > 500) {
        c.rows = 420;
        c.cuts[2] = c.cuts[2] > 0 ? 400 : 0;
    }
    return c;
}

/* Precisions of products that make a difference on a device. */
static int precisions(const Device *d) {
    return d->kind == DEVICE_CUDA ? 2 : 1;
}

static const DType precision[] = {DTYPE_F32, DTYPE_BF16};

/* Of the gradient. A similarity of up to |z|^2/T is rounded to 2^-24 of that, and this is the relative error of its
 * exponential. bf16 products round that exponential itself, to 2^-9. */
static double tolerance_of_case(const Case *c, DType products) {
    const double largest = (c->norm > 0 ? (double)c->norm * (double)c->norm : 1.0) / (double)c->temperature;
    const double similarities = largest <= 20 ? 1e-5 : 5e-7 * largest;
    return products == DTYPE_BF16 ? fmax(similarities, 4e-3) : similarities;
}

/* What real tensor cores may leave of a similarity of bf16 rows, beyond the rounding that lse and loss are allowed
 * anyhow; the CPU and the stand-in GPU round each addition and get nothing. A tensor core aligns the products of one
 * step and the sum so far to the largest of them, cuts off what is below the f32 it adds in, and cuts the result off as
 * well (Fasi, Higham, Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores": at most 8 products a step
 * on sm_80, 16 on sm_90). No partial sum exceeds |z|^2, so each of ceil(D / 8) steps loses less than 2 * 2^-23 |z|^2,
 * all in the direction of zero. That much over T is off in a similarity, and no more in a log-sum-exp of similarities,
 * whose slopes add up to one. */
static double cut_off(const Device *d, const Case *c, DType products) {
    if (products != DTYPE_BF16 || d->kind != DEVICE_CUDA || !d->library || dlsym(d->library, "simt_set_order"))
        return 0;
    const double norm = c->norm > 0 ? (double)c->norm : 1.0;
    return (double)((c->dim + 7) / 8) * ldexp(1, -22) * norm * norm / (double)c->temperature;
}

static double norm_of(int64_t n, const double *x, double least) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return fmax(sqrt(sum), least);
}

static void check_definition(Device *d, int k, DType products) {
    Problem p = problem_new(case_at(d, k), products);
    Result r = contrast_run(d, &p);
    const int64_t rows = p.c.rows;
    const double want = naive_loss(&p);
    /* Size of a row's terms before they cancel. */
    const double one_row = (p.c.norm > 0 ? (double)p.c.norm : 1) / ((double)BASE_TEMPERATURE * (double)p.anchors);
    double *lse = block(rows, sizeof *lse), *dz = block(rows * p.c.dim, sizeof *dz);
    for (int64_t i = 0; i < rows; i++)
        lse[i] = naive_lse(&p, i);
    naive_gradient(&p, dz);
    const double cut = cut_off(d, &p.c, products);
    if (rows > 1)
        assert_vector("lse", k, rows, r.lse, lse, 1e-6 + sqrt((double)rows) * cut / norm_of(rows, lse, 0.1), 0.1);
    else
        assert_true(r.lse[0] == -INFINITY);
    for (int64_t i = 0; i < rows; i++)
        assert_true(naive_positives(&p, i) ? r.anchored[i] == r.lse[i] : r.anchored[i] == INFINITY);
    assert_within("loss", k, fabs(r.loss - want),
                  2e-6 * fmax(fabs(want), 1) + (double)p.c.temperature / (double)BASE_TEMPERATURE * cut);
    assert_vector("dz", k, rows * p.c.dim, r.dz, dz, tolerance_of_case(&p.c, products), one_row);
    free(lse), free(dz);
    result_free(&r);
    problem_free(&p);
}

static void test_definition(void **state) {
    for (int t = 0; t < precisions(*state); t++)
        for (int k = 0; k < CASES; k++)
            check_definition(*state, k, precision[t]);
}

/* What rounding rows to bf16 costs where it is meant to be used. */
static void test_bf16_products_are_close(void **state) {
    Problem p = problem_new((Case){257, 128, 7, CLASSES, 0.1f, 0, {100}, 0}, DTYPE_F32);
    p.products = DTYPE_BF16;
    Result r = contrast_run(*state, &p);
    double *dz = block(p.c.rows * p.c.dim, sizeof *dz);
    const double want = naive_loss(&p);
    naive_gradient(&p, dz);
    assert_within("loss", 0, fabs(r.loss - want), 1e-3 * want);
    assert_vector("dz", 0, p.c.rows * p.c.dim, r.dz, dz, 1e-2, 0);
    free(dz);
    result_free(&r);
    problem_free(&p);
}

static void test_gradient_by_differences(void **state) {
    static const Case small[] = {
        {24, 6, 3, CLASSES, 0.1f, 1, {0}, 0},          {24, 6, 3, PAIRS, 0.3f, 0, {5}, 0},
        {24, 6, 3, BACKGROUND_CLASS, 0.1f, 0, {0}, 0}, {24, 6, 3, BACKGROUND_DENOMINATOR, 0.1f, 0, {20}, 0},
        {24, 6, 3, SINGLETONS, 1.0f, 0, {0}, 0},
    };
    const double step = 1e-6;
    for (int k = 0; k < (int)(sizeof small / sizeof *small); k++) {
        Problem p = problem_new(small[k], DTYPE_F32);
        Result r = contrast_run(*state, &p);
        int64_t n = p.c.rows * p.c.dim;
        double *want = block(n, sizeof *want);
        for (int64_t i = 0; i < n; i++) {
            double kept = p.zd[i];
            p.zd[i] = kept + step;
            double above = naive_loss(&p);
            p.zd[i] = kept - step;
            want[i] = (above - naive_loss(&p)) / (2 * step);
            p.zd[i] = kept;
        }
        assert_vector("difference", k, n, r.dz, want, 1e-5, 0);
        free(want);
        result_free(&r);
        problem_free(&p);
    }
}

static void test_bits_repeat_and_do_not_depend_on_threads(void **state) {
    Device *d = *state;
    for (int t = 0; t < precisions(d); t++) {
        Problem p = problem_new(case_at(d, THREE_RANKS), precision[t]);
        int threads = d->threads;
        Result first = contrast_run(d, &p);
        for (d->threads = 1; d->threads <= 3; d->threads++) {
            Result again = contrast_run(d, &p);
            assert_memory_equal(first.dz, again.dz, (size_t)(p.c.rows * p.c.dim) * sizeof(float));
            assert_memory_equal(first.lse, again.lse, (size_t)p.c.rows * sizeof(float));
            assert_true(first.loss == again.loss);
            result_free(&again);
        }
        d->threads = threads;
        result_free(&first);
        problem_free(&p);
    }
}

static void test_a_rank_without_rows(void **state) {
    Device *d = *state;
    const Ops *ops = d->ops;
    ContrastShape shape = {.rows = 64,
                           .own_first = 10,
                           .own_rows = 0,
                           .dim = 16,
                           .groups = 4,
                           .anchors = 64,
                           .temperature = 0.1f,
                           .base_temperature = BASE_TEMPERATURE};
    Tensor z = tensor_random(d, DTYPE_F32, 64 * 16, -1, 1, 1), group = tensor_random(d, DTYPE_I32, 64, 0, 4, 2);
    Tensor sums = tensor_new(d, DTYPE_F32, 4 * 16), counts = tensor_new(d, DTYPE_I32, 4);
    Tensor lse = tensor_zero(d, DTYPE_F32, 64), untouched = tensor_random(d, DTYPE_F32, 1, 5, 5, 3);
    Tensor loss = tensor_new(d, DTYPE_F64, 1);
    Tensor scratch = tensor_new(d, DTYPE_U8, (int64_t)ops->contrast->scratch(d, 64, 4, 16));
    for (int t = 0; t < precisions(d); t++) {
        shape.products = precision[t];
        ops->contrast->groups(d, &shape, z.data, group.data, sums.data, counts.data);
        ops->contrast->lse(d, &shape, z.data, untouched.data, scratch.data);
        ops->contrast->loss(d, &shape, z.data, group.data, sums.data, counts.data, NULL, loss.data, untouched.data);
        ops->contrast->gradient(d, &shape, z.data, group.data, sums.data, counts.data, lse.data, untouched.data,
                                scratch.data);
        assert_true(tensor_equals("loss", &loss, (double[]){0}, TOLERANCE_EXACT));
        assert_true(tensor_equals("untouched", &untouched, (double[]){5}, TOLERANCE_EXACT));
    }
    tensor_free(&z), tensor_free(&group), tensor_free(&sums), tensor_free(&counts), tensor_free(&lse);
    tensor_free(&untouched), tensor_free(&loss), tensor_free(&scratch);
}

static void test_nan_is_not_hidden(void **state) {
    const uint32_t patterns[] = {0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001};
    for (int t = 0; t < precisions(*state); t++)
        for (int k = 0; k < 4; k++) {
            Problem p = problem_new(cases[0], precision[t]);
            memcpy(&p.z[40 * p.c.dim + 3], &patterns[k], 4);
            Result r = contrast_run(*state, &p);
            assert_true(isnan(r.loss));
            for (int64_t i = 0; i < p.c.rows; i++)
                assert_true(isnan(r.lse[i]) && isnan(r.dz[i * p.c.dim]));
            result_free(&r);
            problem_free(&p);
        }
}

static void test_exponential(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 0; i <= 1753000; i++) {
        float x = -87.3f + 1e-4f * (float)i;
        double want = exp((double)x), off = fabs((double)lane_exp(x) - want) / want;
        worst = off <= worst || isnan(worst) ? worst : off; /* a NaN stays */
    }
    assert_within("exp", 0, worst, 1.2e-7);
    assert_true(lane_exp(-INFINITY) == 0 && lane_exp(-1e30f) == 0 && lane_exp(0) == 1 && isnan(lane_exp(NAN)));
}

/* What makes the loss scale: scratch grows with the rows, not with their square. CUDA keeps the rows as bf16 as well,
 * and a gradient for every block that the device runs at once. */
static void test_scratch_is_small(void **state) {
    Device *d = *state;
    const size_t mb = d->kind == DEVICE_CUDA ? 8 : 1;
    size_t at_16k = d->ops->contrast->scratch(d, 16384, 8192, 128),
           at_128k = d->ops->contrast->scratch(d, 131072, 200, 128);
    assert_true(at_16k < (mb * 4) << 20);
    assert_true(at_128k < (mb * 8) << 20);
    for (int64_t rows = 1; rows < 5000; rows += 61)
        assert_true(d->ops->contrast->scratch(d, rows, 10, 33) <= d->ops->contrast->scratch(d, rows + 61, 10, 33));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_bf16_products_are_close),
        cmocka_unit_test(test_gradient_by_differences),
        cmocka_unit_test(test_bits_repeat_and_do_not_depend_on_threads),
        cmocka_unit_test(test_a_rank_without_rows),
        cmocka_unit_test(test_nan_is_not_hidden),
        cmocka_unit_test(test_scratch_is_small),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
