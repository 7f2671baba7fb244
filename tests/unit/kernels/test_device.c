/* A device itself: what it says of itself, its memory, host memory, moments, recorded captures, and the messages when
 * there is none. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static void test_device(void **state) {
    Device *d = *state;
    if (d->kind == DEVICE_CUDA) {
        assert_non_null(strstr(d->name, "sm_"));
        assert_non_null(strstr(d->libraries, "CUDA"));
        assert_non_null(strstr(d->libraries, "cuBLAS"));
        return;
    }
    assert_int_equal(d->kind, DEVICE_CPU);
    assert_int_equal(d->threads, 2);
    assert_non_null(strstr(d->name, "2 threads"));
    assert_non_null(strstr(d->libraries, "oneDNN"));
}

/* A family's table holds function pointers only: none may be missing. */
static void family_case(const char *family, const void *table, size_t bytes) {
    typedef void (*Entry)(void);
    if (!table)
        fail_msg("family %s has no table", family);
    for (size_t i = 0; i < bytes / sizeof(Entry); i++) {
        Entry entry;
        memcpy(&entry, (const Entry *)table + i, sizeof entry);
        if (!entry)
            fail_msg("entry %zu of %zu of family %s is NULL", i, bytes / sizeof(Entry), family);
    }
}

static void test_tables_are_complete(void **state) {
    const Device *d = *state;
#define X(Type, family) family_case(#family, d->ops->family, sizeof(Type));
    OPS_FAMILIES(X)
#undef X
}

/* ---- memory ---- */

static const size_t sizes[] = {0, 1, 100, 5000000, 20000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void assert_zero(const unsigned char *p, size_t bytes) {
    for (size_t k = 0; k < bytes; k++)
        if (p[k])
            fail_msg("byte %zu of %zu is %d, not 0", k, bytes, p[k]);
}

static void test_memory(void **state) {
    Device *d = *state;
    for (int i = 0; i < SIZES; i++) {
        const size_t before = d->bytes_now, bytes = sizes[i];
        unsigned char *p, *host = malloc(bytes + 1), seven = 7, last = 0;
        Error err;
        assert_non_null(host);
        assert_int_equal(d->ops->memory->alloc(d, bytes, (void **)&p, &err), STATUS_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(d->bytes_now, before + bytes);
        assert_true(d->bytes_peak >= d->bytes_now);
        memset(host, 1, bytes);
        d->ops->memory->copy_out(d, host, p, bytes);
        assert_zero(host, bytes);
        if (bytes) {
            d->ops->memory->copy_in(d, p + bytes - 1, &seven, 1);
            d->ops->memory->copy_out(d, &last, p + bytes - 1, 1);
            assert_int_equal(last, 7);
        }
        d->ops->memory->release(d, p, bytes);
        assert_int_equal(d->bytes_now, before);
        free(host);
    }
    d->ops->memory->release(d, NULL, 0);
}

static void test_memory_too_large(void **state) {
    Device *d = *state;
    void *p = d;
    Error err = {0};
    size_t before = d->bytes_now;
    assert_int_equal(d->ops->memory->alloc(d, (size_t)1 << 60, &p, &err), STATUS_SYSTEM);
    assert_null(p);
    assert_int_equal(d->bytes_now, before);
    assert_non_null(strstr(err.message, "1152921504606.8 MB"));
}

static void test_host_memory(void **state) {
    Device *d = *state;
    for (int i = 0; i < SIZES; i++) {
        const size_t before = d->bytes_now, bytes = sizes[i];
        unsigned char *p;
        Error err;
        assert_int_equal(d->ops->memory->host_alloc(d, bytes, (void **)&p, &err), STATUS_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(d->bytes_now, before);
        assert_zero(p, bytes);
        memset(p, 7, bytes);
        d->ops->memory->host_release(d, p, bytes);
    }
    d->ops->memory->host_release(d, NULL, 0);
}

static void test_copy_zero(void **state) {
    Device *d = *state;
    const int64_t lengths[] = {0, 1, 255, 17000, 340187};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t n = lengths[i];
        Tensor x = tensor_random(d, DTYPE_U8, n, 0, 256, 1), y = tensor_new(d, DTYPE_U8, n);
        double *want = tensor_values(&x), *zero = calloc((size_t)n + 1, sizeof *zero);
        assert_non_null(zero);
        d->ops->memory->copy(d, y.data, x.data, (size_t)n);
        d->ops->stream->sync(d);
        assert_true(tensor_equals("copy", &y, want, TOLERANCE_EXACT));
        d->ops->memory->zero(d, y.data, (size_t)n);
        assert_true(tensor_equals("zero", &y, zero, TOLERANCE_EXACT));
        free(want), free(zero);
        tensor_free(&x), tensor_free(&y);
    }
}

/* Sources may be used again after sync. The stand-in GPU reads them no earlier, so that in its tests every source that
 * does not live as long gives wrong numbers, or is found by AddressSanitizer. */
static void test_copy_in_and_its_source(void **state) {
    Device *d = *state;
    enum { N = 5000 };
    const int simt = d->library && dlsym(d->library, "simt_set_order") != NULL;
    float *pinned, *plain = malloc(N * sizeof *plain);
    Error err;
    assert_non_null(plain);
    assert_int_equal(d->ops->memory->host_alloc(d, N * sizeof *pinned, (void **)&pinned, &err), STATUS_OK);
    Tensor from_plain = tensor_new(d, DTYPE_F32, N), from_pinned = tensor_new(d, DTYPE_F32, N);
    double want[N], late[N];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            plain[i] = pinned[i] = (float)(want[i] = round * N + i);
            late[i] = -1;
        }
        d->ops->memory->copy_in(d, from_plain.data, plain, N * sizeof *plain);
        d->ops->memory->copy_in(d, from_pinned.data, pinned, N * sizeof *pinned);
        d->ops->stream->sync(d);
        memset(plain, 0xFF, N * sizeof *plain);
        memset(pinned, 0xFF, N * sizeof *pinned);
        assert_true(tensor_equals("from any memory", &from_plain, want, TOLERANCE_EXACT));
        assert_true(tensor_equals("from host_alloc's memory", &from_pinned, want, TOLERANCE_EXACT));
        d->ops->memory->copy_in(d, from_plain.data, plain, N * sizeof *plain);
        for (int i = 0; i < N; i++)
            plain[i] = -1;
        if (simt)
            assert_true(tensor_equals("read late", &from_plain, late, TOLERANCE_EXACT));
    }
    tensor_free(&from_plain), tensor_free(&from_pinned);
    d->ops->memory->host_release(d, pinned, N * sizeof *pinned);
    free(plain);
}

/* ---- time and graphs ---- */

static void test_stamps(void **state) {
    Device *d = *state;
    Tensor x = tensor_random(d, DTYPE_F32, 50000, -1, 1, 1), y = tensor_zero(d, DTYPE_F32, 50000);
    for (int round = 0; round < 2; round++) {
        d->ops->stream->stamp(d, 0);
        d->ops->convert->add(d, x.n, x.data, y.data);
        d->ops->stream->stamp(d, DEVICE_STAMPS - 1);
        d->ops->convert->add(d, x.n, x.data, y.data);
        d->ops->stream->stamp(d, 1);
        d->ops->stream->sync(d);
        const double first = d->ops->stream->seconds(d, 0, DEVICE_STAMPS - 1);
        const double second = d->ops->stream->seconds(d, DEVICE_STAMPS - 1, 1), both = d->ops->stream->seconds(d, 0, 1);
        assert_true(first > 0 && second > 0 && both < 60);
        assert_true(both >= 0.999 * (first + second) - 1e-6 && both <= 1.001 * (first + second) + 1e-6);
        assert_true(d->ops->stream->seconds(d, 0, 0) == 0);
    }
    tensor_free(&x), tensor_free(&y);
}

enum { CAPTURE_M = 500, CAPTURE_C = 12, CAPTURE_N = CAPTURE_M * CAPTURE_C };

/* Buffers of a capture like one of a training step: batch norm of what a pinned buffer holds, added up. */
typedef struct Capture {
    Device *device;
    const float *pinned; /* [CAPTURE_N] */
    Tensor x, sums, stats, affine, y, low, total, seen;
    int stamps; /* also mark moments 2 and 3 */
} Capture;

static Capture capture_new(Device *d, const float *pinned, int stamps) {
    return (Capture){.device = d,
                     .pinned = pinned,
                     .x = tensor_new(d, DTYPE_F32, CAPTURE_N),
                     .sums = tensor_new(d, DTYPE_F64, 2 * CAPTURE_C),
                     .stats = tensor_new(d, DTYPE_F32, 4 * CAPTURE_C),
                     .affine = tensor_random(d, DTYPE_F32, 2 * CAPTURE_C, -1, 1, 5),
                     .y = tensor_new(d, DTYPE_F32, CAPTURE_N),
                     .low = tensor_new(d, DTYPE_BF16, CAPTURE_N),
                     .total = tensor_zero(d, DTYPE_F32, CAPTURE_N),
                     .seen = tensor_new(d, DTYPE_F64, 1),
                     .stamps = stamps};
}

static void capture_free(Capture *s) {
    tensor_free(&s->x), tensor_free(&s->sums), tensor_free(&s->stats), tensor_free(&s->affine);
    tensor_free(&s->y), tensor_free(&s->low), tensor_free(&s->total), tensor_free(&s->seen);
}

static void capture_issue(const Capture *s) {
    Device *d = s->device;
    float *mean = s->stats.data, *gamma = s->affine.data;
    const NormStatistics stats = {mean, mean + CAPTURE_C, mean + 2 * CAPTURE_C, mean + 3 * CAPTURE_C};
    const NormParameters parameters = {.gamma = gamma, .beta = gamma + CAPTURE_C, .eps = 1e-5f, .momentum = 0.1f};
    if (s->stamps)
        d->ops->stream->stamp(d, 2);
    d->ops->memory->copy_in(d, s->x.data, s->pinned, CAPTURE_N * sizeof(float));
    d->ops->norm->sums(d, CAPTURE_M, CAPTURE_C, DTYPE_F32, s->x.data, s->sums.data);
    d->ops->norm->finalize(d, CAPTURE_C, s->sums.data, CAPTURE_M, &parameters, &stats);
    d->ops->memory->zero(d, s->y.data, CAPTURE_N * sizeof(float));
    d->ops->norm->apply(d, CAPTURE_M, CAPTURE_C, DTYPE_F32, s->x.data, &stats, s->y.data, 1, s->y.data);
    d->ops->convert->cast(d, CAPTURE_N, DTYPE_F32, s->y.data, DTYPE_BF16, s->low.data);
    d->ops->convert->add(d, CAPTURE_N, s->y.data, s->total.data);
    d->ops->convert->sum(d, CAPTURE_N, s->total.data, 0.5, s->seen.data);
    if (s->stamps)
        d->ops->stream->stamp(d, 3);
}

/* What begin answered. */
static int capture_meet(const Capture *s, uint64_t key) {
    const int issue = s->device->ops->graph->begin(s->device, key);
    if (issue) {
        capture_issue(s);
        s->device->ops->graph->end(s->device);
    }
    return issue;
}

static void assert_same(const Capture *got, const Capture *want) {
    const Tensor *outputs[] = {&got->x, &got->sums, &got->stats, &got->y, &got->low, &got->total, &got->seen};
    const Tensor *expected[] = {&want->x, &want->sums, &want->stats, &want->y, &want->low, &want->total, &want->seen};
    static const char *const names[] = {"x", "sums", "stats", "y", "bf16 y", "total", "seen"};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        double *values = tensor_values(expected[i]);
        assert_true(tensor_equals(names[i], outputs[i], values, TOLERANCE_EXACT));
        free(values);
    }
}

/* New contents of the pinned buffer and of the device inputs of both. */
static void new_inputs(float *pinned, Capture *a, Capture *b, int round) {
    a->device->ops->stream->sync(a->device);
    for (int i = 0; i < CAPTURE_N; i++)
        pinned[i] = (float)((i * 37 + round * 1001) % 997) / 100.0f - 4.0f;
    double affine[2 * CAPTURE_C];
    for (int i = 0; i < 2 * CAPTURE_C; i++)
        affine[i] = 0.5 + 0.1 * (i % 5) - 0.2 * round;
    tensor_set(&a->affine, affine);
    tensor_set(&b->affine, affine);
}

static float *pinned_floats(Device *d, size_t n) {
    void *p;
    Error err;
    assert_int_equal(d->ops->memory->host_alloc(d, n * sizeof(float), &p, &err), STATUS_OK);
    return p;
}

static void test_graph_equals_plain(void **state) {
    Device *d = *state;
    float *pinned = pinned_floats(d, CAPTURE_N);
    Capture plain = capture_new(d, pinned, 0), recorded = capture_new(d, pinned, 1), other = capture_new(d, pinned, 0);
    for (int round = 0; round < 6; round++) {
        new_inputs(pinned, &plain, &recorded, round);
        double *affine = tensor_values(&plain.affine);
        tensor_set(&other.affine, affine);
        free(affine);
        capture_issue(&plain);
        d->ops->stream->stamp(d, 0);
        const int issue = capture_meet(&recorded, 0xA);
        d->ops->stream->stamp(d, 1);
        assert_int_equal(issue, d->kind == DEVICE_CPU || round < 2);
        assert_int_equal(capture_meet(&other, 0xB), issue);
        assert_same(&recorded, &plain);
        assert_same(&other, &plain);
        assert_true(d->ops->stream->seconds(d, 0, 2) >= 0 && d->ops->stream->seconds(d, 2, 3) > 0);
        assert_true(d->ops->stream->seconds(d, 3, 1) >= 0);
    }
    capture_free(&plain), capture_free(&recorded), capture_free(&other);
    d->ops->memory->host_release(d, pinned, CAPTURE_N * sizeof *pinned);
}

/* Scratch memory that had to grow lies elsewhere; what was recorded before still finds its own. */
static void test_graph_after_scratch_has_grown(void **state) {
    Device *d = *state;
    enum { WIDE = 40000 };
    float *pinned = pinned_floats(d, CAPTURE_N);
    Capture plain = capture_new(d, pinned, 0), recorded = capture_new(d, pinned, 0);
    Tensor wide = tensor_random(d, DTYPE_F32, 2 * WIDE, -1, 1, 9), sums = tensor_new(d, DTYPE_F64, 2 * WIDE);
    const size_t before = d->bytes_now;
    for (int round = 0; round < 8; round++) {
        if (round == 4) {
            d->ops->norm->sums(d, 2, WIDE, DTYPE_F32, wide.data, sums.data);
            assert_true(d->kind == DEVICE_CPU || d->bytes_now > before);
        }
        new_inputs(pinned, &plain, &recorded, round);
        capture_issue(&plain);
        assert_int_equal(capture_meet(&recorded, 0xC), d->kind == DEVICE_CPU || round < 2);
        assert_same(&recorded, &plain);
    }
    tensor_free(&wide), tensor_free(&sums);
    capture_free(&plain), capture_free(&recorded);
    d->ops->memory->host_release(d, pinned, CAPTURE_N * sizeof *pinned);
}

/* More keys than recordings are kept, met in an order that keeps some and drops others. */
static void test_graph_many_keys(void **state) {
    Device *d = *state;
    enum { KEYS = 12, MEETS = 100 };
    Tensor one = tensor_random(d, DTYPE_F32, 1, 1, 1, 1), counts = tensor_zero(d, DTYPE_F32, KEYS);
    double want[KEYS] = {0};
    for (int i = 0; i < MEETS; i++) {
        const int key = i % 3 ? i % 5 : i % KEYS;
        if (d->ops->graph->begin(d, 1000 + (uint64_t)key)) {
            d->ops->convert->add(d, 1, one.data, (float *)counts.data + key);
            d->ops->graph->end(d);
        }
        want[key]++;
    }
    assert_true(tensor_equals("meets", &counts, want, TOLERANCE_EXACT));
    tensor_free(&one), tensor_free(&counts);
}

/* ---- failures ---- */

static void loader_case(const char *library, const char *part) {
    char why[512] = "";
    Device d;
    Error err = {0};
    if (library)
        setenv("EXCON_CUDA_LIBRARY", library, 1);
    else
        unsetenv("EXCON_CUDA_LIBRARY");
    assert_int_equal(device_count_cuda(why, sizeof why), 0);
    assert_int_equal(device_count_cuda(NULL, 0), 0);
    if (!strstr(why, part))
        fail_msg("'%s' does not say '%s'", why, part);
    assert_int_equal(device_open_cuda(&d, 0, &err), STATUS_SYSTEM);
    assert_null(d.ops);
    assert_non_null(strstr(err.message, why));
    assert_non_null(strstr(err.message, "use backend: cpu"));
}

/* Without the backend's library, and with one that is something else. */
static void test_no_cuda(void **state) {
    (void)state;
    char *kept = getenv("EXCON_CUDA_LIBRARY");
    if (kept)
        kept = strdup(kept);
    loader_case("/nowhere/libexcon_cuda.so", "cannot load libexcon_cuda.so: /nowhere/libexcon_cuda.so: ");
    loader_case("libm.so.6", "libm.so.6 belongs to another version of excon: run make");
    loader_case(NULL, "no libexcon_cuda.so beside the program");
    loader_case("", "no libexcon_cuda.so beside the program");
    if (kept)
        setenv("EXCON_CUDA_LIBRARY", kept, 1);
    free(kept);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_tables_are_complete),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_too_large),
        cmocka_unit_test(test_host_memory),
        cmocka_unit_test(test_copy_zero),
        cmocka_unit_test(test_copy_in_and_its_source),
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_graph_equals_plain),
        cmocka_unit_test(test_graph_after_scratch_has_grown),
        cmocka_unit_test(test_graph_many_keys),
        cmocka_unit_test(test_no_cuda),
        cmocka_unit_test(test_fatal_reaches_the_hook),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
