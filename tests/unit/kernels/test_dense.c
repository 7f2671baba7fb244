/* Dense layers, ReLU's gradient and unit-norm rows against naive double references and finite differences. */
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
    int in, out;
} shapes[] = {{0, 7, 5}, {1, 1, 1}, {3, 17, 5}, {100, 64, 33}, {5, 300, 128}, {7, 20, 500}, {257, 65, 31}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void reference_forward(int64_t N, int in, int out, const double *x, const double *w, const double *b, int relu,
                              double *y) {
    for (int64_t n = 0; n < N; n++)
        for (int j = 0; j < out; j++) {
            double sum = b ? b[j] : 0;
            for (int i = 0; i < in; i++)
                sum += x[n * in + i] * w[j * in + i];
            y[n * out + j] = relu && sum < 0 ? 0 : sum;
        }
}

static void test_forward(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int kind = 0; kind < 4; kind++) {
            int64_t N = shapes[s].N;
            int in = shapes[s].in, out = shapes[s].out, with_bias = kind & 1, relu = kind >> 1;
            Tensor x = tensor_random(d, DTYPE_F32, N * in, -1, 1, 1);
            Tensor w = tensor_random(d, DTYPE_F32, (int64_t)in * out, -1, 1, 2);
            Tensor b = tensor_random(d, DTYPE_F32, out, -1, 1, 3), y = tensor_new(d, DTYPE_F32, N * out);
            double *xs = tensor_values(&x), *ws = tensor_values(&w), *bs = tensor_values(&b), *want = zeros(N * out);
            reference_forward(N, in, out, xs, ws, with_bias ? bs : NULL, relu, want);
            d->ops->dense->forward(d, N, in, out, x.data, w.data, with_bias ? b.data : NULL, relu, y.data);
            assert_true(tensor_equals("y", &y, want, TOLERANCE_F32));
            free(xs), free(ws), free(bs), free(want);
            tensor_free(&x), tensor_free(&w), tensor_free(&b), tensor_free(&y);
        }
}

static void test_backward(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int with_bias = 0; with_bias < 2; with_bias++) {
            int64_t N = shapes[s].N;
            int in = shapes[s].in, out = shapes[s].out;
            Tensor x = tensor_random(d, DTYPE_F32, N * in, -1, 1, 1);
            Tensor w = tensor_random(d, DTYPE_F32, (int64_t)in * out, -1, 1, 2);
            Tensor dy = tensor_random(d, DTYPE_F32, N * out, -1, 1, 3), dx = tensor_new(d, DTYPE_F32, N * in);
            Tensor dw = tensor_random(d, DTYPE_F32, (int64_t)in * out, -2, 2, 4);
            Tensor db = tensor_random(d, DTYPE_F32, out, -2, 2, 5);
            double *xs = tensor_values(&x), *ws = tensor_values(&w), *g = tensor_values(&dy), *want_dx = zeros(N * in);
            double *want_dw = tensor_values(&dw), *want_db = tensor_values(&db);
            for (int64_t n = 0; n < N; n++)
                for (int j = 0; j < out; j++) {
                    double v = g[n * out + j];
                    want_db[j] += with_bias ? v : 0;
                    for (int i = 0; i < in; i++) {
                        want_dx[n * in + i] += v * ws[j * in + i];
                        want_dw[j * in + i] += v * xs[n * in + i];
                    }
                }
            d->ops->dense->backward_data(d, N, in, out, dy.data, w.data, dx.data);
            d->ops->dense->backward_weight(d, N, in, out, x.data, dy.data, dw.data, with_bias ? db.data : NULL);
            assert_true(tensor_equals("dx", &dx, want_dx, TOLERANCE_F32));
            assert_true(tensor_equals("dw", &dw, want_dw, TOLERANCE_F32));
            assert_true(tensor_equals("db", &db, want_db, TOLERANCE_F32));
            free(xs), free(ws), free(g), free(want_dx), free(want_dw), free(want_db);
            tensor_free(&x), tensor_free(&w), tensor_free(&dy), tensor_free(&dx), tensor_free(&dw), tensor_free(&db);
        }
}

enum { ROWS = 9, IN = 14, OUT = 11 };

/* sum(r * unit(relu(x w^T + b))) in double: the projection head in small. */
static double head_loss(const double *x, const double *w, const double *b, const double *r) {
    double y[ROWS * OUT], loss = 0;
    reference_forward(ROWS, IN, OUT, x, w, b, 1, y);
    for (int n = 0; n < ROWS; n++) {
        double square = 0;
        for (int j = 0; j < OUT; j++)
            square += y[n * OUT + j] * y[n * OUT + j];
        for (int j = 0; j < OUT; j++)
            loss += r[n * OUT + j] * y[n * OUT + j] / sqrt(square);
    }
    return loss;
}

static void test_head_finite_differences(void **state) {
    Device *d = *state;
    Tensor x = tensor_random(d, DTYPE_F32, ROWS * IN, -1, 1, 1), w = tensor_random(d, DTYPE_F32, IN * OUT, -1, 1, 2);
    Tensor b = tensor_random(d, DTYPE_F32, OUT, -1, 1, 3), y = tensor_new(d, DTYPE_F32, ROWS * OUT);
    Tensor z = tensor_new(d, DTYPE_F32, ROWS * OUT), norm = tensor_new(d, DTYPE_F32, ROWS);
    Tensor dz = tensor_random(d, DTYPE_F32, ROWS * OUT, -1, 1, 4), dy = tensor_new(d, DTYPE_F32, ROWS * OUT);
    Tensor dx = tensor_new(d, DTYPE_F32, ROWS * IN), dw = tensor_zero(d, DTYPE_F32, IN * OUT);
    Tensor db = tensor_zero(d, DTYPE_F32, OUT);
    d->ops->dense->forward(d, ROWS, IN, OUT, x.data, w.data, b.data, 1, y.data);
    d->ops->unit->forward(d, ROWS, OUT, y.data, z.data, norm.data);
    d->ops->unit->backward(d, ROWS, OUT, z.data, norm.data, dz.data, dy.data);
    d->ops->dense->relu_backward(d, ROWS * OUT, y.data, dy.data);
    d->ops->dense->backward_data(d, ROWS, IN, OUT, dy.data, w.data, dx.data);
    d->ops->dense->backward_weight(d, ROWS, IN, OUT, x.data, dy.data, dw.data, db.data);
    double *inputs[] = {tensor_values(&x), tensor_values(&w), tensor_values(&b)}, *r = tensor_values(&dz);
    Tensor *gradients[] = {&dx, &dw, &db};
    const char *names[] = {"dx", "dw", "db"};
    for (int k = 0; k < 3; k++) {
        double *want = zeros(gradients[k]->n), step = 1e-6;
        for (int64_t i = 0; i < gradients[k]->n; i++) {
            double kept = inputs[k][i];
            inputs[k][i] = kept + step;
            want[i] = head_loss(inputs[0], inputs[1], inputs[2], r);
            inputs[k][i] = kept - step;
            want[i] = (want[i] - head_loss(inputs[0], inputs[1], inputs[2], r)) / (2 * step);
            inputs[k][i] = kept;
        }
        assert_true(tensor_equals(names[k], gradients[k], want, TOLERANCE_DIFFERENCE));
        free(want);
    }
    for (int k = 0; k < 3; k++)
        free(inputs[k]);
    free(r);
    tensor_free(&x), tensor_free(&w), tensor_free(&b), tensor_free(&y), tensor_free(&z), tensor_free(&norm);
    tensor_free(&dz), tensor_free(&dy), tensor_free(&dx), tensor_free(&dw), tensor_free(&db);
}

static void test_relu_backward(void **state) {
    Device *d = *state;
    for (int64_t n = 0; n <= 20000; n += 9999) {
        Tensor y = tensor_random(d, DTYPE_F32, n, -1, 1, 1), dy = tensor_random(d, DTYPE_F32, n, -1, 1, 2);
        double *ys = tensor_values(&y), *want = tensor_values(&dy);
        if (n > 0)
            ys[n / 2] = 0;
        tensor_set(&y, ys);
        for (int64_t i = 0; i < n; i++)
            want[i] = ys[i] > 0 ? want[i] : 0;
        d->ops->dense->relu_backward(d, n, y.data, dy.data);
        assert_true(tensor_equals("relu", &dy, want, TOLERANCE_EXACT));
        free(ys), free(want);
        tensor_free(&y), tensor_free(&dy);
    }
}

static void unit_case(Device *d, int64_t N, int D) {
    Tensor x = tensor_random(d, DTYPE_F32, N * D, -3, 3, 1), z = tensor_new(d, DTYPE_F32, N * D);
    Tensor norm = tensor_new(d, DTYPE_F32, N), dz = tensor_random(d, DTYPE_F32, N * D, -1, 1, 2);
    Tensor dx = tensor_new(d, DTYPE_F32, N * D);
    double *xs = tensor_values(&x), *g = tensor_values(&dz);
    for (int i = 0; i < D && N > 1; i++)
        xs[D + i] = 0; /* a row of zeros stays zeros */
    tensor_set(&x, xs);
    double *want_z = zeros(N * D), *want_norm = zeros(N), *want_dx = zeros(N * D);
    for (int64_t n = 0; n < N; n++) {
        double square = 0, dot = 0;
        for (int i = 0; i < D; i++)
            square += xs[n * D + i] * xs[n * D + i];
        want_norm[n] = 1 / fmax(sqrt(square), 1e-12);
        for (int i = 0; i < D; i++) {
            want_z[n * D + i] = xs[n * D + i] * want_norm[n];
            dot += want_z[n * D + i] * g[n * D + i];
        }
        for (int i = 0; i < D; i++)
            want_dx[n * D + i] = (g[n * D + i] - want_z[n * D + i] * dot) * want_norm[n];
    }
    d->ops->unit->forward(d, N, D, x.data, z.data, norm.data);
    d->ops->unit->backward(d, N, D, z.data, norm.data, dz.data, dx.data);
    assert_true(tensor_equals("z", &z, want_z, TOLERANCE_F32));
    double *got_norm = tensor_values(&norm), *got_dx = tensor_values(&dx);
    for (int64_t n = 0; n < N; n++) { /* row by row: the zero row's 1e12 would hide the others */
        assert_true(compare_vectors("inverse norm", 1, &got_norm[n], &want_norm[n], TOLERANCE_F32));
        assert_true(compare_vectors("unit dx", D, &got_dx[n * D], &want_dx[n * D], TOLERANCE_F32));
    }
    assert_true(tensor_guards_hold(&norm) && tensor_guards_hold(&dx));
    free(xs), free(g), free(want_z), free(want_norm), free(want_dx), free(got_norm), free(got_dx);
    tensor_free(&x), tensor_free(&z), tensor_free(&norm), tensor_free(&dz), tensor_free(&dx);
}

static void test_unit(void **state) {
    unit_case(*state, 0, 8);
    unit_case(*state, 1, 33);
    unit_case(*state, 7, 5);
    unit_case(*state, 200, 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_head_finite_differences),
        cmocka_unit_test(test_relu_backward),
        cmocka_unit_test(test_unit),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
