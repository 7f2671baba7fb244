/* Softmax cross-entropy, argmax and ranks against naive double formulas, and what NaN, ties and huge logits do. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/numbers/block.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static const struct {
    int64_t N;
    int C;
    double range;
} shapes[] = {{0, 10, 1}, {1, 1, 1}, {7, 2, 3}, {33, 100, 10}, {50, 200, 60}, {5, 1000, 1e4}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The tensor's integers; freed by the caller. */
static int32_t *indices(const Tensor *tensor) {
    int32_t *host = calloc((size_t)(tensor->n > 0 ? tensor->n : 1), sizeof *host);
    assert_non_null(host);
    tensor->device->ops->memory->copy_out(tensor->device, host, tensor->data, (size_t)tensor->n * sizeof *host);
    return host;
}

/* A tensor of these n values. */
static Tensor tensor_of(Device *d, DType type, int64_t n, const double *values) {
    Tensor tensor = tensor_new(d, type, n);
    tensor_set(&tensor, values);
    return tensor;
}

/* log softmax(row)[c] in long double. */
static double log_probability(const double *row, int C, int c) {
    long double max = -INFINITY, sum = 0;
    for (int k = 0; k < C; k++)
        max = row[k] > max ? row[k] : max;
    for (int k = 0; k < C; k++)
        sum += expl(row[k] - max);
    return (double)(row[c] - max - logl(sum));
}

static void test_loss(void **state) {
    Device *d = *state;
    const float weight = 0.125f;
    for (int s = 0; s < SHAPES; s++) {
        int64_t N = shapes[s].N, C = shapes[s].C;
        Tensor logits = tensor_random(d, DTYPE_F32, N * C, -shapes[s].range, shapes[s].range, 1);
        Tensor labels = tensor_random(d, DTYPE_I32, N, 0, (double)C, 2), losses = tensor_new(d, DTYPE_F32, N);
        Tensor gradient = tensor_new(d, DTYPE_F32, N * C), alone = tensor_new(d, DTYPE_F32, N);
        int32_t *y = indices(&labels);
        double *x = tensor_values(&logits), *want = zeros(N), *dwant = zeros(N * C);
        for (int64_t n = 0; n < N; n++) {
            want[n] = -log_probability(x + n * C, (int)C, y[n]);
            for (int c = 0; c < C; c++)
                dwant[n * C + c] = (double)weight * (exp(log_probability(x + n * C, (int)C, c)) - (c == y[n]));
        }
        d->ops->classify->loss(d, N, (int)C, logits.data, labels.data, weight, losses.data, gradient.data);
        d->ops->classify->loss(d, N, (int)C, logits.data, labels.data, weight, alone.data, NULL);
        assert_true(tensor_equals("losses", &losses, want, TOLERANCE_F32));
        assert_true(tensor_equals("losses alone", &alone, want, TOLERANCE_F32));
        assert_true(tensor_equals("dlogits", &gradient, dwant, TOLERANCE_F32));
        free(x), free(y), free(want), free(dwant);
        tensor_free(&logits), tensor_free(&labels), tensor_free(&losses), tensor_free(&gradient), tensor_free(&alone);
    }
}

static void test_gradient_by_differences(void **state) {
    Device *d = *state;
    int64_t N = 4, C = 6;
    const double step = 1e-5;
    Tensor logits = tensor_random(d, DTYPE_F32, N * C, -2, 2, 5), labels = tensor_random(d, DTYPE_I32, N, 0, 6, 6);
    Tensor losses = tensor_new(d, DTYPE_F32, N), gradient = tensor_new(d, DTYPE_F32, N * C);
    int32_t *y = indices(&labels);
    double *x = tensor_values(&logits), *want = zeros(N * C);
    for (int64_t i = 0; i < N * C; i++) {
        int64_t n = i / C;
        double kept = x[i];
        x[i] = kept + step;
        double above = -log_probability(x + n * C, (int)C, y[n]);
        x[i] = kept - step;
        want[i] = 3 * (above + log_probability(x + n * C, (int)C, y[n])) / (2 * step);
        x[i] = kept;
    }
    d->ops->classify->loss(d, N, (int)C, logits.data, labels.data, 3, losses.data, gradient.data);
    assert_true(tensor_equals("dlogits", &gradient, want, TOLERANCE_DIFFERENCE));
    free(x), free(y), free(want);
    tensor_free(&logits), tensor_free(&labels), tensor_free(&losses), tensor_free(&gradient);
}

static void test_probability(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++) {
        int64_t N = shapes[s].N, C = shapes[s].C;
        Tensor logits = tensor_random(d, DTYPE_F32, N * C, -shapes[s].range, shapes[s].range, 1);
        Tensor target = tensor_random(d, DTYPE_I32, N, 0, (double)C, 2), p = tensor_new(d, DTYPE_F32, N);
        int32_t *y = indices(&target);
        double *x = tensor_values(&logits), *want = zeros(N);
        for (int64_t n = 0; n < N; n++)
            want[n] = exp(log_probability(x + n * C, (int)C, y[n]));
        d->ops->classify->probability(d, N, (int)C, logits.data, target.data, p.data);
        assert_true(tensor_equals("probability", &p, want, TOLERANCE_F32));
        free(x), free(y), free(want);
        tensor_free(&logits), tensor_free(&target), tensor_free(&p);
    }
}

static void test_predict_and_rank(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++) {
        int64_t N = shapes[s].N, C = shapes[s].C;
        Tensor logits = tensor_random(d, DTYPE_F32, N * C, -3, 3, 1),
               labels = tensor_random(d, DTYPE_I32, N, 0, (double)C, 2);
        Tensor predicted = tensor_new(d, DTYPE_I32, N), rank = tensor_new(d, DTYPE_I32, N);
        int32_t *y = indices(&labels);
        double *x = tensor_values(&logits), *best = zeros(N), *place = zeros(N);
        for (int64_t i = 0; i < N * C; i++)
            x[i] = floor(x[i]); /* many ties */
        tensor_set(&logits, x);
        for (int64_t n = 0; n < N; n++)
            for (int c = (int)C - 1; c >= 0; c--) {
                const double *row = x + n * C;
                best[n] = row[c] >= row[(int)best[n]] ? c : best[n];
                place[n] += row[c] > row[y[n]] || (row[c] == row[y[n]] && c < y[n]);
            }
        d->ops->classify->predict(d, N, (int)C, logits.data, predicted.data);
        d->ops->classify->rank(d, N, (int)C, logits.data, labels.data, rank.data);
        assert_true(tensor_equals("predicted", &predicted, best, TOLERANCE_EXACT));
        assert_true(tensor_equals("rank", &rank, place, TOLERANCE_EXACT));
        for (int64_t n = 0; n < N; n++)
            assert_true((place[n] == 0) == (best[n] == y[n]));
        free(x), free(y), free(best), free(place);
        tensor_free(&logits), tensor_free(&labels), tensor_free(&predicted), tensor_free(&rank);
    }
}

static void test_nan_is_not_hidden(void **state) {
    Device *d = *state;
    enum { N = 6, C = 3 };
    const double rows[N * C] = {NAN,      NAN, NAN, NAN,       1,         2,         1, NAN, 2,
                                INFINITY, 1,   2,   -INFINITY, -INFINITY, -INFINITY, 1, 2,   3};
    Tensor logits = tensor_of(d, DTYPE_F32, N * C, rows), gradient = tensor_new(d, DTYPE_F32, N * C);
    Tensor labels = tensor_of(d, DTYPE_I32, N, (double[N]){1, 1, 1, 1, 1, 1});
    Tensor losses = tensor_new(d, DTYPE_F32, N), p = tensor_new(d, DTYPE_F32, N);
    Tensor predicted = tensor_new(d, DTYPE_I32, N), rank = tensor_new(d, DTYPE_I32, N);
    d->ops->classify->loss(d, N, C, logits.data, labels.data, 1, losses.data, gradient.data);
    d->ops->classify->probability(d, N, C, logits.data, labels.data, p.data);
    d->ops->classify->predict(d, N, C, logits.data, predicted.data);
    d->ops->classify->rank(d, N, C, logits.data, labels.data, rank.data);
    double *loss = tensor_values(&losses), *probability = tensor_values(&p), *slope = tensor_values(&gradient);
    for (int n = 0; n < N - 1; n++) {
        assert_true(isnan(loss[n]) && isnan(probability[n]));
        for (int c = 0; c < C; c++)
            assert_true(isnan(slope[n * C + c]) || (n == 3 && c > 0));
    }
    assert_true(isfinite(loss[N - 1]) && isfinite(probability[N - 1]));
    assert_true(tensor_equals("predicted", &predicted, (double[N]){-1, -1, -1, 0, 0, 2}, TOLERANCE_EXACT));
    assert_true(tensor_equals("rank", &rank, (double[N]){3, 2, 3, 2, 1, 1}, TOLERANCE_EXACT));
    free(loss), free(probability), free(slope);
    tensor_free(&logits), tensor_free(&gradient), tensor_free(&labels), tensor_free(&losses), tensor_free(&p);
    tensor_free(&predicted), tensor_free(&rank);
}

static void test_labels_out_of_range_touch_nothing_else(void **state) {
    Device *d = *state;
    Tensor logits = tensor_of(d, DTYPE_F32, 6, (double[]){1, 2, 3, 1, 2, 3});
    Tensor labels = tensor_of(d, DTYPE_I32, 2, (double[]){-1, 3}), onehot = tensor_new(d, DTYPE_F32, 6);
    Tensor losses = tensor_new(d, DTYPE_F32, 2), p = tensor_new(d, DTYPE_F32, 2), rank = tensor_new(d, DTYPE_I32, 2);
    Tensor gradient = tensor_new(d, DTYPE_F32, 6);
    d->ops->classify->loss(d, 2, 3, logits.data, labels.data, 1, losses.data, gradient.data);
    d->ops->classify->probability(d, 2, 3, logits.data, labels.data, p.data);
    d->ops->classify->rank(d, 2, 3, logits.data, labels.data, rank.data);
    d->ops->classify->onehot(d, 2, 3, labels.data, onehot.data);
    double *loss = tensor_values(&losses), *probability = tensor_values(&p), want[6];
    for (int n = 0; n < 2; n++) {
        assert_true(isnan(loss[n]) && isnan(probability[n]));
        for (int c = 0; c < 3; c++)
            want[n * 3 + c] = exp(log_probability((double[]){1, 2, 3}, 3, c));
    }
    assert_true(tensor_equals("dlogits", &gradient, want, TOLERANCE_F32));
    assert_true(tensor_equals("rank", &rank, (double[]){3, 3}, TOLERANCE_EXACT));
    assert_true(tensor_equals("onehot", &onehot, (double[6]){0}, TOLERANCE_EXACT));
    assert_true(tensor_guards_hold(&losses) && tensor_guards_hold(&p));
    free(loss), free(probability);
    tensor_free(&logits), tensor_free(&labels), tensor_free(&onehot), tensor_free(&losses), tensor_free(&p);
    tensor_free(&rank), tensor_free(&gradient);
}

static void test_onehot_and_equal(void **state) {
    Device *d = *state;
    Tensor a = tensor_of(d, DTYPE_I32, 4, (double[]){2, 0, 1, 1}),
           b = tensor_of(d, DTYPE_I32, 4, (double[]){2, 1, 1, 0});
    Tensor equal = tensor_new(d, DTYPE_I32, 4), seed = tensor_new(d, DTYPE_F32, 12);
    d->ops->classify->onehot(d, 4, 3, a.data, seed.data);
    d->ops->classify->equal(d, 4, a.data, b.data, equal.data);
    d->ops->classify->onehot(d, 0, 3, a.data, seed.data);
    d->ops->classify->equal(d, 0, a.data, b.data, equal.data);
    assert_true(tensor_equals("onehot", &seed, (double[]){0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0}, TOLERANCE_EXACT));
    assert_true(tensor_equals("equal", &equal, (double[]){1, 0, 1, 0}, TOLERANCE_EXACT));
    tensor_free(&a), tensor_free(&b), tensor_free(&equal), tensor_free(&seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_gradient_by_differences),
        cmocka_unit_test(test_probability),
        cmocka_unit_test(test_predict_and_rank),
        cmocka_unit_test(test_nan_is_not_hidden),
        cmocka_unit_test(test_labels_out_of_range_touch_nothing_else),
        cmocka_unit_test(test_onehot_and_equal),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
