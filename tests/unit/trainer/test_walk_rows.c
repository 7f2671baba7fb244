/* A walk whose convolutions are told more rows than there are data for leaves the features and gradients of one whose
 * convolutions are not, whatever lies in the rows beyond: here NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/numbers/compare.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"
#include "trainer/model/walk.h"

enum { ROWS = 5, MORE_ROWS = 8, SIDE = 16, CLASSES = 3 };

typedef struct Result {
    double *features, *gradient;
} Result;

static void spoil(Device *d, char *arena, size_t bytes) {
    void *host;
    Error err;
    assert_int_equal(d->ops->memory->host_alloc(d, bytes, &host, &err), STATUS_OK);
    memset(host, 0xFF, bytes);
    d->ops->memory->copy_in(d, arena, host, bytes);
    d->ops->stream->sync(d);
    d->ops->memory->host_release(d, host, bytes);
}

static double *values_of(Device *d, const float *at, int64_t n) {
    float *host = malloc(sizeof *host * (size_t)n);
    double *values = malloc(sizeof *values * (size_t)n);
    assert_true(host && values);
    d->ops->memory->copy_out(d, host, at, sizeof *host * (size_t)n);
    for (int64_t i = 0; i < n; i++)
        values[i] = (double)host[i];
    free(host);
    return values;
}

/* Forward and backward of the first ROWS rows, convolutions told `conv_rows`. */
static Result walk(Device *d, Model *m, const Plan *plan, char *arena, int64_t conv_rows) {
    const size_t input = (size_t)ROWS * SIDE * SIDE * 3 * dtype_size(m->dtype);
    Tensor x = tensor_random(d, m->dtype, (int64_t)ROWS * SIDE * SIDE * 3, -1, 1, 1);
    Tensor features = tensor_new(d, DTYPE_F32, (int64_t)ROWS * m->features);
    Tensor dfeatures = tensor_random(d, DTYPE_F32, (int64_t)ROWS * m->features, -1, 1, 2);
    const Walk w = {.model = m,
                    .plan = plan,
                    .base = arena,
                    .rows = ROWS,
                    .conv_rows = conv_rows,
                    .global_rows = ROWS,
                    .norm = NORM_BATCH};
    spoil(d, arena, plan->bytes);
    d->ops->memory->copy(d, walk_at(&w, 0), x.data, input);
    d->ops->memory->zero(d, m->gradient, sizeof(float) * (size_t)m->total);
    walk_forward(&w, features.data);
    walk_backward(&w, dfeatures.data, NULL);
    const Result r = {values_of(d, features.data, features.n), values_of(d, m->gradient, m->head_first)};
    assert_true(tensor_guards_hold(&features));
    tensor_free(&x), tensor_free(&features), tensor_free(&dfeatures);
    return r;
}

static void check(Device *d, DType type, ToleranceKind tolerance) {
    const ModelShape shape = {.encoder = "resnet10", .width = 8, .classes = CLASSES, .projection = 4, .size = SIDE};
    Comm comm = {.size = 1};
    Model m;
    Plan plan;
    Error err;
    void *arena;
    assert_int_equal(model_init(&m, d, &comm, &shape, type, 3, &err), STATUS_OK);
    m.bn_global = 0;
    assert_int_equal(plan_init_train(&plan, &m, MORE_ROWS, &err), STATUS_OK);
    assert_int_equal(d->ops->memory->alloc(d, plan.bytes, &arena, &err), STATUS_OK);
    const Result want = walk(d, &m, &plan, arena, 0), got = walk(d, &m, &plan, arena, MORE_ROWS);
    assert_true(isfinite(want.gradient[0]));
    assert_true(compare_vectors("features", (int64_t)ROWS * m.features, got.features, want.features, tolerance));
    assert_true(compare_vectors("gradients", m.head_first, got.gradient, want.gradient, tolerance));
    free(want.features), free(want.gradient), free(got.features), free(got.gradient);
    d->ops->memory->release(d, arena, plan.bytes);
    plan_free(&plan);
    model_free(&m);
}

static void test_f32(void **state) {
    check(*state, DTYPE_F32, TOLERANCE_F32);
}

static void test_bf16(void **state) {
    check(*state, DTYPE_BF16, TOLERANCE_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
