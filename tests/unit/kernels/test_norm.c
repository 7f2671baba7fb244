/* Batch norm against a naive double reference and finite differences, one operator at a time and as a whole layer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/numbers/block.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static const struct {
    int64_t M;
    int C;
} shapes[] = {{0, 5}, {1, 1}, {2, 3}, {7, 16}, {129, 17}, {1000, 3}, {3001, 64}, {500, 100}, {40, 1500}, {9000, 16}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const DType types[] = {DTYPE_F32, DTYPE_BF16};

static ToleranceKind stored(DType type) {
    return type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
}

/* Fewer where a thread costs much more than a number. */
static int64_t rows_of(const Device *d, int shape) {
    const int64_t most = d->kind == DEVICE_CUDA ? 1203 : INT64_MAX;
    return shapes[shape].M < most ? shapes[shape].M : most;
}

static void sums_case(Device *d, DType type, int64_t M, int C) {
    Tensor x = tensor_random(d, type, M * C, -1, 3, 1), sums = tensor_new(d, DTYPE_F64, 2 * C);
    double *xs = tensor_values(&x), *want = zeros(2 * C);
    for (int64_t i = 0; i < M * C; i++) {
        want[i % C] += xs[i];
        want[C + i % C] += xs[i] * xs[i];
    }
    const int threads = d->threads, most = d->kind == DEVICE_CPU ? 3 : 1;
    for (d->threads = 1; d->threads <= most; d->threads++) {
        d->ops->norm->sums(d, M, C, type, x.data, sums.data);
        assert_true(tensor_equals("sums", &sums, want, TOLERANCE_F32));
        double *first = tensor_values(&sums);
        d->ops->norm->sums(d, M, C, type, x.data, sums.data);
        assert_true(tensor_equals("sums again", &sums, first, TOLERANCE_EXACT));
        free(first);
    }
    d->threads = threads;
    free(xs), free(want);
    tensor_free(&x), tensor_free(&sums);
}

static void test_sums(void **state) {
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < SHAPES; s++)
            sums_case(*state, types[t], rows_of(*state, s), shapes[s].C);
}

/* As many rows as cut a pass into more than one wave of blocks on a GPU of three multiprocessors. */
static const struct {
    DType type;
    int64_t M;
    int C;
} long_shapes[] = {{DTYPE_F32, 25000, 64}, {DTYPE_BF16, 4000, 100}};
enum { LONG_SHAPES = sizeof long_shapes / sizeof *long_shapes };

static void test_sums_of_many_rows(void **state) {
    for (int s = 0; s < LONG_SHAPES; s++)
        sums_case(*state, long_shapes[s].type, long_shapes[s].M, long_shapes[s].C);
}

static void finalize_case(Device *d, double count, int with_running) {
    enum { C = 37 };
    const float eps = 1e-5f, momentum = 0.1f;
    Tensor gamma = tensor_random(d, DTYPE_F32, C, 0.5, 2, 1), beta = tensor_random(d, DTYPE_F32, C, -1, 1, 2);
    Tensor rm = tensor_random(d, DTYPE_F32, C, -1, 1, 3), rv = tensor_random(d, DTYPE_F32, C, 0.5, 2, 4);
    Tensor out[4], sums = tensor_new(d, DTYPE_F64, 2 * C);
    double totals[2 * C], want[4][C], *g = tensor_values(&gamma), *b = tensor_values(&beta);
    double *m = tensor_values(&rm), *v = tensor_values(&rv);
    for (int i = 0; i < 4; i++)
        out[i] = tensor_random(d, DTYPE_F32, C, -1, 1, (uint64_t)(10 + i));
    for (int c = 0; c < C; c++) {
        double mean = 0.05 * c - 1, variance = count == 1 ? 0 : 0.1 + 0.03 * c;
        totals[c] = mean * count;
        totals[C + c] = (variance + mean * mean) * count;
        want[0][c] = mean;
        want[1][c] = 1 / sqrt(variance + (double)eps);
        want[2][c] = g[c] * want[1][c];
        want[3][c] = b[c] - mean * want[2][c];
        m[c] += (double)momentum * (mean - m[c]);
        v[c] += (double)momentum * (variance * (count > 1 ? count / (count - 1) : 1) - v[c]);
    }
    tensor_set(&sums, totals);
    const NormStatistics stats = {out[0].data, out[1].data, out[2].data, out[3].data};
    const NormParameters parameters = {
        gamma.data, beta.data, with_running ? rm.data : NULL, with_running ? rv.data : NULL, eps, momentum};
    d->ops->norm->finalize(d, C, sums.data, count, &parameters, &stats);
    const char *names[] = {"mean", "invstd", "scale", "shift"};
    for (int i = 0; i < 4; i++) {
        assert_true(tensor_equals(names[i], &out[i], want[i], TOLERANCE_F32));
        tensor_free(&out[i]);
    }
    if (with_running) {
        assert_true(tensor_equals("running mean", &rm, m, TOLERANCE_F32));
        assert_true(tensor_equals("running var", &rv, v, TOLERANCE_F32));
    }
    free(g), free(b), free(m), free(v);
    tensor_free(&gamma), tensor_free(&beta), tensor_free(&rm), tensor_free(&rv), tensor_free(&sums);
}

static void test_finalize(void **state) {
    finalize_case(*state, 640, 1);
    finalize_case(*state, 640, 0);
    finalize_case(*state, 2, 1);
}

/* One position has variance 0 up to the rounding of mean^2: a cancellation only eps hides, so eps is large here. */
static void test_finalize_one_position(void **state) {
    Device *d = *state;
    double totals[2] = {3, 9}, want_mean[1] = {3}, want_var[1] = {0.9 * 2};
    Tensor sums = tensor_new(d, DTYPE_F64, 2), one = tensor_random(d, DTYPE_F32, 1, 1, 1, 1);
    Tensor out = tensor_new(d, DTYPE_F32, 4), rm = tensor_random(d, DTYPE_F32, 1, 3, 3, 1);
    Tensor rv = tensor_random(d, DTYPE_F32, 1, 2, 2, 1);
    float *o = out.data;
    tensor_set(&sums, totals);
    const NormStatistics stats = {o, o + 1, o + 2, o + 3};
    const NormParameters parameters = {one.data, one.data, rm.data, rv.data, 1.0f, 0.1f};
    d->ops->norm->finalize(d, 1, sums.data, 1, &parameters, &stats);
    double want[4] = {3, 1, 1, -2};
    assert_true(tensor_equals("one position", &out, want, TOLERANCE_F32));
    assert_true(tensor_equals("running mean", &rm, want_mean, TOLERANCE_F32));
    assert_true(tensor_equals("running var", &rv, want_var, TOLERANCE_F32));
    double *before = tensor_values(&out);
    d->ops->norm->finalize(d, 1, sums.data, 0, &parameters, &stats);
    assert_true(tensor_equals("count 0", &out, before, TOLERANCE_EXACT));
    assert_true(tensor_equals("count 0, running mean", &rm, want_mean, TOLERANCE_F32));
    assert_true(tensor_equals("count 0, running var", &rv, want_var, TOLERANCE_F32));
    free(before);
    tensor_free(&sums), tensor_free(&one), tensor_free(&out), tensor_free(&rm), tensor_free(&rv);
}

/* Channels that are nearly constant, and exactly so: their variance is far below mean^2, and must not be its rounding.
 */
static void variance_case(Device *d, DType type, int64_t M, int C, double low, double high) {
    const float eps = 1e-5f;
    Tensor x = tensor_random(d, type, M * C, low, high, 1), sums = tensor_new(d, DTYPE_F64, 2 * C);
    Tensor one = tensor_random(d, DTYPE_F32, C, 1, 1, 1), out = tensor_new(d, DTYPE_F32, 4 * C);
    Tensor rm = tensor_zero(d, DTYPE_F32, C), rv = tensor_zero(d, DTYPE_F32, C);
    double *xs = tensor_values(&x), *want = zeros(C), *want_var = zeros(C), *want_mean = zeros(C);
    for (int64_t i = 0; i < M * C; i++)
        want_mean[i % C] += xs[i] / (double)M;
    for (int64_t i = 0; i < M * C; i++)
        want_var[i % C] += (xs[i] - want_mean[i % C]) * (xs[i] - want_mean[i % C]) / (double)(M - 1);
    for (int c = 0; c < C; c++)
        want[c] = 1 / sqrt(want_var[c] * (double)(M - 1) / (double)M + (double)eps);
    float *o = out.data;
    d->ops->norm->sums(d, M, C, type, x.data, sums.data);
    const NormStatistics stats = {o, o + C, o + 2 * C, o + 3 * C};
    const NormParameters parameters = {one.data, one.data, rm.data, rv.data, eps, 1.0f};
    d->ops->norm->finalize(d, C, sums.data, (double)M, &parameters, &stats);
    double *got = tensor_values(&out), *got_var = tensor_values(&rv);
    assert_true(compare_vectors("invstd of a nearly constant channel", C, got + C, want, TOLERANCE_F32));
    if (low < high)
        assert_true(compare_vectors("its running variance", C, got_var, want_var, TOLERANCE_F32));
    for (int c = 0; c < C && low == high; c++)
        assert_true(got_var[c] <= 1e-9 * low * low);
    free(xs), free(want), free(want_var), free(want_mean), free(got), free(got_var);
    tensor_free(&x), tensor_free(&sums), tensor_free(&one), tensor_free(&out), tensor_free(&rm), tensor_free(&rv);
}

static void test_variance_far_below_the_mean(void **state) {
    Device *d = *state;
    const int threads = d->threads, most = d->kind == DEVICE_CPU ? 3 : 1;
    for (int t = 0; t < 2; t++)
        for (d->threads = 1; d->threads <= most; d->threads++)
            for (int s = 0; s < SHAPES; s++) {
                const double spread =
                    types[t] == DTYPE_BF16 ? 100 : 1; /* bf16 has 8 bits: numbers near 1000 are 4 apart */
                if (shapes[s].M < 7)
                    continue;
                variance_case(d, types[t], rows_of(d, s), shapes[s].C, 1000 - spread, 1000 + spread);
                variance_case(d, types[t], rows_of(d, s), shapes[s].C, -50 - 0.1 * spread, -50);
                variance_case(d, types[t], rows_of(d, s), shapes[s].C, 3.3, 3.3);
            }
    d->threads = threads;
}

static void test_from_running(void **state) {
    Device *d = *state;
    enum { C = 21 };
    const float eps = 1e-3f;
    Tensor gamma = tensor_random(d, DTYPE_F32, C, 0.5, 2, 1), beta = tensor_random(d, DTYPE_F32, C, -1, 1, 2);
    Tensor rm = tensor_random(d, DTYPE_F32, C, -1, 1, 3), rv = tensor_random(d, DTYPE_F32, C, 0.5, 2, 4), out[4];
    double *g = tensor_values(&gamma), *b = tensor_values(&beta), *m = tensor_values(&rm), *v = tensor_values(&rv);
    double want[4][C];
    for (int c = 0; c < C; c++) {
        want[0][c] = m[c];
        want[1][c] = 1 / sqrt(v[c] + (double)eps);
        want[2][c] = g[c] * want[1][c];
        want[3][c] = b[c] - m[c] * want[2][c];
    }
    for (int i = 0; i < 4; i++)
        out[i] = tensor_new(d, DTYPE_F32, C);
    const NormStatistics stats = {out[0].data, out[1].data, out[2].data, out[3].data};
    const NormParameters parameters = {gamma.data, beta.data, rm.data, rv.data, eps, 0};
    d->ops->norm->from_running(d, C, &parameters, &stats);
    for (int i = 0; i < 4; i++) {
        assert_true(tensor_equals("from running", &out[i], want[i], TOLERANCE_F32));
        tensor_free(&out[i]);
    }
    free(g), free(b), free(m), free(v);
    tensor_free(&gamma), tensor_free(&beta), tensor_free(&rm), tensor_free(&rv);
}

enum { APPLY_RESIDUAL = 1, APPLY_RELU = 2, APPLY_OVER_RESIDUAL = 4 | APPLY_RESIDUAL, APPLY_OVER_X = 8 };
static const int apply_kinds[] = {
    0, APPLY_RESIDUAL, APPLY_RELU, APPLY_RELU | APPLY_RESIDUAL, APPLY_OVER_RESIDUAL, APPLY_RELU | APPLY_OVER_X};
enum { APPLY_KINDS = sizeof apply_kinds / sizeof *apply_kinds };

static void apply_case(Device *d, DType type, int64_t M, int C, int kind) {
    const int with_residual = kind & APPLY_RESIDUAL, relu = (kind & APPLY_RELU) != 0;
    Tensor x = tensor_random(d, type, M * C, -1, 1, 1), residual = tensor_random(d, type, M * C, -1, 1, 2);
    Tensor scale = tensor_random(d, DTYPE_F32, C, -2, 2, 3), shift = tensor_random(d, DTYPE_F32, C, -1, 1, 4);
    Tensor y = tensor_new(d, type, M * C);
    double *xs = tensor_values(&x), *rs = tensor_values(&residual), *sc = tensor_values(&scale);
    double *sh = tensor_values(&shift), *want = zeros(M * C);
    for (int64_t i = 0; i < M * C; i++) {
        want[i] = xs[i] * sc[i % C] + sh[i % C] + (with_residual ? rs[i] : 0);
        if (relu && want[i] < 0)
            want[i] = 0;
    }
    Tensor *out = kind & APPLY_OVER_X ? &x : (kind & APPLY_OVER_RESIDUAL) == APPLY_OVER_RESIDUAL ? &residual : &y;
    const NormStatistics stats = {.scale = scale.data, .shift = shift.data};
    d->ops->norm->apply(d, M, C, type, x.data, &stats, with_residual ? residual.data : NULL, relu, out->data);
    assert_true(tensor_equals("apply", out, want, stored(type)));
    free(xs), free(rs), free(sc), free(sh), free(want);
    tensor_free(&x), tensor_free(&residual), tensor_free(&scale), tensor_free(&shift), tensor_free(&y);
}

static void test_apply(void **state) {
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < SHAPES; s++)
            for (int kind = 0; kind < APPLY_KINDS; kind++)
                apply_case(*state, types[t], rows_of(*state, s), shapes[s].C, apply_kinds[kind]);
}

/* ReLU must not turn NaN into 0: the guard has to see it. */
static void test_apply_keeps_nan(void **state) {
    Device *d = *state;
    for (int t = 0; t < 2; t++) {
        double values[3] = {1, NAN, -1};
        Tensor x = tensor_new(d, types[t], 3), scale = tensor_random(d, DTYPE_F32, 1, 1, 1, 1);
        Tensor shift = tensor_zero(d, DTYPE_F32, 1), y = tensor_zero(d, types[t], 3);
        tensor_set(&x, values);
        const NormStatistics stats = {.scale = scale.data, .shift = shift.data};
        d->ops->norm->apply(d, 3, 1, types[t], x.data, &stats, NULL, 1, y.data);
        double *got = tensor_values(&y);
        assert_true(got[0] == 1 && isnan(got[1]) && got[2] == 0);
        free(got);
        tensor_free(&x), tensor_free(&scale), tensor_free(&shift), tensor_free(&y);
    }
}

enum { KIND_RELU = 1, KIND_RECOMPUTE = 2, KIND_SECOND = 4, KIND_NO_SUMS = 8, KINDS = 16 };

static void backward_sums_case(Device *d, DType type, int64_t M, int C, int kind) {
    int64_t n = M * C;
    Tensor dy = tensor_random(d, type, n, -1, 1, 1), dy2 = tensor_random(d, type, n, -1, 1, 2);
    Tensor x = tensor_random(d, type, n, -1, 1, 3), y = tensor_random(d, type, n, -1, 1, 4);
    Tensor mean = tensor_random(d, DTYPE_F32, C, -1, 1, 5), invstd = tensor_random(d, DTYPE_F32, C, 0.5, 2, 6);
    Tensor scale = tensor_random(d, DTYPE_F32, C, -2, 2, 7), shift = tensor_random(d, DTYPE_F32, C, -1, 1, 8);
    Tensor sums = tensor_new(d, DTYPE_F64, 2 * C);
    double *g = tensor_values(&dy), *g2 = tensor_values(&dy2), *xs = tensor_values(&x), *ys = tensor_values(&y);
    double *m = tensor_values(&mean), *iv = tensor_values(&invstd), *sc = tensor_values(&scale);
    double *sh = tensor_values(&shift), *want = zeros(2 * C);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = i % C;
        double out = kind & KIND_RECOMPUTE ? xs[i] * sc[c] + sh[c] : ys[i];
        if (kind & KIND_SECOND)
            g[i] += g2[i];
        if (kind & KIND_RELU && !(out > 0))
            g[i] = 0;
        want[c] += g[i];
        want[C + c] += g[i] * (xs[i] - m[c]) * iv[c];
    }
    int no_sums = kind & KIND_NO_SUMS;
    const NormStatistics stats = {mean.data, invstd.data, scale.data, shift.data};
    d->ops->norm->backward_sums(d, M, C, type, dy.data, kind & KIND_SECOND ? dy2.data : NULL,
                                kind & KIND_RECOMPUTE ? NULL : y.data, x.data, &stats, kind & KIND_RELU,
                                no_sums ? NULL : sums.data);
    assert_true(tensor_equals("dz", &dy, g, stored(type)));
    if (!no_sums)
        assert_true(tensor_equals("backward sums", &sums, want, TOLERANCE_F32));
    free(g), free(g2), free(xs), free(ys), free(m), free(iv), free(sc), free(sh), free(want);
    tensor_free(&dy), tensor_free(&dy2), tensor_free(&x), tensor_free(&y), tensor_free(&mean), tensor_free(&invstd);
    tensor_free(&scale), tensor_free(&shift), tensor_free(&sums);
}

static void test_backward_sums(void **state) {
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < SHAPES; s++)
            for (int kind = 0; kind < KINDS; kind++)
                backward_sums_case(*state, types[t], rows_of(*state, s), shapes[s].C, kind);
}

static void test_backward_sums_of_many_rows(void **state) {
    for (int s = 0; s < LONG_SHAPES; s++)
        backward_sums_case(*state, long_shapes[s].type, long_shapes[s].M, long_shapes[s].C,
                           KIND_RELU | KIND_RECOMPUTE | KIND_SECOND);
}

static void test_backward_params(void **state) {
    Device *d = *state;
    enum { C = 19 };
    Tensor sums = tensor_random(d, DTYPE_F64, 2 * C, -5, 5, 1), dgamma = tensor_random(d, DTYPE_F32, C, -1, 1, 2);
    Tensor dbeta = tensor_random(d, DTYPE_F32, C, -1, 1, 3);
    double *s = tensor_values(&sums), *g = tensor_values(&dgamma), *b = tensor_values(&dbeta);
    for (int c = 0; c < C; c++) {
        g[c] += s[C + c];
        b[c] += s[c];
    }
    d->ops->norm->backward_params(d, C, sums.data, dgamma.data, dbeta.data);
    assert_true(tensor_equals("dgamma", &dgamma, g, TOLERANCE_F32));
    assert_true(tensor_equals("dbeta", &dbeta, b, TOLERANCE_F32));
    free(s), free(g), free(b);
    tensor_free(&sums), tensor_free(&dgamma), tensor_free(&dbeta);
}

static void backward_apply_case(Device *d, DType type, int64_t M, int C, int batch, int in_place) {
    int64_t n = M * C;
    double count = (double)M * 2 + 1; /* other ranks hold rows too */
    Tensor dz = tensor_random(d, type, n, -1, 1, 1), x = tensor_random(d, type, n, -1, 1, 2), dx;
    Tensor mean = tensor_random(d, DTYPE_F32, C, -1, 1, 3), invstd = tensor_random(d, DTYPE_F32, C, 0.5, 2, 4);
    Tensor scale = tensor_random(d, DTYPE_F32, C, -2, 2, 5),
           sums = tensor_random(d, DTYPE_F64, 2 * C, -count, count, 6);
    double *g = tensor_values(&dz), *xs = tensor_values(&x), *m = tensor_values(&mean), *iv = tensor_values(&invstd);
    double *sc = tensor_values(&scale), *s = tensor_values(&sums), *want = zeros(n);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = i % C;
        double hat = (xs[i] - m[c]) * iv[c];
        want[i] = sc[c] * (g[i] - (batch ? s[c] / count + hat * s[C + c] / count : 0));
    }
    dx = tensor_new(d, type, n);
    Tensor *out = in_place ? &dz : &dx;
    const NormStatistics stats = {.mean = mean.data, .invstd = invstd.data, .scale = scale.data};
    d->ops->norm->backward_apply(d, M, C, type, dz.data, x.data, &stats, batch ? sums.data : NULL, count, out->data);
    assert_true(tensor_equals("backward apply", out, want, stored(type)));
    free(g), free(xs), free(m), free(iv), free(sc), free(s), free(want);
    tensor_free(&dz), tensor_free(&x), tensor_free(&dx), tensor_free(&mean), tensor_free(&invstd);
    tensor_free(&scale), tensor_free(&sums);
}

static void test_backward_apply(void **state) {
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < SHAPES; s++)
            for (int kind = 0; kind < 4; kind++)
                backward_apply_case(*state, types[t], rows_of(*state, s), shapes[s].C, kind & 1, kind >> 1);
}

/* A batch norm forward and backward, in place in `work` [M,C] from its element `at` on; what is left there is dx. */
static void layer_in_place(Device *d, DType type, int64_t M, int C, const Tensor *x, Tensor *work, int at,
                           const Tensor *vectors, Tensor *sums) {
    const Ops *ops = d->ops;
    float *mean = vectors->data;
    const NormStatistics stats = {mean, mean + C, mean + 2 * C, mean + 3 * C};
    void *v = (char *)work->data + (size_t)at * dtype_size(type);
    ops->memory->copy(d, v, x->data, (size_t)(M * C) * dtype_size(type));
    ops->norm->apply(d, M, C, type, v, &stats, x->data, 1, v);
    ops->norm->backward_sums(d, M, C, type, v, x->data, NULL, x->data, &stats, 1, sums->data);
    ops->norm->backward_apply(d, M, C, type, v, x->data, &stats, sums->data, (double)M, v);
    ops->norm->sums(d, M, C, type, v, sums->data);
}

/* Rows that do not begin at a multiple of 16 bytes though their length is one. */
static void test_unaligned(void **state) {
    Device *d = *state;
    enum { M = 77, C = 16 };
    for (int t = 0; t < 2; t++) {
        Tensor x = tensor_random(d, types[t], M * C, -1, 1, 1), stats = tensor_random(d, DTYPE_F32, 4 * C, 0.5, 2, 2);
        Tensor aligned = tensor_new(d, types[t], M * C), shifted = tensor_random(d, types[t], M * C + 1, 3, 3, 3);
        Tensor sums = tensor_new(d, DTYPE_F64, 2 * C), shifted_sums = tensor_new(d, DTYPE_F64, 2 * C);
        layer_in_place(d, types[t], M, C, &x, &aligned, 0, &stats, &sums);
        layer_in_place(d, types[t], M, C, &x, &shifted, 1, &stats, &shifted_sums);
        double *dx = tensor_values(&aligned), *want = zeros(M * C + 1), *want_sums = tensor_values(&sums);
        memcpy(want + 1, dx, M * C * sizeof *dx);
        want[0] = 3;
        assert_true(tensor_equals("dx one element on", &shifted, want, stored(types[t])));
        assert_true(tensor_equals("its sums", &shifted_sums, want_sums, stored(types[t])));
        free(dx), free(want), free(want_sums);
        tensor_free(&x), tensor_free(&stats), tensor_free(&aligned), tensor_free(&shifted);
        tensor_free(&sums), tensor_free(&shifted_sums);
    }
}

static void test_fold(void **state) {
    Device *d = *state;
    for (int t = 0; t < 2; t++) {
        int K = 33, n = 27 * 17;
        Tensor w = tensor_random(d, DTYPE_F32, (int64_t)K * n, -1, 1, 1),
               scale = tensor_random(d, DTYPE_F32, K, -2, 2, 2);
        Tensor out = tensor_new(d, types[t], (int64_t)K * n);
        double *want = tensor_values(&w), *s = tensor_values(&scale);
        for (int i = 0; i < K * n; i++)
            want[i] *= s[i / n];
        d->ops->norm->fold(d, K, n, w.data, scale.data, types[t], out.data);
        assert_true(tensor_equals("fold", &out, want, stored(types[t])));
        free(want), free(s);
        tensor_free(&w), tensor_free(&scale), tensor_free(&out);
    }
}

/* sum(r * relu(norm(x) + residual)) in double. */
static double layer_loss(int64_t M, int C, const double *x, const double *gamma, const double *beta,
                         const double *residual, const double *r, double eps) {
    double loss = 0;
    for (int c = 0; c < C; c++) {
        double mean = 0, variance = 0;
        for (int64_t m = 0; m < M; m++)
            mean += x[m * C + c] / (double)M;
        for (int64_t m = 0; m < M; m++)
            variance += (x[m * C + c] - mean) * (x[m * C + c] - mean) / (double)M;
        for (int64_t m = 0; m < M; m++) {
            double y = (x[m * C + c] - mean) / sqrt(variance + eps) * gamma[c] + beta[c] + residual[m * C + c];
            loss += y > 0 ? r[m * C + c] * y : 0;
        }
    }
    return loss;
}

static void test_layer_finite_differences(void **state) {
    Device *d = *state;
    enum { M = 45, C = 6, PROBES = 30 };
    const float eps = 1e-5f;
    Tensor x = tensor_random(d, DTYPE_F32, M * C, -1, 2, 1), residual = tensor_random(d, DTYPE_F32, M * C, -1, 1, 2);
    Tensor gamma = tensor_random(d, DTYPE_F32, C, 0.5, 2, 3), beta = tensor_random(d, DTYPE_F32, C, -1, 1, 4);
    Tensor dy = tensor_random(d, DTYPE_F32, M * C, -1, 1, 5), sums = tensor_new(d, DTYPE_F64, 2 * C);
    Tensor y = tensor_new(d, DTYPE_F32, M * C), vectors = tensor_new(d, DTYPE_F32, 4 * C);
    Tensor dgamma = tensor_zero(d, DTYPE_F32, C), dbeta = tensor_zero(d, DTYPE_F32, C);
    double *xs = tensor_values(&x), *rs = tensor_values(&residual), *g = tensor_values(&gamma),
           *b = tensor_values(&beta);
    double *r = tensor_values(&dy);
    float *mean = vectors.data;
    const NormStatistics stats = {mean, mean + C, mean + 2 * C, mean + 3 * C};
    const NormParameters parameters = {gamma.data, beta.data, NULL, NULL, eps, 0.1f};
    const Ops *ops = d->ops;
    ops->norm->sums(d, M, C, DTYPE_F32, x.data, sums.data);
    ops->norm->finalize(d, C, sums.data, M, &parameters, &stats);
    ops->norm->apply(d, M, C, DTYPE_F32, x.data, &stats, residual.data, 1, y.data);
    ops->norm->backward_sums(d, M, C, DTYPE_F32, dy.data, NULL, y.data, x.data, &stats, 1, sums.data);
    ops->norm->backward_params(d, C, sums.data, dgamma.data, dbeta.data);
    double *dresidual = tensor_values(&dy);
    ops->norm->backward_apply(d, M, C, DTYPE_F32, dy.data, x.data, &stats, sums.data, M, dy.data);
    double *dx = tensor_values(&dy), *dg = tensor_values(&dgamma), *db = tensor_values(&dbeta);
    double *inputs[] = {xs, rs, g, b}, *gradients[] = {dx, dresidual, dg, db};
    const char *names[] = {"dx", "dresidual", "dgamma", "dbeta"};
    for (int input = 0; input < 4; input++) {
        int n = input < 2 ? M * C : C, probes = n < PROBES ? n : PROBES;
        double got[PROBES], want[PROBES], step = 1e-5;
        for (int probe = 0; probe < probes; probe++) {
            int at = (int)((int64_t)probe * (n - 1) / (probes - 1));
            double *entry = &inputs[input][at], kept = *entry, sides[2];
            for (int side = 0; side < 2; side++) {
                *entry = kept + (side ? step : -step);
                sides[side] = layer_loss(M, C, xs, g, b, rs, r, (double)eps);
            }
            *entry = kept;
            want[probe] = (sides[1] - sides[0]) / (2 * step);
            got[probe] = gradients[input][at];
        }
        assert_true(compare_vectors(names[input], probes, got, want, TOLERANCE_DIFFERENCE));
    }
    free(xs), free(rs), free(g), free(b), free(r), free(dresidual), free(dx), free(dg), free(db);
    tensor_free(&x), tensor_free(&residual), tensor_free(&gamma), tensor_free(&beta), tensor_free(&dy);
    tensor_free(&sums), tensor_free(&y), tensor_free(&vectors), tensor_free(&dgamma), tensor_free(&dbeta);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_sums_of_many_rows),
        cmocka_unit_test(test_finalize),
        cmocka_unit_test(test_finalize_one_position),
        cmocka_unit_test(test_variance_far_below_the_mean),
        cmocka_unit_test(test_from_running),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_apply_keeps_nan),
        cmocka_unit_test(test_backward_sums),
        cmocka_unit_test(test_backward_sums_of_many_rows),
        cmocka_unit_test(test_backward_params),
        cmocka_unit_test(test_backward_apply),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_layer_finite_differences),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
