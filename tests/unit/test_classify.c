/* Softmax cross-entropy, argmax and ranks against naive double formulas, and what NaN, ties and huge logits do. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/device_fixture.h"
#include "tests/support/tensor.h"

static double *block(int64_t n) {
    double *values = calloc((size_t)(n > 0 ? n : 1), sizeof *values);
    assert_non_null(values);
    return values;
}

static const struct {
    int64_t N;
    int C;
    double range;
} shapes[] = {{0, 10, 1}, {1, 1, 1}, {7, 2, 3}, {33, 100, 10}, {50, 200, 60}, {5, 1000, 1e4}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

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
        const int32_t *y = labels.data;
        double *x = tensor_values(&logits), *want = block(N), *dwant = block(N * C);
        for (int64_t n = 0; n < N; n++) {
            want[n] = -log_probability(x + n * C, (int)C, y[n]);
            for (int c = 0; c < C; c++)
                dwant[n * C + c] = (double)weight * (exp(log_probability(x + n * C, (int)C, c)) - (c == y[n]));
        }
        d->ops->classify_loss(d, N, (int)C, logits.data, labels.data, weight, losses.data, gradient.data);
        d->ops->classify_loss(d, N, (int)C, logits.data, labels.data, weight, alone.data, NULL);
        assert_true(tensor_equals("losses", &losses, want, TOLERANCE_F32));
        assert_true(tensor_equals("losses alone", &alone, want, TOLERANCE_F32));
        assert_true(tensor_equals("dlogits", &gradient, dwant, TOLERANCE_F32));
        free(x), free(want), free(dwant);
        tensor_free(&logits), tensor_free(&labels), tensor_free(&losses), tensor_free(&gradient), tensor_free(&alone);
    }
}

static void test_gradient_by_differences(void **state) {
    Device *d = *state;
    int64_t N = 4, C = 6;
    const double step = 1e-5;
    Tensor logits = tensor_random(d, DTYPE_F32, N * C, -2, 2, 5), labels = tensor_random(d, DTYPE_I32, N, 0, 6, 6);
    Tensor losses = tensor_new(d, DTYPE_F32, N), gradient = tensor_new(d, DTYPE_F32, N * C);
    const int32_t *y = labels.data;
    double *x = tensor_values(&logits), *want = block(N * C);
    for (int64_t i = 0; i < N * C; i++) {
        int64_t n = i / C;
        double kept = x[i];
        x[i] = kept + step;
        double above = -log_probability(x + n * C, (int)C, y[n]);
        x[i] = kept - step;
        want[i] = 3 * (above + log_probability(x + n * C, (int)C, y[n])) / (2 * step);
        x[i] = kept;
    }
    d->ops->classify_loss(d, N, (int)C, logits.data, labels.data, 3, losses.data, gradient.data);
    assert_true(tensor_equals("dlogits", &gradient, want, TOLERANCE_DIFFERENCE));
    free(x), free(want);
    tensor_free(&logits), tensor_free(&labels), tensor_free(&losses), tensor_free(&gradient);
}

static void test_probability(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++) {
        int64_t N = shapes[s].N, C = shapes[s].C;
        Tensor logits = tensor_random(d, DTYPE_F32, N * C, -shapes[s].range, shapes[s].range, 1);
        Tensor target = tensor_random(d, DTYPE_I32, N, 0, (double)C, 2), p = tensor_new(d, DTYPE_F32, N);
        const int32_t *y = target.data;
        double *x = tensor_values(&logits), *want = block(N);
        for (int64_t n = 0; n < N; n++)
            want[n] = exp(log_probability(x + n * C, (int)C, y[n]));
        d->ops->classify_probability(d, N, (int)C, logits.data, target.data, p.data);
        assert_true(tensor_equals("probability", &p, want, TOLERANCE_F32));
        free(x), free(want);
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
        float *values = logits.data;
        for (int64_t i = 0; i < N * C; i++)
            values[i] = floorf(values[i]); /* many ties */
        const int32_t *y = labels.data;
        double *x = tensor_values(&logits), *best = block(N), *place = block(N);
        for (int64_t n = 0; n < N; n++)
            for (int c = (int)C - 1; c >= 0; c--) {
                const double *row = x + n * C;
                best[n] = row[c] >= row[(int)best[n]] ? c : best[n];
                place[n] += row[c] > row[y[n]] || (row[c] == row[y[n]] && c < y[n]);
            }
        d->ops->classify_predict(d, N, (int)C, logits.data, predicted.data);
        d->ops->classify_rank(d, N, (int)C, logits.data, labels.data, rank.data);
        assert_true(tensor_equals("predicted", &predicted, best, TOLERANCE_EXACT));
        assert_true(tensor_equals("rank", &rank, place, TOLERANCE_EXACT));
        for (int64_t n = 0; n < N; n++)
            assert_true((((int32_t *)rank.data)[n] == 0) == (((int32_t *)predicted.data)[n] == y[n]));
        free(x), free(best), free(place);
        tensor_free(&logits), tensor_free(&labels), tensor_free(&predicted), tensor_free(&rank);
    }
}

static void test_nan_is_not_hidden(void **state) {
    Device *d = *state;
    const float logits[4][3] = {{NAN, NAN, NAN}, {NAN, 1, 2}, {1, NAN, 2}, {1, 2, 3}};
    const int32_t labels[4] = {1, 1, 1, 1};
    float losses[4], p[4], gradient[4][3];
    int32_t predicted[4], rank[4];
    d->ops->classify_loss(d, 4, 3, logits[0], labels, 1, losses, gradient[0]);
    d->ops->classify_probability(d, 4, 3, logits[0], labels, p);
    d->ops->classify_predict(d, 4, 3, logits[0], predicted);
    d->ops->classify_rank(d, 4, 3, logits[0], labels, rank);
    for (int n = 0; n < 3; n++) {
        assert_true(isnan(losses[n]) && isnan(p[n]));
        for (int c = 0; c < 3; c++)
            assert_true(isnan(gradient[n][c]));
    }
    assert_true(isfinite(losses[3]) && isfinite(p[3]));
    const int32_t want_predicted[4] = {0, 0, 2, 2}, want_rank[4] = {3, 1, 3, 1};
    assert_memory_equal(predicted, want_predicted, sizeof predicted);
    assert_memory_equal(rank, want_rank, sizeof rank);
}

static void test_labels_out_of_range_touch_nothing_else(void **state) {
    Device *d = *state;
    const float logits[2][3] = {{1, 2, 3}, {1, 2, 3}};
    const int32_t labels[2] = {-1, 3};
    float losses[2], p[2], onehot[2][3];
    int32_t rank[2];
    d->ops->classify_loss(d, 2, 3, logits[0], labels, 1, losses, NULL);
    d->ops->classify_probability(d, 2, 3, logits[0], labels, p);
    d->ops->classify_rank(d, 2, 3, logits[0], labels, rank);
    d->ops->classify_onehot(d, 2, 3, labels, onehot[0]);
    for (int n = 0; n < 2; n++) {
        assert_true(isnan(losses[n]) && isnan(p[n]) && rank[n] == 3);
        for (int c = 0; c < 3; c++)
            assert_true(onehot[n][c] == 0);
    }
}

static void test_onehot_and_equal(void **state) {
    Device *d = *state;
    const int32_t a[4] = {2, 0, 1, 1}, b[4] = {2, 1, 1, 0};
    int32_t equal[4];
    Tensor seed = tensor_new(d, DTYPE_F32, 12);
    d->ops->classify_onehot(d, 4, 3, a, seed.data);
    assert_true(tensor_equals("onehot", &seed, (double[]){0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0}, TOLERANCE_EXACT));
    d->ops->classify_equal(d, 4, a, b, equal);
    assert_true(equal[0] == 1 && equal[1] == 0 && equal[2] == 1 && equal[3] == 0);
    tensor_free(&seed);
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
