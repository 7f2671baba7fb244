/* Convolutions against a naive double reference: every pass and epilogue, odd sizes, many row counts, both types. A
 * CUDA device has two ways to compute them, im2col + cuBLAS and cuDNN; both are held against it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/products/conv_plan.h"
#include "tests/support/numbers/block.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

typedef struct Reference {
    ConvGeometry g;
    int64_t N;
    int P, Q;
    int64_t x_count, w_count, y_count;
} Reference;

static Reference reference_of(ConvGeometry g, int64_t N) {
    Reference r = {.g = g, .N = N, .P = conv_out(g.H, g.R, g.stride, g.pad), .Q = conv_out(g.W, g.R, g.stride, g.pad)};
    r.x_count = N * g.H * g.W * g.C;
    r.w_count = (int64_t)g.K * g.R * g.R * g.C;
    r.y_count = N * r.P * r.Q * g.K;
    return r;
}

/* Adds to exactly one of y, dx, dw (the others NULL) from the remaining two operands. */
static void reference_pass(const Reference *r, const double *x, const double *w, const double *y, double *y_out,
                           double *dx, double *dw) {
    const ConvGeometry *g = &r->g;
    for (int64_t n = 0; n < r->N; n++)
        for (int p = 0; p < r->P; p++)
            for (int q = 0; q < r->Q; q++)
                for (int k = 0; k < g->K; k++)
                    for (int i = 0; i < g->R; i++)
                        for (int j = 0; j < g->R; j++) {
                            int h = p * g->stride - g->pad + i, v = q * g->stride - g->pad + j;
                            if (h < 0 || h >= g->H || v < 0 || v >= g->W)
                                continue;
                            int64_t at_x = ((n * g->H + h) * g->W + v) * g->C;
                            int64_t at_w = (((int64_t)k * g->R + i) * g->R + j) * g->C;
                            int64_t at_y = ((n * r->P + p) * r->Q + q) * g->K + k;
                            for (int c = 0; c < g->C; c++) {
                                if (y_out)
                                    y_out[at_y] += x[at_x + c] * w[at_w + c];
                                if (dx)
                                    dx[at_x + c] += y[at_y] * w[at_w + c];
                                if (dw)
                                    dw[at_w + c] += y[at_y] * x[at_x + c];
                            }
                        }
}

static const ConvGeometry geometries[] = {
    {7, 5, 3, 8, 3, 1, 1},    {9, 9, 16, 32, 3, 2, 1},   {8, 8, 16, 24, 1, 2, 0}, {8, 6, 17, 5, 1, 1, 0},
    {11, 13, 3, 16, 7, 2, 3}, {10, 10, 64, 64, 3, 1, 1}, {8, 8, 32, 16, 3, 2, 1}, {3, 3, 5, 7, 3, 1, 0},
};
enum { GEOMETRIES = sizeof geometries / sizeof *geometries };

static ToleranceKind stored(DType type) {
    return type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
}

/* Weight gradients of bf16 tensors: products are exact in f32, but cuDNN rounds the gradient to bf16 before it is
 * added. */
static ToleranceKind weight_gradient(const Device *d, DType type) {
    return d->kind == DEVICE_CUDA && !d->plain_conv ? stored(type) : TOLERANCE_F32;
}

static void every_way(void **state, void (*test)(Device *)) {
    Device *d = *state;
    test(d);
    if (d->kind != DEVICE_CUDA)
        return;
    d->plain_conv = 1;
    test(d);
    d->plain_conv = 0;
}

static ConvPlan *plan_of(Device *device, const ConvGeometry *g, DType type) {
    ConvPlan *plan;
    Error err;
    if (device->ops->conv->create(device, g, type, &plan, &err) == STATUS_OK)
        return plan;
    fail_msg("no such convolution here: %s", err.message);
    return NULL;
}

static void check_forward(Device *d, ConvPlan *plan, const Reference *r, DType type, const ConvEpilogue *wanted) {
    Tensor x = tensor_random(d, type, r->x_count, -1, 1, 1), w = tensor_random(d, type, r->w_count, -1, 1, 2);
    Tensor bias = tensor_random(d, DTYPE_F32, r->g.K, -1, 1, 3), y = tensor_random(d, type, r->y_count, -2, 2, 4);
    double *xs = tensor_values(&x), *ws = tensor_values(&w), *bs = tensor_values(&bias), *ys = tensor_values(&y);
    double *want = zeros(r->y_count);
    reference_pass(r, xs, ws, NULL, want, NULL, NULL);
    ConvEpilogue epilogue = {0};
    if (wanted) {
        epilogue = (ConvEpilogue){wanted->bias ? bias.data : NULL, wanted->add, wanted->relu};
        for (int64_t i = 0; i < r->y_count; i++) {
            want[i] += (wanted->bias ? bs[i % r->g.K] : 0) + (wanted->add ? ys[i] : 0);
            if (wanted->relu && want[i] < 0)
                want[i] = 0;
        }
    }
    if (!wanted || !wanted->add) {
        tensor_free(&y);
        y = tensor_new(d, type, r->y_count);
    }
    d->ops->conv->forward(d, plan, r->N, x.data, w.data, wanted ? &epilogue : NULL, y.data);
    assert_true(tensor_equals("y", &y, want, stored(type)));
    assert_true(tensor_equals("x unchanged", &x, xs, TOLERANCE_EXACT));
    assert_true(tensor_equals("w unchanged", &w, ws, TOLERANCE_EXACT));
    free(xs), free(ws), free(bs), free(ys), free(want);
    tensor_free(&x), tensor_free(&w), tensor_free(&bias), tensor_free(&y);
}

static void check_backward(Device *d, ConvPlan *plan, const Reference *r, DType type) {
    Tensor x = tensor_random(d, type, r->x_count, -1, 1, 5), w = tensor_random(d, type, r->w_count, -1, 1, 6);
    Tensor dy = tensor_random(d, type, r->y_count, -1, 1, 7), dx = tensor_new(d, type, r->x_count);
    Tensor dw = tensor_random(d, DTYPE_F32, r->w_count, -3, 3, 8);
    double *xs = tensor_values(&x), *ws = tensor_values(&w), *dys = tensor_values(&dy), *want_dw = tensor_values(&dw);
    double *want_dx = zeros(r->x_count);
    reference_pass(r, xs, ws, dys, NULL, want_dx, NULL);
    reference_pass(r, xs, ws, dys, NULL, NULL, want_dw);
    d->ops->conv->backward_data(d, plan, r->N, dy.data, w.data, dx.data);
    d->ops->conv->backward_weight(d, plan, r->N, x.data, dy.data, dw.data);
    assert_true(tensor_equals("dx", &dx, want_dx, stored(type)));
    assert_true(tensor_equals("dw", &dw, want_dw, weight_gradient(d, type)));
    assert_true(tensor_equals("dy unchanged", &dy, dys, TOLERANCE_EXACT));
    free(xs), free(ws), free(dys), free(want_dw), free(want_dx);
    tensor_free(&x), tensor_free(&w), tensor_free(&dy), tensor_free(&dx), tensor_free(&dw);
}

static void every_shape(Device *d, DType type) {
    for (int i = 0; i < GEOMETRIES; i++) {
        ConvPlan *plan = plan_of(d, &geometries[i], type);
        for (int64_t N = 0; N <= 4; N += 1 + N) {
            Reference r = reference_of(geometries[i], N);
            check_forward(d, plan, &r, type, NULL);
            check_backward(d, plan, &r, type);
        }
        d->ops->conv->destroy(d, plan);
    }
}

static void every_shape_f32(Device *d) {
    every_shape(d, DTYPE_F32);
}

static void every_shape_bf16(Device *d) {
    every_shape(d, DTYPE_BF16);
}

static void test_every_shape_f32(void **state) {
    every_way(state, every_shape_f32);
}

static void test_every_shape_bf16(void **state) {
    every_way(state, every_shape_bf16);
}

static void check_epilogues(Device *d, ConvPlan *plan, const Reference *r, DType type) {
    const float present = 0;
    for (int kind = 0; kind < 8; kind++) {
        ConvEpilogue epilogue = {kind & 1 ? &present : NULL, (kind >> 1) & 1, (kind >> 2) & 1};
        check_forward(d, plan, r, type, &epilogue);
    }
}

static void every_epilogue(Device *d) {
    for (DType type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int i = 0; i < 6; i++) {
            ConvPlan *plan = plan_of(d, &geometries[i], type);
            Reference r = reference_of(geometries[i], 3);
            check_epilogues(d, plan, &r, type);
            d->ops->conv->destroy(d, plan);
        }
}

static void test_every_epilogue(void **state) {
    every_way(state, every_epilogue);
}

/* A NaN in an input or the residual reaches every output that hangs on it through every epilogue, and no other image;
 * what ReLU cuts off is 0, or too small for any sum to notice. */
static void check_nan(Device *d, ConvPlan *plan, const Reference *r, DType type, int kind, int in_residual) {
    Tensor x = tensor_random(d, type, r->x_count, -1, 1, 1), w = tensor_random(d, type, r->w_count, -1, 1, 2);
    Tensor bias = tensor_random(d, DTYPE_F32, r->g.K, -1, 1, 3), y = tensor_random(d, type, r->y_count, -2, 2, 4);
    const ConvEpilogue epilogue = {kind & 1 ? bias.data : NULL, (kind >> 1) & 1, (kind >> 2) & 1};
    const int64_t image = r->y_count / r->N; /* elements of the second image's outputs are [image, 2 image) */
    double *xs = tensor_values(&x), *ys = tensor_values(&y);
    if (in_residual)
        ys[image] = NAN;
    else
        xs[r->x_count / r->N] = NAN; /* the second image's first pixel */
    tensor_set(&x, xs), tensor_set(&y, ys);
    d->ops->conv->forward(d, plan, r->N, x.data, w.data, &epilogue, y.data);
    double *got = tensor_values(&y);
    for (int64_t i = 0; i < r->y_count; i++) {
        const int hangs = in_residual ? i == image : i >= image && i < image + r->g.K;
        if (hangs)
            assert_true(isnan(got[i]));
        else if (i < image || i >= 2 * image)
            assert_true(isfinite(got[i]) && (!epilogue.relu || got[i] > -1e-25));
    }
    free(xs), free(ys), free(got);
    tensor_free(&x), tensor_free(&w), tensor_free(&bias), tensor_free(&y);
}

static void nan_stays(Device *d) {
    for (DType type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int i = 0; i < 6; i++) {
            ConvPlan *plan = plan_of(d, &geometries[i], type);
            Reference r = reference_of(geometries[i], 3);
            for (int kind = 0; kind < 8; kind++) {
                check_nan(d, plan, &r, type, kind, 0);
                if (kind & 2)
                    check_nan(d, plan, &r, type, kind, 1);
            }
            d->ops->conv->destroy(d, plan);
        }
}

static void test_nan_stays(void **state) {
    every_way(state, nan_stays);
}

/* im2col's temporaries in so little memory that images go one or two at a time, with a rest. */
static void test_chunks_of_images(void **state) {
    Device *d = *state;
    if (d->kind != DEVICE_CUDA) {
        print_message("oneDNN takes all images at once\n");
        skip();
    }
    d->plain_conv = 1;
    for (DType type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (int i = 0; i < GEOMETRIES; i++) {
            const ConvGeometry *g = &geometries[i];
            const Reference r = reference_of(*g, 3);
            ConvPlan *plan = plan_of(d, g, type);
            const size_t image = (size_t)(r.P * r.Q * g->R * g->R * g->C) * dtype_size(type);
            for (size_t limit = 1; limit < 3 * image; limit += 5 * image / 2) {
                plan->scratch_limit = limit;
                check_forward(d, plan, &r, type, NULL);
                check_backward(d, plan, &r, type);
                if (limit == 1 && i < 4)
                    check_epilogues(d, plan, &r, type);
            }
            d->ops->conv->destroy(d, plan);
        }
    d->plain_conv = 0;
}

/* More row counts than a plan keeps, there and back: evicted ones must be made again. The tensors are as large as the
 * largest count; what lies behind a smaller one stays as it was. */
static void many_row_counts(Device *d) {
    enum { MOST = 70, UNTOUCHED = 77 };
    ConvGeometry g = {4, 4, 3, 4, 3, 1, 1};
    ConvPlan *plan = plan_of(d, &g, DTYPE_F32);
    Reference r = reference_of(g, MOST);
    Tensor x = tensor_random(d, DTYPE_F32, r.x_count, -1, 1, 1), w = tensor_random(d, DTYPE_F32, r.w_count, -1, 1, 2);
    Tensor y = tensor_new(d, DTYPE_F32, r.y_count);
    double *xs = tensor_values(&x), *ws = tensor_values(&w), *all = zeros(r.y_count), *want = zeros(r.y_count);
    reference_pass(&r, xs, ws, NULL, all, NULL, NULL);
    for (int round = 0; round < 2 * MOST; round++) {
        const int64_t N = round < MOST ? MOST - round : round - MOST + 1;
        for (int64_t i = 0; i < r.y_count; i++)
            want[i] = UNTOUCHED;
        tensor_set(&y, want);
        memcpy(want, all, (size_t)(r.y_count / MOST * N) * sizeof *want);
        d->ops->conv->forward(d, plan, N, x.data, w.data, NULL, y.data);
        assert_true(tensor_equals("y", &y, want, TOLERANCE_F32));
    }
    for (int64_t N = 1; N <= 7; N += 3) {
        r = reference_of(g, N);
        check_backward(d, plan, &r, DTYPE_F32);
    }
    free(xs), free(ws), free(all), free(want);
    tensor_free(&x), tensor_free(&w), tensor_free(&y);
    d->ops->conv->destroy(d, plan);
}

static void test_many_row_counts(void **state) {
    every_way(state, many_row_counts);
}

/* The same call twice gives the same bits. */
static void repeats(Device *d) {
    ConvGeometry g = {10, 10, 64, 64, 3, 1, 1};
    ConvPlan *plan = plan_of(d, &g, DTYPE_F32);
    Reference r = reference_of(g, 6);
    Tensor x = tensor_random(d, DTYPE_F32, r.x_count, -1, 1, 1), dy = tensor_random(d, DTYPE_F32, r.y_count, -1, 1, 2);
    Tensor first = tensor_zero(d, DTYPE_F32, r.w_count), second = tensor_zero(d, DTYPE_F32, r.w_count);
    d->ops->conv->backward_weight(d, plan, 6, x.data, dy.data, first.data);
    d->ops->conv->backward_weight(d, plan, 6, x.data, dy.data, second.data);
    double *want = tensor_values(&first);
    assert_true(tensor_equals("dw again", &second, want, TOLERANCE_EXACT));
    free(want);
    tensor_free(&x), tensor_free(&dy), tensor_free(&first), tensor_free(&second);
    d->ops->conv->destroy(d, plan);
}

static void test_repeats(void **state) {
    every_way(state, repeats);
}

/* d/dw and d/dx of sum(y * dy) by central differences of the double forward. */
static void finite_differences(Device *d) {
    for (int i = 0; i < 5; i++) {
        ConvPlan *plan = plan_of(d, &geometries[i], DTYPE_F32);
        Reference r = reference_of(geometries[i], 2);
        Tensor x = tensor_random(d, DTYPE_F32, r.x_count, -1, 1, 1),
               w = tensor_random(d, DTYPE_F32, r.w_count, -1, 1, 2);
        Tensor dy = tensor_random(d, DTYPE_F32, r.y_count, -1, 1, 3), dx = tensor_new(d, DTYPE_F32, r.x_count);
        Tensor dw = tensor_zero(d, DTYPE_F32, r.w_count);
        d->ops->conv->backward_data(d, plan, r.N, dy.data, w.data, dx.data);
        d->ops->conv->backward_weight(d, plan, r.N, x.data, dy.data, dw.data);
        double *xs = tensor_values(&x), *ws = tensor_values(&w), *dys = tensor_values(&dy);
        double *got_dx = tensor_values(&dx), *got_dw = tensor_values(&dw);
        enum { PROBES = 12 };
        double got[2 * PROBES], want[2 * PROBES];
        for (int probe = 0; probe < 2 * PROBES; probe++) {
            int of_w = probe >= PROBES;
            int64_t at = (int64_t)(probe % PROBES) * ((of_w ? r.w_count : r.x_count) - 1) / (PROBES - 1);
            double *entry = of_w ? &ws[at] : &xs[at], kept = *entry, step = 1e-5, sides[2];
            for (int side = 0; side < 2; side++) {
                double *y = zeros(r.y_count), loss = 0;
                *entry = kept + (side ? step : -step);
                reference_pass(&r, xs, ws, NULL, y, NULL, NULL);
                for (int64_t k = 0; k < r.y_count; k++)
                    loss += y[k] * dys[k];
                sides[side] = loss;
                free(y);
            }
            *entry = kept;
            want[probe] = (sides[1] - sides[0]) / (2 * step);
            got[probe] = of_w ? got_dw[at] : got_dx[at];
        }
        assert_true(compare_vectors("dx, dw against differences", 2 * PROBES, got, want, TOLERANCE_DIFFERENCE));
        free(xs), free(ws), free(dys), free(got_dx), free(got_dw);
        tensor_free(&x), tensor_free(&w), tensor_free(&dy), tensor_free(&dx), tensor_free(&dw);
        d->ops->conv->destroy(d, plan);
    }
}

static void test_finite_differences(void **state) {
    every_way(state, finite_differences);
}

static void test_impossible_geometry(void **state) {
    Device *d = *state;
    static const ConvGeometry impossible[] = {{2, 2, 3, 4, 5, 1, 1},  {0, 2, 3, 4, 1, 1, 0}, {2, 2, 0, 4, 1, 1, 0},
                                              {2, 2, 3, 0, 1, 1, 0},  {2, 2, 3, 4, 0, 1, 0}, {2, 2, 3, 4, 1, 0, 0},
                                              {2, 2, 3, 4, 1, 1, -1}, {9, 2, 3, 4, 3, 1, 0}};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        ConvPlan *plan;
        Error err = {0};
        assert_int_equal(d->ops->conv->create(d, &impossible[i], DTYPE_F32, &plan, &err), STATUS_CONFIG);
        assert_null(plan);
        assert_non_null(strstr(err.message, "impossible convolution"));
    }
    d->ops->conv->destroy(d, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape_f32),
        cmocka_unit_test(test_every_shape_bf16),
        cmocka_unit_test(test_every_epilogue),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_chunks_of_images),
        cmocka_unit_test(test_many_row_counts),
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_impossible_geometry),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
