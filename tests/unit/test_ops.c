/* Memory, convert, pool, dense, unit, optimise and guard against closed forms and naive double references. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/device_fixture.h"
#include "tests/support/tensor.h"

static const DType types[] = {DTYPE_F32, DTYPE_BF16};
static const int64_t lengths[] = {0, 1, 15, 1000, 20011};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static ToleranceKind stored(DType type) {
    return type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
}

static double *block(int64_t n) {
    double *values = calloc((size_t)(n > 0 ? n : 1), sizeof *values);
    assert_non_null(values);
    return values;
}

/* ---- device and memory ---- */

static void test_device(void **state) {
    Device *d = *state;
    assert_int_equal(d->kind, DEVICE_CPU);
    assert_int_equal(d->threads, 2);
    assert_non_null(strstr(d->name, "2 threads"));
    assert_non_null(strstr(d->libraries, "oneDNN"));
    assert_non_null(strstr(d->libraries, "OpenBLAS"));
}

/* Ops holds function pointers only: none may be missing. */
static void test_table_is_complete(void **state) {
    Device *d = *state;
    typedef void (*Entry)(void);
    enum { ENTRIES = sizeof(Ops) / sizeof(Entry) };
    Entry entries[ENTRIES];
    memcpy(entries, d->ops, sizeof entries);
    for (int i = 0; i < ENTRIES; i++)
        if (!entries[i])
            fail_msg("entry %d of %d of the operator table is NULL", i, (int)ENTRIES);
}

static void test_memory(void **state) {
    Device *d = *state;
    const size_t sizes[] = {0, 1, 100, 5000000, 20000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t before = d->bytes_now;
        unsigned char *p;
        Error err;
        assert_int_equal(d->ops->alloc(d, sizes[i], (void **)&p, &err), STATUS_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(d->bytes_now, before + sizes[i]);
        assert_true(d->bytes_peak >= d->bytes_now);
        for (size_t k = 0; k < sizes[i]; k += 997)
            assert_int_equal(p[k], 0);
        if (sizes[i])
            p[sizes[i] - 1] = 7;
        d->ops->release(d, p, sizes[i]);
        assert_int_equal(d->bytes_now, before);
    }
    d->ops->release(d, NULL, 0);
}

static void test_memory_too_large(void **state) {
    Device *d = *state;
    void *p = d;
    Error err = {0};
    size_t before = d->bytes_now;
    assert_int_equal(d->ops->alloc(d, (size_t)1 << 60, &p, &err), STATUS_SYSTEM);
    assert_null(p);
    assert_int_equal(d->bytes_now, before);
    assert_non_null(strstr(err.message, "1152921504606.8 MB"));
}

static void test_copy_zero(void **state) {
    Device *d = *state;
    for (int i = 0; i < LENGTHS; i++) {
        int64_t n = lengths[i] * 17;
        Tensor x = tensor_random(d, DTYPE_U8, n, 0, 256, 1), y = tensor_new(d, DTYPE_U8, n);
        double *want = tensor_values(&x), *zero = block(n);
        d->ops->copy(d, y.data, x.data, (size_t)n);
        d->ops->sync(d);
        assert_true(tensor_equals("copy", &y, want, TOLERANCE_EXACT));
        d->ops->zero(d, y.data, (size_t)n);
        assert_true(tensor_equals("zero", &y, zero, TOLERANCE_EXACT));
        free(want), free(zero);
        tensor_free(&x), tensor_free(&y);
    }
}

static void test_no_cuda(void **state) {
    (void)state;
    char why[64] = "";
    Device d;
    Error err = {0};
    if (device_count_cuda(why, sizeof why) > 0) {
        print_message("this build has CUDA devices\n");
        skip();
    }
    assert_true(why[0] != '\0');
    assert_int_equal(device_open_cuda(&d, 0, &err), STATUS_SYSTEM);
}

typedef struct FatalCall {
    jmp_buf back;
    Status code;
    char message[128];
} FatalCall;

static void note_fatal(void *ctx, Status code, const char *message) {
    FatalCall *call = ctx;
    call->code = code;
    snprintf(call->message, sizeof call->message, "%s", message);
    longjmp(call->back, 1);
}

static void test_fatal_reaches_the_hook(void **state) {
    (void)state;
    static FatalCall call;
    Device d = {.fatal = note_fatal, .fatal_ctx = &call};
    fprintf(stderr, "expected on the next line: ");
    if (setjmp(call.back) == 0)
        device_fatal(&d, STATUS_DIVERGED, "number %d", 42);
    assert_int_equal(call.code, STATUS_DIVERGED);
    assert_string_equal(call.message, "number 42");
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
                d->ops->cast(d, lengths[i], types[from], x.data, types[to], y.data);
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
    uint32_t in[KNOWN + 2];
    uint16_t out[KNOWN + 2];
    for (int i = 0; i < KNOWN; i++)
        in[i] = known[i].f32;
    in[KNOWN] = 0x7F800001;
    in[KNOWN + 1] = 0xFFFFFFFF;
    d->ops->cast(d, KNOWN + 2, DTYPE_F32, in, DTYPE_BF16, out);
    for (int i = 0; i < KNOWN; i++)
        assert_int_equal(out[i], known[i].bf16);
    for (int i = KNOWN; i < KNOWN + 2; i++)
        assert_true((out[i] & 0x7F80) == 0x7F80 && (out[i] & 0x7F) != 0);
}

static void test_gather_rows(void **state) {
    Device *d = *state;
    enum { ROWS = 50, WIDTH = 333 };
    for (int n = 0; n <= 64; n += 32) {
        Tensor src = tensor_random(d, DTYPE_U8, ROWS * WIDTH, 0, 256, 1),
               dst = tensor_random(d, DTYPE_U8, n * WIDTH, 0, 256, 2);
        Tensor index = tensor_random(d, DTYPE_I32, n, -20, ROWS, 3);
        double *s = tensor_values(&src), *want = tensor_values(&dst), *at = tensor_values(&index);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < WIDTH; k++)
                if (at[i] >= 0)
                    want[i * WIDTH + k] = s[(int)at[i] * WIDTH + k];
        d->ops->gather_rows(d, n, WIDTH, src.data, index.data, dst.data);
        assert_true(tensor_equals("gather", &dst, want, TOLERANCE_EXACT));
        free(s), free(want), free(at);
        tensor_free(&src), tensor_free(&dst), tensor_free(&index);
    }
}

static void test_add(void **state) {
    Device *d = *state;
    for (int i = 0; i < LENGTHS; i++) {
        Tensor x = tensor_random(d, DTYPE_F32, lengths[i], -1, 1, 1),
               y = tensor_random(d, DTYPE_F32, lengths[i], -1, 1, 2);
        double *xs = tensor_values(&x), *want = tensor_values(&y);
        for (int64_t k = 0; k < lengths[i]; k++)
            want[k] += xs[k];
        d->ops->add(d, lengths[i], x.data, y.data);
        assert_true(tensor_equals("add", &y, want, TOLERANCE_F32));
        free(xs), free(want);
        tensor_free(&x), tensor_free(&y);
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
            double *s = tensor_values(&src), *want = block(count);
            for (int64_t i = 0; i < count; i++)
                want[(i / (c * hw) * hw + i % hw) * c + i / hw % c] = s[i];
            d->ops->nchw_to_nhwc(d, n, c, hw, src.data, types[t], nhwc.data);
            assert_true(tensor_equals("nhwc", &nhwc, want, stored(types[t])));
            d->ops->nhwc_to_nchw(d, n, c, hw, types[t], nhwc.data, back.data);
            assert_true(tensor_equals("nchw", &back, s, stored(types[t])));
            free(s), free(want);
            tensor_free(&src), tensor_free(&nhwc), tensor_free(&back);
        }
}

/* ---- pool ---- */

static void pool_case(Device *d, DType type, int64_t N, int HW, int C) {
    Tensor x = tensor_random(d, type, N * HW * C, -1, 2, 1), features = tensor_new(d, DTYPE_F32, N * C);
    Tensor df = tensor_random(d, DTYPE_F32, N * C, -1, 1, 2), dx = tensor_new(d, type, N * HW * C);
    double *xs = tensor_values(&x), *dfs = tensor_values(&df), *want = block(N * C), *want_dx = block(N * HW * C);
    for (int64_t i = 0; i < N * HW * C; i++) {
        int64_t feature = i / ((int64_t)HW * C) * C + i % C;
        want[feature] += xs[i] / HW;
        want_dx[i] = dfs[feature] / HW;
    }
    d->ops->pool_forward(d, N, HW, C, type, x.data, features.data);
    d->ops->pool_backward(d, N, HW, C, type, df.data, dx.data);
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
    }
}

/* ---- optimise and guard ---- */

static void test_sgd(void **state) {
    Device *d = *state;
    SgdStep step = {0.05f, 0.9f, 1e-2f};
    for (int i = 0; i < LENGTHS; i++)
        for (int with_low = 0; with_low < 2; with_low++) {
            int64_t n = lengths[i];
            Tensor g = tensor_random(d, DTYPE_F32, n, -1, 1, 1), v = tensor_random(d, DTYPE_F32, n, -1, 1, 2);
            Tensor p = tensor_random(d, DTYPE_F32, n, -1, 1, 3), low = tensor_new(d, DTYPE_BF16, n);
            double *gs = tensor_values(&g), *vs = tensor_values(&v), *ps = tensor_values(&p);
            for (int64_t k = 0; k < n; k++) {
                vs[k] = (double)step.momentum * vs[k] + gs[k] + (double)step.weight_decay * ps[k];
                ps[k] -= (double)step.lr * vs[k];
            }
            d->ops->sgd(d, n, &step, g.data, v.data, p.data, with_low ? low.data : NULL);
            assert_true(tensor_equals("velocity", &v, vs, TOLERANCE_F32));
            assert_true(tensor_equals("parameter", &p, ps, TOLERANCE_F32));
            if (with_low)
                assert_true(tensor_equals("bf16 copy", &low, ps, TOLERANCE_BF16));
            free(gs), free(vs), free(ps);
            tensor_free(&g), tensor_free(&v), tensor_free(&p), tensor_free(&low);
        }
}

static void test_guard(void **state) {
    Device *d = *state;
    for (int i = 0; i < LENGTHS; i++) {
        int64_t n = lengths[i];
        Tensor x = tensor_random(d, DTYPE_F32, n, -3e38, 3e38, 1), count = tensor_random(d, DTYPE_I64, 1, 5, 5.5, 2);
        double *xs = tensor_values(&x), want[1] = {5};
        for (int64_t k = 0; k < n; k += 7) {
            const double bad[] = {NAN, INFINITY, -INFINITY, 3.4028234e38, 1e-42, 0};
            xs[k] = bad[k % 6];
            want[0] += k % 6 < 3;
        }
        tensor_set(&x, xs);
        d->ops->guard_nonfinite(d, n, x.data, count.data);
        assert_true(tensor_equals("non-finite", &count, want, TOLERANCE_EXACT));
        free(xs);
        tensor_free(&x), tensor_free(&count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_too_large),
        cmocka_unit_test(test_copy_zero),
        cmocka_unit_test(test_no_cuda),
        cmocka_unit_test(test_fatal_reaches_the_hook),
        cmocka_unit_test(test_cast),
        cmocka_unit_test(test_cast_edges),
        cmocka_unit_test(test_gather_rows),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
