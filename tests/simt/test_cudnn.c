/* What the convolutions make of cuDNN: which engines they take, what happens when there is none, how plans come and go.
 * Needs the stand-in for cuDNN (tests/simt/cudnn.cpp), which can be told what to offer; numbers are held against the
 * plain way's, whose own test is tests/unit/kernels/test_conv.c. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cuda/products/conv_plan.h"
#include "tests/simt/simt.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static const ConvGeometry geometry = {6, 5, 8, 16, 3, 1, 1};

/* The stand-in's settings; NULL on a real device. */
typedef struct Levers {
    void (*offer)(SimtCudnn);
    SimtCudnnCounters (*counters)(void);
    SimtCounters (*all)(void);
} Levers;

static Levers levers_or_skip(Device *d) {
    Levers l = {NULL, NULL, NULL};
    *(void **)&l.offer = d->kind == DEVICE_CUDA ? dlsym(d->library, "simt_cudnn_offer") : NULL;
    *(void **)&l.counters = d->kind == DEVICE_CUDA ? dlsym(d->library, "simt_cudnn_counters") : NULL;
    *(void **)&l.all = d->kind == DEVICE_CUDA ? dlsym(d->library, "simt_counters") : NULL;
    if (!l.offer || !l.counters || !l.all) {
        print_message("only the stand-in for cuDNN can be told what to offer\n");
        skip();
    }
    return l;
}

/* ---- what is written to stderr ---- */

typedef struct Heard {
    FILE *file;
    int kept;
} Heard;

static Heard listen(void) {
    Heard h = {tmpfile(), dup(STDERR_FILENO)};
    assert_non_null(h.file);
    dup2(fileno(h.file), STDERR_FILENO);
    return h;
}

static void heard(Heard *h, char *text, size_t size) {
    dup2(h->kept, STDERR_FILENO);
    close(h->kept);
    rewind(h->file);
    text[fread(text, 1, size - 1, h->file)] = '\0';
    fclose(h->file);
}

static int lines_of(const char *text) {
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* ---- one convolution, all three passes ---- */

typedef struct Passes {
    double *y, *dx, *dw;
    int64_t y_count, x_count, w_count;
} Passes;

static ConvPlan *plan_new(Device *d, DType type, int plain) {
    ConvPlan *plan;
    Error err;
    d->plain_conv = plain;
    assert_int_equal(d->ops->conv->create(d, &geometry, type, &plan, &err), STATUS_OK);
    d->plain_conv = 0;
    assert_true(!plain || !plan->cudnn);
    return plan;
}

static void run(Device *d, ConvPlan *plan, int64_t N, const ConvEpilogue *wanted, Passes *out) {
    const ConvGeometry *g = &plan->geometry;
    const DType type = plan->type;
    *out = (Passes){.y_count = N * plan->P * plan->Q * g->K,
                    .x_count = N * g->H * g->W * g->C,
                    .w_count = (int64_t)g->K * g->R * g->R * g->C};
    Tensor x = tensor_random(d, type, out->x_count, -1, 1, 1), w = tensor_random(d, type, out->w_count, -1, 1, 2);
    Tensor y = tensor_random(d, type, out->y_count, -1, 1, 3), dy = tensor_random(d, type, out->y_count, -1, 1, 4);
    Tensor dx = tensor_new(d, type, out->x_count), dw = tensor_random(d, DTYPE_F32, out->w_count, -1, 1, 5);
    Tensor bias = tensor_random(d, DTYPE_F32, g->K, -1, 1, 6);
    ConvEpilogue epilogue = {0};
    if (wanted)
        epilogue = (ConvEpilogue){wanted->bias ? bias.data : NULL, wanted->add, wanted->relu};
    d->ops->conv->forward(d, plan, N, x.data, w.data, wanted ? &epilogue : NULL, y.data);
    d->ops->conv->backward_data(d, plan, N, dy.data, w.data, dx.data);
    d->ops->conv->backward_weight(d, plan, N, x.data, dy.data, dw.data);
    out->y = tensor_values(&y);
    out->dx = tensor_values(&dx);
    out->dw = tensor_values(&dw);
    tensor_free(&x), tensor_free(&w), tensor_free(&y), tensor_free(&dy), tensor_free(&dx), tensor_free(&dw);
    tensor_free(&bias);
}

static void passes_free(Passes *p) {
    free(p->y), free(p->dx), free(p->dw);
}

/* Every epilogue and pass of `plan` against the plain way. */
static void check_against_plain(Device *d, ConvPlan *plan) {
    const float present = 0;
    const ToleranceKind tolerance = plan->type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
    ConvPlan *plain = plan_new(d, plan->type, 1);
    for (int kind = -1; kind < 8; kind++) {
        const ConvEpilogue e = {kind & 1 ? &present : NULL, (kind >> 1) & 1, (kind >> 2) & 1};
        Passes got, want;
        run(d, plan, 3, kind < 0 ? NULL : &e, &got);
        run(d, plain, 3, kind < 0 ? NULL : &e, &want);
        assert_true(compare_vectors("y", got.y_count, got.y, want.y, tolerance));
        assert_true(compare_vectors("dx", got.x_count, got.dx, want.dx, tolerance));
        assert_true(compare_vectors("dw", got.w_count, got.dw, want.dw, tolerance));
        passes_free(&got), passes_free(&want);
    }
    d->ops->conv->destroy(d, plain);
}

/* ---- tests ---- */

/* Right numbers, whichever engines there are: those that must not be taken write NaN. */
static void test_offers(void **state) {
    Device *d = *state;
    const Levers l = levers_or_skip(d);
    static const SimtCudnn offers[] = {SIMT_CUDNN_ALL, SIMT_CUDNN_FALLBACK, SIMT_CUDNN_COMPILED, SIMT_CUDNN_NOTHING};
    for (DType type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
            char text[8192];
            const SimtCudnnCounters before = l.counters();
            l.offer(offers[i]);
            ConvPlan *plan = plan_new(d, type, 0);
            Heard h = listen();
            check_against_plain(d, plan);
            heard(&h, text, sizeof text);
            const unsigned long long runs = l.counters().executions - before.executions;
            assert_int_equal(runs, offers[i] == SIMT_CUDNN_NOTHING ? 0 : 27);
            assert_int_equal(lines_of(text), offers[i] == SIMT_CUDNN_NOTHING ? 3 : 0);
            if (offers[i] == SIMT_CUDNN_NOTHING) {
                assert_non_null(strstr(text, "forward pass of convolution 3x3, 8 -> 16 channels"));
                assert_non_null(strstr(text, "backward data pass"));
                assert_non_null(strstr(text, "backward weight pass"));
                assert_non_null(strstr(text, "no engine knows it"));
                assert_non_null(strstr(text, "im2col"));
            }
            d->ops->conv->destroy(d, plan);
            l.offer(SIMT_CUDNN_ALL);
            assert_int_equal(l.counters().descriptors, before.descriptors);
        }
}

/* cuDNN that does not start is said once, and everything works without it. */
static void test_broken(void **state) {
    const Levers l = levers_or_skip(*state);
    Device device, *d = &device;
    Error err;
    char text[2048];
    assert_int_equal(device_open_cuda(d, 0, &err), STATUS_OK);
    l.offer(SIMT_CUDNN_BROKEN);
    Heard h = listen();
    ConvPlan *first = plan_new(d, DTYPE_F32, 0), *second = plan_new(d, DTYPE_BF16, 0);
    heard(&h, text, sizeof text);
    l.offer(SIMT_CUDNN_ALL);
    assert_null(first->cudnn);
    assert_null(second->cudnn);
    assert_int_equal(lines_of(text), 1);
    assert_non_null(strstr(text, "cuDNN does not start"));
    check_against_plain(d, first);
    d->ops->conv->destroy(d, first);
    d->ops->conv->destroy(d, second);
    device_close(d);
}

/* Addresses that cuDNN was not promised go the plain way. */
static void test_unaligned(void **state) {
    Device *d = *state;
    const Levers l = levers_or_skip(d);
    const int64_t N = 2;
    ConvPlan *plan = plan_new(d, DTYPE_F32, 0);
    const int64_t y_count = N * plan->P * plan->Q * geometry.K, x_count = N * geometry.H * geometry.W * geometry.C;
    Tensor x = tensor_random(d, DTYPE_F32, x_count + 1, -1, 1, 1);
    Tensor w = tensor_random(d, DTYPE_F32, (int64_t)geometry.K * 9 * geometry.C, -1, 1, 2);
    Tensor shifted = tensor_new(d, DTYPE_F32, y_count), copied = tensor_new(d, DTYPE_F32, y_count);
    Tensor apart = tensor_new(d, DTYPE_F32, x_count);
    const char *from = (const char *)x.data + sizeof(float);
    char text[2048];
    const unsigned long long before = l.counters().executions;
    Heard h = listen();
    d->ops->conv->forward(d, plan, N, from, w.data, NULL, shifted.data);
    d->ops->conv->forward(d, plan, N, from, w.data, NULL, shifted.data);
    heard(&h, text, sizeof text);
    assert_int_equal(l.counters().executions, before);
    assert_int_equal(lines_of(text), 1);
    assert_non_null(strstr(text, "multiple of 16"));
    d->ops->memory->copy(d, apart.data, from, (size_t)x_count * sizeof(float));
    d->ops->conv->forward(d, plan, N, apart.data, w.data, NULL, copied.data);
    assert_int_equal(l.counters().executions, before + 1);
    double *want = tensor_values(&copied);
    assert_true(tensor_equals("y", &shifted, want, TOLERANCE_F32));
    free(want);
    tensor_free(&x), tensor_free(&w), tensor_free(&shifted), tensor_free(&copied), tensor_free(&apart);
    d->ops->conv->destroy(d, plan);
}

enum { KEPT = 64 }; /* row counts that a plan keeps */

typedef struct Forward {
    Device *d;
    ConvPlan *plan;
    Tensor x, w, y;
} Forward;

static Forward forward_new(Device *d, int64_t most) {
    Forward f = {.d = d, .plan = plan_new(d, DTYPE_F32, 0)};
    f.x = tensor_random(d, DTYPE_F32, most * geometry.H * geometry.W * geometry.C, -1, 1, 1);
    f.w = tensor_random(d, DTYPE_F32, (int64_t)geometry.K * 9 * geometry.C, -1, 1, 2);
    f.y = tensor_new(d, DTYPE_F32, most * f.plan->P * f.plan->Q * geometry.K);
    return f;
}

static void forward_run(Forward *f, int64_t N) {
    f->d->ops->conv->forward(f->d, f->plan, N, f->x.data, f->w.data, NULL, f->y.data);
}

static void forward_free(Forward *f) {
    tensor_free(&f->x), tensor_free(&f->w), tensor_free(&f->y);
    f->d->ops->conv->destroy(f->d, f->plan);
}

/* A row count that was met needs no new plan while it is kept; the least recently used makes room. */
static void test_plans_are_kept(void **state) {
    Device *d = *state;
    const Levers l = levers_or_skip(d);
    const SimtCudnnCounters before = l.counters();
    Forward f = forward_new(d, KEPT + 2);
    for (int64_t N = 1; N <= KEPT; N++)
        forward_run(&f, N);
    for (int64_t N = 1; N <= KEPT; N++)
        forward_run(&f, N);
    assert_int_equal(l.counters().plans - before.plans, KEPT);
    forward_run(&f, KEPT + 1); /* in the place of 1 */
    forward_run(&f, 2);
    assert_int_equal(l.counters().plans - before.plans, KEPT + 1);
    forward_run(&f, 1); /* in the place of 3 */
    forward_run(&f, 2);
    assert_int_equal(l.counters().plans - before.plans, KEPT + 2);
    assert_int_equal(l.counters().descriptors - before.descriptors, 2 * KEPT);
    forward_free(&f);
    assert_int_equal(l.counters().descriptors, before.descriptors);
}

/* A capture that was met and whose plan made room is met anew before it is recorded: no plan is made in a capture,
 * which the stand-in refuses. */
static void test_recorded(void **state) {
    Device *d = *state;
    const Levers l = levers_or_skip(d);
    const SimtCudnnCounters before = l.counters();
    const uint64_t key = 4711;
    enum { MET, MAKES_ROOM, MET_ANEW, RECORDED, REPLAYED, TIMES };
    Forward f = forward_new(d, KEPT + 1);
    forward_run(&f, KEPT + 1);
    double *want = tensor_values(&f.y);
    for (int time = 0; time < TIMES; time++) {
        const unsigned long long captured = l.all().captured;
        d->ops->memory->zero(d, f.y.data, (size_t)f.y.n * sizeof(float));
        const int issue = d->ops->graph->begin(d, key);
        assert_int_equal(issue, time != REPLAYED);
        if (issue) {
            forward_run(&f, KEPT + 1);
            d->ops->graph->end(d);
        }
        assert_int_equal(l.all().captured - captured, time == RECORDED);
        assert_true(tensor_equals("y", &f.y, want, TOLERANCE_EXACT));
        for (int64_t N = 1; time == MET && N <= KEPT; N++) /* takes the place of the capture's plan */
            forward_run(&f, N);
    }
    for (int64_t N = 1; N <= KEPT; N++) /* and now the recording goes with it */
        forward_run(&f, N);
    assert_int_equal(l.counters().descriptors - before.descriptors, 2 * KEPT);
    assert_int_equal(d->ops->graph->begin(d, key), 1);
    d->ops->graph->end(d);
    free(want);
    forward_free(&f);
    assert_int_equal(l.counters().descriptors, before.descriptors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offers),         cmocka_unit_test(test_broken),   cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_plans_are_kept), cmocka_unit_test(test_recorded),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
