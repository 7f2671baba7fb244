/* Convert, pool, optimise and guard against closed forms and naive double references. */
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

static const DType types[] = {DTYPE_F32, DTYPE_BF16};
static const int64_t lengths[] = {0, 1, 15, 1000, 20011};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static ToleranceKind stored(DType type) {
    return type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
}

/* ---- convert ---- */

static void test_cast(void **state) {
    Device *d = *state;
    for (int from = 0; from < 2; from++)
        for (int to = 0; to < 2; to++)
            for (int i = 0; i < LENGTHS; i++) {
                Tensor x = tensor_random(d, types[from], lengths[i], -1e3, 1e3, 1);
                Tensor y = tensor_new(d, types[to], lengths[i]), rounded = tensor_new(d, types[to], lengths[i]);
                double *xs = tensor_values(&x);
                tensor_set(&rounded, xs);
                double *want = tensor_values(&rounded);
                d->ops->convert->cast(d, lengths[i], types[from], x.data, types[to], y.data);
                assert_true(tensor_equals("cast", &y, want, TOLERANCE_EXACT));
                free(xs), free(want);
                tensor_free(&x), tensor_free(&y), tensor_free(&rounded);
            }
}

/* Bit patterns with known answers: ties to even both ways, overflow to infinity, signs, subnormals, NaN payloads. */
static void test_cast_edges(void **state) {
    Device *d = *state;
    const struct {
        uint32_t f32;
        uint16_t bf16;
    } known[] = {{0x3F808000, 0x3F80}, {0x3F818000, 0x3F82}, {0x3F808001, 0x3F81},
                 {0x7F7FFFFF, 0x7F80}, {0xFF800000, 0xFF80}, {0x80000000, 0x8000},
                 {0x00000001, 0x0000}, {0x00018000, 0x0002}, {0x00010000, 0x0001}};
    enum { KNOWN = sizeof known / sizeof *known };
    uint32_t bits[KNOWN + 2];
    uint16_t got[KNOWN + 2];
    for (int i = 0; i < KNOWN; i++)
        bits[i] = known[i].f32;
    bits[KNOWN] = 0x7F800001;
    bits[KNOWN + 1] = 0xFFFFFFFF;
    Tensor in = tensor_new(d, DTYPE_F32, KNOWN + 2), out = tensor_new(d, DTYPE_BF16, KNOWN + 2);
    d->ops->memory->copy_in(d, in.data, bits, sizeof bits);
    d->ops->convert->cast(d, KNOWN + 2, DTYPE_F32, in.data, DTYPE_BF16, out.data);
    d->ops->memory->copy_out(d, got, out.data, sizeof got);
    for (int i = 0; i < KNOWN; i++)
        assert_int_equal(got[i], known[i].bf16);
    for (int i = KNOWN; i < KNOWN + 2; i++)
        assert_true((got[i] & 0x7F80) == 0x7F80 && (got[i] & 0x7F) != 0);
    assert_true(tensor_guards_hold(&out));
    tensor_free(&in), tensor_free(&out);
}

static void gather_case(Device *d, int n, int width) {
    enum { ROWS = 50 };
    Tensor src = tensor_random(d, DTYPE_U8, ROWS * width, 0, 256, 1),
           dst = tensor_random(d, DTYPE_U8, n * width, 0, 256, 2);
    Tensor index = tensor_random(d, DTYPE_I32, n, -20, ROWS, 3);
    double *s = tensor_values(&src), *want = tensor_values(&dst), *at = tensor_values(&index);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < width; k++)
            if (at[i] >= 0)
                want[i * width + k] = s[(int)at[i] * width + k];
    d->ops->convert->gather_rows(d, n, (size_t)width, src.data, index.data, dst.data);
    assert_true(tensor_equals("gather", &dst, want, TOLERANCE_EXACT));
    free(s), free(want), free(at);
    tensor_free(&src), tensor_free(&dst), tensor_free(&index);
}

static void test_gather_rows(void **state) {
    const int widths[] = {0, 1, 333, 336};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int n = 0; n <= 64; n += 32)
            gather_case(*state, n, widths[w]);
}

static void test_add(void **state) {
    Device *d = *state;
    for (int i = 0; i < LENGTHS; i++) {
        Tensor x = tensor_random(d, DTYPE_F32, lengths[i], -1, 1, 1),
               y = tensor_random(d, DTYPE_F32, lengths[i], -1, 1, 2);
        double *xs = tensor_values(&x), *want = tensor_values(&y);
        for (int64_t k = 0; k < lengths[i]; k++)
            want[k] += xs[k];
        d->ops->convert->add(d, lengths[i], x.data, y.data);
        assert_true(tensor_equals("add", &y, want, TOLERANCE_F32));
        free(xs), free(want);
        tensor_free(&x), tensor_free(&y);
    }
}

static void test_sum(void **state) {
    Device *d = *state;
    for (int i = 0; i < LENGTHS; i++) {
        Tensor x = tensor_random(d, DTYPE_F32, lengths[i], -1, 2, 1), out = tensor_new(d, DTYPE_F64, 1);
        double *xs = tensor_values(&x), want[1] = {0};
        for (int64_t k = 0; k < lengths[i]; k++)
            want[0] += 0.25 * xs[k];
        for (int again = 0; again < 2; again++) {
            d->ops->convert->sum(d, lengths[i], x.data, 0.25, out.data);
            assert_true(tensor_equals("sum", &out, want, TOLERANCE_F32));
        }
        free(xs);
        tensor_free(&x), tensor_free(&out);
    }
}

static void test_layouts(void **state) {
    Device *d = *state;
    for (int t = 0; t < 2; t++)
        for (int n = 0; n <= 6; n += 3) {
            int c = 5, hw = 77;
            int64_t count = (int64_t)n * c * hw;
            Tensor src = tensor_random(d, DTYPE_F32, count, -1, 1, 1), nhwc = tensor_new(d, types[t], count);
            Tensor back = tensor_new(d, DTYPE_F32, count);
            double *s = tensor_values(&src), *want = zeros(count);
            for (int64_t i = 0; i < count; i++)
                want[(i / (c * hw) * hw + i % hw) * c + i / hw % c] = s[i];
            d->ops->convert->nchw_to_nhwc(d, n, c, hw, src.data, types[t], nhwc.data);
            assert_true(tensor_equals("nhwc", &nhwc, want, stored(types[t])));
            d->ops->convert->nhwc_to_nchw(d, n, c, hw, types[t], nhwc.data, back.data);
            assert_true(tensor_equals("nchw", &back, s, stored(types[t])));
            free(s), free(want);
            tensor_free(&src), tensor_free(&nhwc), tensor_free(&back);
        }
}

/* ---- pool ---- */

static void pool_case(Device *d, DType type, int64_t N, int HW, int C) {
    Tensor x = tensor_random(d, type, N * HW * C, -1, 2, 1), features = tensor_new(d, DTYPE_F32, N * C);
    Tensor df = tensor_random(d, DTYPE_F32, N * C, -1, 1, 2), dx = tensor_new(d, type, N * HW * C);
    double *xs = tensor_values(&x), *dfs = tensor_values(&df), *want = zeros(N * C), *want_dx = zeros(N * HW * C);
    for (int64_t i = 0; i < N * HW * C; i++) {
        int64_t feature = i / ((int64_t)HW * C) * C + i % C;
        want[feature] += xs[i] / HW;
        want_dx[i] = dfs[feature] / HW;
    }
    d->ops->pool->forward(d, N, HW, C, type, x.data, features.data);
    d->ops->pool->backward(d, N, HW, C, type, df.data, dx.data);
    assert_true(tensor_equals("features", &features, want, TOLERANCE_F32));
    assert_true(tensor_equals("pool dx", &dx, want_dx, stored(type)));
    free(xs), free(dfs), free(want), free(want_dx);
    tensor_free(&x), tensor_free(&features), tensor_free(&df), tensor_free(&dx);
}

static void test_pool(void **state) {
    for (int t = 0; t < 2; t++) {
        pool_case(*state, types[t], 0, 16, 8);
        pool_case(*state, types[t], 1, 1, 1);
        pool_case(*state, types[t], 5, 49, 33);
        pool_case(*state, types[t], 9, 64, 128);
        pool_case(*state, types[t], 3, 2, 200);
        pool_case(*state, types[t], 2, 300, 24);
    }
}

/* ---- optimise and guard ---- */

/* Ranges of larger arrays: `p_at` elements into that of parameters, `at` into the others. */
static void sgd_case(Device *d, int64_t n, int with_low, int at, int p_at) {
    SgdStep step = {0.05f, 0.9f, 1e-2f};
    Tensor g = tensor_random(d, DTYPE_F32, at + n, -1, 1, 1), v = tensor_random(d, DTYPE_F32, at + n, -1, 1, 2);
    Tensor p = tensor_random(d, DTYPE_F32, p_at + n, -1, 1, 3), low = tensor_random(d, DTYPE_BF16, at + n, -1, 1, 4);
    double *gs = tensor_values(&g), *vs = tensor_values(&v), *ps = tensor_values(&p), *lows = tensor_values(&low);
    for (int64_t k = 0; k < n; k++) {
        double *velocity = &vs[at + k], *parameter = &ps[p_at + k];
        *velocity = (double)step.momentum * *velocity + gs[at + k] + (double)step.weight_decay * *parameter;
        *parameter -= (double)step.lr * *velocity;
        if (with_low)
            lows[at + k] = *parameter;
    }
    d->ops->optimise->sgd(d, n, &step, (float *)g.data + at, (float *)v.data + at, (float *)p.data + p_at,
                          with_low ? (uint16_t *)low.data + at : NULL);
    assert_true(tensor_equals("velocity", &v, vs, TOLERANCE_F32));
    assert_true(tensor_equals("parameter", &p, ps, TOLERANCE_F32));
    assert_true(tensor_equals("bf16 copy", &low, lows, TOLERANCE_BF16));
    free(gs), free(vs), free(ps), free(lows);
    tensor_free(&g), tensor_free(&v), tensor_free(&p), tensor_free(&low);
}

static void test_sgd(void **state) {
    for (int with_low = 0; with_low < 2; with_low++) {
        for (int i = 0; i < LENGTHS; i++)
            sgd_case(*state, lengths[i], with_low, 0, 0);
        for (int at = 1; at <= 16; at += at < 4 ? 1 : 12)
            for (int n = 1; n <= 103; n += 34)
                sgd_case(*state, n, with_low, at, at);
        sgd_case(*state, 103, with_low, 0, 1);
        sgd_case(*state, 103, with_low, 3, 0);
    }
}

/* Tensors of an array: one in three pieces, one that is not adapted, one without gradient, one of zeros. */
static const LarsPiece lars_pieces[] = {
    {0, 40, 0, 3, 1, 0},   {40, 40, 1, 3, 1, 0},  {80, 21, 2, 3, 1, 0},
    {112, 33, 0, 1, 0, 0}, {160, 17, 0, 1, 1, 0}, {192, 5, 0, 1, 1, 0},
};
enum { LARS_PIECES = sizeof lars_pieces / sizeof *lars_pieces, LARS_ARRAY = 200 };

/* What LARS is, over the pieces [first, first + n) of one tensor. */
static void lars_reference(const LarsStep *step, int first, int n, const double *g, double *v, double *p) {
    double p2 = 0, g2 = 0, rate = (double)step->lr;
    const int adapted = lars_pieces[first].adapted;
    const int64_t begin = lars_pieces[first].begin,
                  end = lars_pieces[first + n - 1].begin + lars_pieces[first + n - 1].count;
    const double decay = adapted ? (double)step->weight_decay : 0;
    for (int64_t i = begin; i < end; i++) {
        p2 += p[i] * p[i];
        g2 += g[i] * g[i];
    }
    if (adapted && p2 > 0 && g2 > 0)
        rate *= (double)step->trust * sqrt(p2) / (sqrt(g2) + decay * sqrt(p2));
    for (int64_t i = begin; i < end; i++) {
        v[i] = (double)step->momentum * v[i] + rate * (g[i] + decay * p[i]);
        p[i] -= v[i];
    }
}

/* All tensors, or those from the second on alone. */
static void lars_case(Device *d, int with_low, int first) {
    const LarsStep step = {0.3f, 0.9f, 1e-2f, 0.1f};
    Tensor g = tensor_random(d, DTYPE_F32, LARS_ARRAY, -1, 1, 1), v = tensor_random(d, DTYPE_F32, LARS_ARRAY, -1, 1, 2);
    Tensor p = tensor_random(d, DTYPE_F32, LARS_ARRAY, -1, 1, 3),
           low = tensor_random(d, DTYPE_BF16, LARS_ARRAY, -1, 1, 4);
    Tensor sums = tensor_new(d, DTYPE_F64, 2 * LARS_PIECES);
    double *gs = tensor_values(&g), *vs = tensor_values(&v), *ps = tensor_values(&p), *lows = tensor_values(&low);
    for (int i = 160; i < 177; i++)
        gs[i] = 0;
    for (int i = 192; i < 197; i++)
        ps[i] = 0;
    tensor_set(&g, gs);
    tensor_set(&p, ps);
    for (int i = first; i < LARS_PIECES; i += lars_pieces[i].pieces)
        lars_reference(&step, i, lars_pieces[i].pieces, gs, vs, ps);
    for (int i = first; i < LARS_PIECES && with_low; i++)
        for (int64_t k = lars_pieces[i].begin; k < lars_pieces[i].begin + lars_pieces[i].count; k++)
            lows[k] = ps[k];
    void *pieces = NULL;
    Error err;
    assert_int_equal(d->ops->memory->alloc(d, sizeof lars_pieces, &pieces, &err), STATUS_OK);
    d->ops->memory->copy_in(d, pieces, lars_pieces, sizeof lars_pieces);
    d->ops->optimise->lars(d, LARS_PIECES - first, (const LarsPiece *)pieces + first, &step, g.data, v.data, p.data,
                           with_low ? low.data : NULL, sums.data);
    assert_true(tensor_equals("velocity", &v, vs, TOLERANCE_F32));
    assert_true(tensor_equals("parameter", &p, ps, TOLERANCE_F32));
    assert_true(tensor_equals("bf16 copy", &low, lows, TOLERANCE_BF16));
    d->ops->memory->release(d, pieces, sizeof lars_pieces);
    free(gs), free(vs), free(ps), free(lows);
    tensor_free(&g), tensor_free(&v), tensor_free(&p), tensor_free(&low), tensor_free(&sums);
}

static void test_lars(void **state) {
    for (int with_low = 0; with_low < 2; with_low++) {
        lars_case(*state, with_low, 0);
        lars_case(*state, with_low, 3);
        lars_case(*state, with_low, LARS_PIECES);
    }
}

static void guard_case(Device *d, int64_t n, int at) {
    const double bad[] = {NAN, INFINITY, -INFINITY, 3.4028234e38, 1e-42, 0};
    Tensor x = tensor_random(d, DTYPE_F32, at + n, -3e38, 3e38, 1), count = tensor_random(d, DTYPE_I64, 1, 5, 5.5, 2);
    double *xs = tensor_values(&x), want[1] = {5};
    for (int k = 0; k < at; k++)
        xs[k] = NAN; /* not part of what is looked at */
    for (int64_t k = 0; k < n; k += 7) {
        xs[at + k] = bad[k % 6];
        want[0] += k % 6 < 3;
    }
    tensor_set(&x, xs);
    d->ops->optimise->nonfinite(d, n, (float *)x.data + at, count.data);
    assert_true(tensor_equals("non-finite", &count, want, TOLERANCE_EXACT));
    free(xs);
    tensor_free(&x), tensor_free(&count);
}

static void test_guard(void **state) {
    for (int i = 0; i < LENGTHS; i++)
        for (int at = 0; at < 4; at++)
            guard_case(*state, lengths[i], at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cast),  cmocka_unit_test(test_cast_edges), cmocka_unit_test(test_gather_rows),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_sum),        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_pool),  cmocka_unit_test(test_sgd),        cmocka_unit_test(test_lars),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
