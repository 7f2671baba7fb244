/* Class activation maps, masks and row selection against their definitions in double, with the awkward inputs: NaN,
 * constant maps, ties, odd sizes. And masks of different backends against each other, bit by bit. */
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

static const struct {
    int64_t N;
    int HW, C;
} shapes[] = {{0, 4, 8}, {1, 1, 1}, {3, 64, 512}, {5, 49, 37}, {4, 256, 3}, {2, 33, 520}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_weights(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int t = 0; t < 2; t++) {
            int64_t N = shapes[s].N, HW = shapes[s].HW, C = shapes[s].C;
            Tensor dA = tensor_random(d, types[t], N * HW * C, -1, 1.5, 1), alpha = tensor_new(d, DTYPE_F32, N * C);
            double *a = tensor_values(&dA), *want = zeros(N * C);
            for (int64_t n = 0; n < N; n++)
                for (int64_t p = 0; p < HW; p++)
                    for (int64_t c = 0; c < C; c++)
                        want[n * C + c] += a[(n * HW + p) * C + c] / (double)HW;
            d->ops->saliency->weights(d, N, (int)HW, (int)C, types[t], dA.data, alpha.data);
            assert_true(tensor_equals("alpha", &alpha, want, TOLERANCE_F32));
            free(a), free(want);
            tensor_free(&dA), tensor_free(&alpha);
        }
}

/* Activations as a ReLU leaves them, and some negative ones: denominators stay clear of 0. */
static void test_weights_plus(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int t = 0; t < 2; t++) {
            int64_t N = shapes[s].N, HW = shapes[s].HW, C = shapes[s].C;
            Tensor A = tensor_random(d, types[t], N * HW * C, -0.1, 1, 1);
            Tensor dA = tensor_random(d, types[t], N * HW * C, -1, 1.5, 2), alpha = tensor_new(d, DTYPE_F32, N * C);
            double *a = tensor_values(&A), *g = tensor_values(&dA), *want = zeros(N * C);
            for (int64_t n = 0; n < N; n++)
                for (int64_t c = 0; c < C; c++) {
                    double mass = 0;
                    for (int64_t p = 0; p < HW; p++)
                        mass += a[(n * HW + p) * C + c];
                    for (int64_t p = 0; p < HW; p++) {
                        const double gradient = g[(n * HW + p) * C + c], square = gradient * gradient;
                        const double share = square / (2 * square + mass * square * gradient + 1e-6);
                        want[n * C + c] += fmax(gradient, 0) * share;
                    }
                }
            d->ops->saliency->weights_plus(d, N, (int)HW, (int)C, types[t], A.data, dA.data, alpha.data);
            assert_true(tensor_equals("alpha", &alpha, want, TOLERANCE_F32));
            free(a), free(g), free(want);
            tensor_free(&A), tensor_free(&dA), tensor_free(&alpha);
        }
}

/* Gradients of 0 weigh nothing, also where the activations sum up to 0; a NaN of either input shows in its channel. */
static void test_weights_plus_by_hand(void **state) {
    Device *d = *state;
    Tensor A = tensor_new(d, DTYPE_F32, 8), dA = tensor_new(d, DTYPE_F32, 8), alpha = tensor_new(d, DTYPE_F32, 4);
    tensor_set(&A, (double[]){0, 2, (double)NAN, 1, 0, 2, 1, 1});
    tensor_set(&dA, (double[]){0, 1, 1, (double)NAN, 0, -1, 1, 1});
    d->ops->saliency->weights_plus(d, 1, 2, 4, DTYPE_F32, A.data, dA.data, alpha.data);
    double *got = tensor_values(&alpha);
    assert_true(got[0] == 0);
    assert_true(fabs(got[1] - 1.0 / (6.0 + 1e-6)) < 1e-6);
    assert_true(isnan(got[2]) && isnan(got[3]));
    free(got);
    tensor_free(&A), tensor_free(&dA), tensor_free(&alpha);
}

static void test_cam(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int t = 0; t < 4; t++) {
            int64_t N = shapes[s].N, HW = shapes[s].HW, C = shapes[s].C;
            DType type = types[t & 1];
            int relu = t >> 1;
            Tensor A = tensor_random(d, type, N * HW * C, -1, 1, 1);
            Tensor alpha = tensor_random(d, DTYPE_F32, N * C, -1, 1, 2), cam = tensor_new(d, DTYPE_F32, N * HW);
            double *a = tensor_values(&A), *w = tensor_values(&alpha), *want = zeros(N * HW);
            for (int64_t i = 0; i < N * HW; i++) {
                for (int64_t c = 0; c < C; c++)
                    want[i] += a[i * C + c] * w[i / HW * C + c];
                want[i] = relu ? fmax(want[i], 0) : want[i];
            }
            d->ops->saliency->cam(d, N, (int)HW, (int)C, type, A.data, alpha.data, relu, cam.data);
            assert_true(tensor_equals("cam", &cam, want, TOLERANCE_F32));
            free(a), free(w), free(want);
            tensor_free(&A), tensor_free(&alpha), tensor_free(&cam);
        }
}

static void test_channel_sum(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int t = 0; t < 8; t++) {
            int64_t N = shapes[s].N, HW = shapes[s].HW, C = shapes[s].C;
            DType type = types[t & 1];
            int relu = t >> 1 & 1, weighted = t >> 2;
            Tensor x = tensor_random(d, type, N * HW * C, -1, 1, 1),
                   weight = tensor_random(d, type, N * HW * C, -1, 1, 2);
            Tensor cam = tensor_new(d, DTYPE_F32, N * HW);
            double *xs = tensor_values(&x), *ws = tensor_values(&weight), *want = zeros(N * HW);
            for (int64_t i = 0; i < N * HW; i++) {
                for (int64_t c = 0; c < C; c++)
                    want[i] += xs[i * C + c] * (weighted ? ws[i * C + c] : 1);
                want[i] = relu ? fmax(want[i], 0) : want[i];
            }
            d->ops->saliency->channel_sum(d, N, (int)HW, (int)C, type, x.data, weighted ? weight.data : NULL, relu,
                                          cam.data);
            assert_true(tensor_equals("channel sum", &cam, want, TOLERANCE_F32));
            free(xs), free(ws), free(want);
            tensor_free(&x), tensor_free(&weight), tensor_free(&cam);
        }
}

static double clamped(const double *map, int h, int w, int y, int x) {
    y = y < 0 ? 0 : y > h - 1 ? h - 1 : y;
    x = x < 0 ? 0 : x > w - 1 ? w - 1 : x;
    return map[y * w + x];
}

/* Bilinear interpolation of a map continued by its edges: the same as clamping coordinates. */
static double interpolated(const double *map, int h, int w, double y, double x) {
    int y0 = (int)floor(y), x0 = (int)floor(x);
    double fy = y - y0, fx = x - x0;
    return (1 - fy) * ((1 - fx) * clamped(map, h, w, y0, x0) + fx * clamped(map, h, w, y0, x0 + 1)) +
           fy * ((1 - fx) * clamped(map, h, w, y0 + 1, x0) + fx * clamped(map, h, w, y0 + 1, x0 + 1));
}

static void test_upsample(void **state) {
    Device *d = *state;
    static const int sizes[][4] = {{8, 8, 64, 64}, {16, 16, 32, 32}, {3, 5, 21, 37}, {1, 1, 4, 7},
                                   {7, 7, 7, 7},   {2, 9, 5, 224},   {6, 6, 3, 4}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int h = sizes[s][0], w = sizes[s][1], H = sizes[s][2], W = sizes[s][3];
        Tensor cam = tensor_random(d, DTYPE_F32, (int64_t)3 * h * w, -1, 1, s);
        Tensor up = tensor_new(d, DTYPE_F32, (int64_t)3 * H * W);
        double *map = tensor_values(&cam), *want = zeros((int64_t)3 * H * W);
        for (int n = 0; n < 3; n++)
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++)
                    want[(n * H + y) * W + x] =
                        interpolated(map + n * h * w, h, w, (y + 0.5) * h / H - 0.5, (x + 0.5) * w / W - 0.5);
        d->ops->saliency->upsample(d, 3, h, w, H, W, cam.data, up.data);
        assert_true(tensor_equals("upsampled", &up, want, TOLERANCE_F32));
        free(map), free(want);
        tensor_free(&cam), tensor_free(&up);
    }
}

/* A tensor of these floats. */
static Tensor tensor_of(Device *d, int64_t n, const float *values) {
    double *wide = zeros(n);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)values[i];
    Tensor t = tensor_new(d, DTYPE_F32, n);
    tensor_set(&t, wide);
    free(wide);
    return t;
}

static void assert_mask(Device *d, int HW, const float *map, float threshold, const float *want) {
    Tensor up = tensor_of(d, HW, map), expected = tensor_of(d, HW, want), mask = tensor_new(d, DTYPE_F32, HW);
    double *values = tensor_values(&expected);
    d->ops->saliency->mask(d, 1, HW, up.data, threshold, mask.data);
    assert_true(tensor_equals("mask", &mask, values, TOLERANCE_EXACT));
    free(values);
    tensor_free(&up), tensor_free(&expected), tensor_free(&mask);
}

static void test_mask_by_hand(void **state) {
    const float none[5] = {0};
    /* 0.5 of the range itself is out: strictly above. */
    assert_mask(*state, 5, (float[]){-1, 0, 1, 0.25f, -0.5f}, 0.5f, (float[]){0, 0, 1, 1, 0});
    assert_mask(*state, 5, (float[]){-1, 0, 1, 0.25f, -0.5f}, 0.2f, (float[]){0, 1, 1, 1, 1});
    assert_mask(*state, 5, (float[]){-5, -1, -2, -4, -5}, 0.5f, (float[]){0, 1, 1, 0, 0});
    assert_mask(*state, 5, (float[]){2, 2, 2, 2, 2}, 0.5f, none);
    assert_mask(*state, 5, (float[]){0, 0, 0, 0, 0}, 0.5f, none);
    assert_mask(*state, 5, (float[]){0, 1, NAN, 3, 4}, 0.5f, none);
    assert_mask(*state, 5, (float[]){NAN, NAN, NAN, NAN, NAN}, 0.5f, none);
    assert_mask(*state, 5, (float[]){0, INFINITY, 1, 2, 3}, 0.5f, none);
    assert_mask(*state, 5, (float[]){0, -INFINITY, 1, 2, 3}, 0.5f, none);
    /* The 1e-8 decides: a range of 1e-8 reaches only half way up. */
    assert_mask(*state, 5, (float[]){0, 1e-8f, 0, 5e-9f, 0}, 0.4f, (float[]){0, 1, 0, 0, 0});
}

static void test_mask_per_image(void **state) {
    Device *d = *state;
    for (int aligned = 0; aligned < 2; aligned++) {
        int64_t N = 9, HW = aligned ? 1040 : 1001;
        Tensor up = tensor_random(d, DTYPE_F32, N * HW, -2, 3, 4), mask = tensor_new(d, DTYPE_F32, N * HW);
        double *map = tensor_values(&up), *want = zeros(N * HW);
        for (int64_t i = 0; i < N * HW; i++)
            map[i] *= (double)(1 + i / HW); /* each image has its own range */
        map[4 * HW + 5] = (double)NAN;
        tensor_set(&up, map);
        double *v = tensor_values(&up);
        for (int64_t n = 0; n < N; n++) {
            double min = INFINITY, max = -INFINITY;
            for (int64_t p = 0; p < HW; p++) {
                min = fmin(min, v[n * HW + p]);
                max = fmax(max, v[n * HW + p]);
            }
            for (int64_t p = 0; p < HW; p++)
                want[n * HW + p] = n != 4 && (v[n * HW + p] - min) / (max - min + 1e-8) > 0.5;
        }
        d->ops->saliency->mask(d, N, (int)HW, up.data, 0.5f, mask.data);
        assert_true(tensor_equals("mask", &mask, want, TOLERANCE_EXACT));
        free(map), free(v), free(want);
        tensor_free(&up), tensor_free(&mask);
    }
    d->ops->saliency->mask(d, 0, 5, NULL, 0.5f, NULL);
}

/* Position of pixel p when sorted from the largest down: NaN last, equal values by index. */
static int place_of(const double *map, int HW, int p) {
    int before = 0;
    for (int q = 0; q < HW; q++) {
        int nan_p = isnan(map[p]), nan_q = isnan(map[q]);
        int equal = nan_p ? nan_q : map[q] == map[p];
        before += (nan_p && !nan_q) || (!nan_p && !nan_q && map[q] > map[p]) || (equal && q < p);
    }
    return before;
}

static void test_top(void **state) {
    Device *d = *state;
    static const int keeps[] = {0, 1, 2, 30, 99, 100, 101, 250, 599, 600, 1000};
    enum { N = 5, HW = 600 }; /* more than the CUDA backend's block */
    Tensor up = tensor_random(d, DTYPE_F32, N * HW, -1, 1, 1), mask = tensor_new(d, DTYPE_F32, N * HW);
    double *map = tensor_values(&up), *want = zeros(N * HW);
    for (int p = 0; p < HW; p++) {
        map[1 * HW + p] = (p % 3 - 1) * (p % 2 ? 1.0 : -1.0); /* ties, both zeros */
        map[2 * HW + p] = 0.25;
        map[3 * HW + p] = p % 5 == 0 ? (double)NAN : map[3 * HW + p];
        map[4 * HW + p] = p % 7 == 0 ? (double)INFINITY : p % 7 == 1 ? -(double)INFINITY : map[4 * HW + p] * 1e-40;
    }
    tensor_set(&up, map); /* the last row's numbers are subnormal */
    double *v = tensor_values(&up);
    int *place = calloc(N * HW, sizeof *place);
    assert_non_null(place);
    for (int i = 0; i < N * HW; i++)
        place[i] = place_of(v + i / HW * HW, HW, i % HW);
    for (size_t k = 0; k < sizeof keeps / sizeof *keeps; k++) {
        for (int i = 0; i < N * HW; i++)
            want[i] = place[i] < keeps[k];
        d->ops->saliency->top(d, N, HW, up.data, keeps[k], mask.data);
        assert_true(tensor_equals("top", &mask, want, TOLERANCE_EXACT));
    }
    d->ops->saliency->top(d, 0, HW, NULL, 3, NULL);
    free(map), free(v), free(want), free(place);
    tensor_free(&up), tensor_free(&mask);
}

static void check_apply(Device *d, DType type, int64_t N, int64_t HW, int invert) {
    const float fill[3] = {0, 0.5f, -2};
    Tensor x = tensor_random(d, type, N * HW * 3, -1, 1, 1), out = tensor_new(d, type, N * HW * 3);
    Tensor mask = tensor_random(d, DTYPE_F32, N * HW, 0, 1, 2);
    double *m = tensor_values(&mask), *want = tensor_values(&x);
    for (int64_t i = 0; i < N * HW; i++)
        m[i] = m[i] > 0.6;
    tensor_set(&mask, m);
    for (int64_t i = 0; i < N * HW * 3; i++)
        want[i] = (m[i / 3] != 0) != invert ? want[i] : (double)fill[i % 3];
    d->ops->saliency->apply(d, N, (int)HW, type, x.data, mask.data, fill, invert, out.data);
    assert_true(tensor_equals("masked", &out, want, TOLERANCE_EXACT));
    d->ops->saliency->apply(d, N, (int)HW, type, x.data, mask.data, fill, invert, x.data);
    assert_true(tensor_equals("masked in place", &x, want, TOLERANCE_EXACT));
    free(m), free(want);
    tensor_free(&x), tensor_free(&out), tensor_free(&mask);
}

static void test_soften(void **state) {
    Device *d = *state;
    for (int t = 0; t < 2; t++) {
        int64_t N = 4, HW = 301;
        Tensor x = tensor_random(d, types[t], N * HW * 3, -2, 2, 1), out = tensor_new(d, types[t], N * HW * 3);
        Tensor up = tensor_random(d, DTYPE_F32, N * HW, -1, 5, 2);
        double *want = tensor_values(&x), *v = tensor_values(&up);
        for (int64_t p = 0; p < HW; p++)
            v[HW + p] = 0.25; /* a constant map leaves nothing */
        v[2 * HW + 7] = NAN;
        tensor_set(&up, v);
        for (int64_t n = 0; n < N; n++) {
            double min = INFINITY, max = -INFINITY;
            for (int64_t p = 0; p < HW; p++) {
                min = fmin(min, v[n * HW + p]);
                max = fmax(max, v[n * HW + p]);
            }
            for (int64_t i = 0; i < HW * 3; i++)
                want[n * HW * 3 + i] *= n == 2 ? 0 : (v[n * HW + i / 3] - min) / (max - min + 1e-8);
        }
        d->ops->saliency->soften(d, N, (int)HW, types[t], x.data, up.data, out.data);
        assert_true(tensor_equals("softened", &out, want, t ? TOLERANCE_BF16 : TOLERANCE_F32));
        free(want), free(v);
        tensor_free(&x), tensor_free(&out), tensor_free(&up);
    }
}

static void test_apply(void **state) {
    for (int t = 0; t < 4; t++)
        for (int aligned = 0; aligned < 2; aligned++)
            check_apply(*state, types[t & 1], 3, aligned ? 400 : 77, t >> 1);
    check_apply(*state, DTYPE_BF16, 0, 16, 0);
}

/* The same activation map, upsampled and masked on `d`: [N,H,W] each, as doubles. */
static void mask_on(Device *d, const double *map, const int size[4], int64_t N, float threshold, double **up,
                    double **mask) {
    int h = size[0], w = size[1], H = size[2], W = size[3];
    Tensor cam = tensor_new(d, DTYPE_F32, N * h * w), large = tensor_new(d, DTYPE_F32, N * H * W);
    Tensor decided = tensor_new(d, DTYPE_F32, N * H * W);
    tensor_set(&cam, map);
    d->ops->saliency->upsample(d, N, h, w, H, W, cam.data, large.data);
    d->ops->saliency->mask(d, N, H * W, large.data, threshold, decided.data);
    *up = tensor_values(&large);
    *mask = tensor_values(&decided);
    tensor_free(&cam), tensor_free(&large), tensor_free(&decided);
}

/* A pixel may lie on the threshold, so agreement within a tolerance would not keep a mask from moving. */
static void test_masks_do_not_depend_on_the_backend(void **state) {
    static const int sizes[][4] = {{8, 8, 64, 64}, {7, 7, 56, 56}, {4, 4, 32, 32}, {3, 5, 21, 37}, {13, 11, 100, 90}};
    Device *d = *state, cpu;
    Error err;
    assert_int_equal(device_open_cpu(&cpu, 1, 0, &err), STATUS_OK);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int rectified = 0; rectified < 2; rectified++) {
            int64_t N = 4, pixels = N * sizes[s][2] * sizes[s][3];
            Tensor cam = tensor_random(&cpu, DTYPE_F32, N * sizes[s][0] * sizes[s][1], -1, 1, s);
            double *map = tensor_values(&cam), *up[2], *mask[2];
            for (int64_t i = 0; i < cam.n && rectified; i++)
                map[i] = fmax(map[i], 0);
            mask_on(d, map, sizes[s], N, 0.5f, &up[0], &mask[0]);
            mask_on(&cpu, map, sizes[s], N, 0.5f, &up[1], &mask[1]);
            assert_memory_equal(up[0], up[1], (size_t)pixels * sizeof **up);
            assert_memory_equal(mask[0], mask[1], (size_t)pixels * sizeof **mask);
            free(map), free(up[0]), free(up[1]), free(mask[0]), free(mask[1]);
            tensor_free(&cam);
        }
    device_close(&cpu);
}

static void check_select_rows(Device *d, int64_t N, int64_t width) {
    Tensor a = tensor_random(d, DTYPE_F32, N * width, -1, 0, 1), b = tensor_random(d, DTYPE_F32, N * width, 0, 1, 2);
    Tensor out = tensor_new(d, DTYPE_F32, N * width), accept = tensor_random(d, DTYPE_I32, N, 0, 2, 3);
    double *want = tensor_values(&b), *masked = tensor_values(&a), *decision = tensor_values(&accept);
    int accepted = 0;
    for (int64_t n = 0; n < N; n++) {
        accepted += decision[n] != 0;
        if (decision[n] != 0)
            memcpy(want + n * width, masked + n * width, (size_t)width * sizeof *want);
    }
    assert_true(accepted > 0 && accepted < N);
    d->ops->select->rows(d, N, (size_t)width * 4, accept.data, a.data, b.data, out.data);
    assert_true(tensor_equals("selected", &out, want, TOLERANCE_EXACT));
    d->ops->select->rows(d, N, (size_t)width * 4, accept.data, a.data, b.data, b.data);
    assert_true(tensor_equals("selected over b", &b, want, TOLERANCE_EXACT));
    free(want), free(masked), free(decision);
    tensor_free(&a), tensor_free(&b), tensor_free(&out), tensor_free(&accept);
}

static void test_select_rows(void **state) {
    Device *d = *state;
    check_select_rows(d, 70, 301);
    check_select_rows(d, 9, 4196); /* whole 16-byte units, more than the CUDA backend gives to one block */
    d->ops->select->rows(d, 0, 1204, NULL, NULL, NULL, NULL);
}

static void assert_rejected(Device *d, int64_t N, const double *accept, int64_t max, const double *want, double many) {
    Tensor index = tensor_new(d, DTYPE_I32, N), count = tensor_new(d, DTYPE_I32, 1);
    Tensor decision = tensor_new(d, DTYPE_I32, N);
    tensor_set(&decision, accept);
    d->ops->select->rejected(d, N, decision.data, max, index.data, count.data);
    assert_true(tensor_equals("count", &count, &many, TOLERANCE_EXACT));
    assert_true(tensor_equals("rejected", &index, want, TOLERANCE_EXACT));
    tensor_free(&index), tensor_free(&count), tensor_free(&decision);
}

static void test_select_rejected(void **state) {
    const double mixed[6] = {0, 1, 0, 0, 7, 0}, all[3] = {1, 1, 1}, none[3] = {0, 0, 0};
    assert_rejected(*state, 6, mixed, 100, (double[]){0, 2, 3, 5, -1, -1}, 4);
    assert_rejected(*state, 6, mixed, 4, (double[]){0, 2, 3, 5, -1, -1}, 4);
    assert_rejected(*state, 6, mixed, 2, (double[]){0, 2, -1, -1, -1, -1}, 4);
    assert_rejected(*state, 6, mixed, 0, (double[]){-1, -1, -1, -1, -1, -1}, 4);
    assert_rejected(*state, 3, all, 3, (double[]){-1, -1, -1}, 0);
    assert_rejected(*state, 3, none, 3, (double[]){0, 1, 2}, 3);
    assert_rejected(*state, 0, NULL, 3, NULL, 0);
}

/* More rows than the CUDA backend's block has threads. */
static void test_select_rejected_of_many(void **state) {
    Device *d = *state;
    enum { N = 777 };
    static const int64_t rooms[] = {0, 1, 255, 256, 257, N};
    Tensor drawn = tensor_random(d, DTYPE_I32, N, 0, 2, 5);
    double *accept = tensor_values(&drawn), want[N];
    for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++) {
        int64_t rejected = 0;
        for (int64_t n = 0; n < N; n++)
            want[n] = -1;
        for (int64_t n = 0; n < N; n++) {
            if (accept[n] == 0 && rejected < rooms[r])
                want[rejected] = (double)n;
            rejected += accept[n] == 0;
        }
        assert_rejected(d, N, accept, rooms[r], want, (double)rejected);
    }
    free(accept);
    tensor_free(&drawn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_weights_plus),
        cmocka_unit_test(test_weights_plus_by_hand),
        cmocka_unit_test(test_cam),
        cmocka_unit_test(test_channel_sum),
        cmocka_unit_test(test_upsample),
        cmocka_unit_test(test_mask_by_hand),
        cmocka_unit_test(test_mask_per_image),
        cmocka_unit_test(test_top),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_masks_do_not_depend_on_the_backend),
        cmocka_unit_test(test_select_rows),
        cmocka_unit_test(test_select_rejected),
        cmocka_unit_test(test_select_rejected_of_many),
        cmocka_unit_test(test_soften),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
