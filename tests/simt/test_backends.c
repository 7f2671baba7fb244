/* Every operator on the CUDA backend against the CPU backend, and against itself.
 *
 * One case per family and stored type: the case fills its inputs, alike on every device, runs its operators and names
 * its outputs. Outputs of the CUDA backend must agree with the CPU backend's within the tolerance that the case states,
 * guard words included, and must be the same bits whatever the order of threads, blocks and streams: a kernel that
 * lacks a barrier, or adds in an order of chance, differs. On a real GPU, where nobody sets the order, it is run as
 * often. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simt/simt.h"
#include "tests/support/numbers/tensor.h"
#include "tests/support/numbers/view_recipe.h"

enum { TENSORS = 24, NAME = 80 };

typedef struct Output {
    char name[NAME];
    Tensor tensor;
    ToleranceKind tolerance;
} Output;

/* One run of a case on one device. */
typedef struct Run {
    Device *device;
    const Ops *ops;
    DType type;
    Tensor tensors[TENSORS]; /* inputs, freed at the end */
    int tensor_count;
    Output outputs[TENSORS];
    int output_count;
    uint64_t salt;
} Run;

static void *in(Run *run, DType type, int64_t n, double low, double high) {
    assert_true(run->tensor_count < TENSORS);
    Tensor *t = &run->tensors[run->tensor_count++];
    *t = tensor_random(run->device, type, n, low, high, ++run->salt);
    return t->data;
}

static void *floats(Run *run, int64_t n) {
    return in(run, DTYPE_F32, n, -1, 1);
}

static void *typed(Run *run, int64_t n) {
    return in(run, run->type, n, -1, 1);
}

static void *keep(Run *run, Tensor tensor, const char *name, ToleranceKind tolerance) {
    assert_true(run->output_count < TENSORS);
    Output *out = &run->outputs[run->output_count++];
    *out = (Output){.tensor = tensor, .tolerance = tolerance};
    snprintf(out->name, sizeof out->name, "%s", name);
    return tensor.data;
}

/* An output that is written whole. */
static void *out(Run *run, DType type, int64_t n, const char *name, ToleranceKind tolerance) {
    return keep(run, tensor_new(run->device, type, n), name, tolerance);
}

/* An output that is added to or changed in place. */
static void *inout(Run *run, DType type, int64_t n, const char *name, ToleranceKind tolerance) {
    return keep(run, tensor_random(run->device, type, n, -1, 1, ++run->salt), name, tolerance);
}

static ToleranceKind stored(const Run *run) {
    return run->type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
}

/* ---- cases ------------------------------------------------------------------------------------------------------- */

static void case_convert(Run *r) {
    const int32_t n = 777;
    const DType other = r->type == DTYPE_BF16 ? DTYPE_F32 : DTYPE_BF16;
    r->ops->convert->cast(r->device, n, r->type, typed(r, n), other, out(r, other, n, "cast", TOLERANCE_EXACT));
    r->ops->convert->add(r->device, n, floats(r, n), inout(r, DTYPE_F32, n, "add", TOLERANCE_F32));
    r->ops->convert->sum(r->device, n, floats(r, n), 0.25, out(r, DTYPE_F64, 1, "sum", TOLERANCE_F32));
    r->ops->convert->nchw_to_nhwc(r->device, 3, 5, 49, floats(r, 735), r->type,
                                  out(r, r->type, 735, "nhwc", TOLERANCE_EXACT));
    r->ops->convert->nhwc_to_nchw(r->device, 3, 5, 49, r->type, typed(r, 735),
                                  out(r, DTYPE_F32, 735, "nchw", TOLERANCE_EXACT));
    const void *index = in(r, DTYPE_I32, 9, -1, 20);
    r->ops->convert->gather_rows(r->device, 9, 48, floats(r, 20 * 12), index,
                                 inout(r, DTYPE_F32, 9 * 12, "rows of 48 bytes", TOLERANCE_EXACT));
    r->ops->convert->gather_rows(r->device, 9, 28, floats(r, 20 * 7), index,
                                 inout(r, DTYPE_F32, 9 * 7, "rows of 28 bytes", TOLERANCE_EXACT));
}

static void conv_of(Run *r, ConvGeometry g, int64_t N, const char *name) {
    const int P = conv_out(g.H, g.R, g.stride, g.pad), Q = conv_out(g.W, g.R, g.stride, g.pad);
    const int64_t xs = N * g.H * g.W * g.C, ws = (int64_t)g.K * g.R * g.R * g.C, ys = N * P * Q * g.K;
    char label[NAME];
    Error err;
    ConvPlan *plan = NULL;
    assert_int_equal(r->ops->conv->create(r->device, &g, r->type, &plan, &err), STATUS_OK);
    const void *x = typed(r, xs), *w = typed(r, ws), *dy = typed(r, ys);
    const ConvEpilogue epilogue = {.bias = floats(r, g.K), .add = 1, .relu = 1};
    snprintf(label, sizeof label, "%s forward", name);
    r->ops->conv->forward(r->device, plan, N, x, w, NULL, out(r, r->type, ys, label, stored(r)));
    snprintf(label, sizeof label, "%s forward, epilogue", name);
    r->ops->conv->forward(r->device, plan, N, x, w, &epilogue, inout(r, r->type, ys, label, stored(r)));
    snprintf(label, sizeof label, "%s backward data", name);
    r->ops->conv->backward_data(r->device, plan, N, dy, w, out(r, r->type, xs, label, stored(r)));
    snprintf(label, sizeof label, "%s backward weight", name);
    r->ops->conv->backward_weight(r->device, plan, N, x, dy, inout(r, DTYPE_F32, ws, label, stored(r)));
    r->ops->stream->sync(r->device);
    r->ops->conv->destroy(r->device, plan);
}

static void case_conv(Run *r) {
    conv_of(r, (ConvGeometry){7, 9, 3, 5, 3, 1, 1}, 2, "3x3");
    conv_of(r, (ConvGeometry){8, 8, 16, 8, 3, 2, 1}, 3, "3x3 stride 2");
    conv_of(r, (ConvGeometry){9, 5, 8, 24, 1, 1, 0}, 2, "1x1");
    conv_of(r, (ConvGeometry){9, 7, 5, 6, 1, 2, 0}, 1, "1x1 stride 2");
}

/* The CUDA backend's other way, which takes what cuDNN does not. */
static void case_conv_plain(Run *r) {
    r->device->plain_conv = 1;
    case_conv(r);
    r->device->plain_conv = 0;
}

static void norm_of(Run *r, int64_t M, int C) {
    Device *d = r->device;
    const void *x = typed(r, M * C), *y = typed(r, M * C), *residual = typed(r, M * C), *dy2 = typed(r, M * C);
    const float *gamma = in(r, DTYPE_F32, C, 0.5, 2), *beta = floats(r, C);
    double *sums = out(r, DTYPE_F64, 2 * C, "sums", TOLERANCE_F32);
    float *mean = out(r, DTYPE_F32, C, "mean", TOLERANCE_F32), *invstd = out(r, DTYPE_F32, C, "invstd", TOLERANCE_F32);
    float *scale = out(r, DTYPE_F32, C, "scale", TOLERANCE_F32), *shift = out(r, DTYPE_F32, C, "shift", TOLERANCE_F32);
    float *running = inout(r, DTYPE_F32, 2 * C, "running", TOLERANCE_F32);
    const NormStatistics stats = {mean, invstd, scale, shift};
    const NormParameters parameters = {gamma, beta, running, running + C, 1e-5f, 0.1f};
    r->ops->norm->sums(d, M, C, r->type, x, sums);
    r->ops->norm->finalize(d, C, sums, (double)M, &parameters, &stats);
    r->ops->norm->apply(d, M, C, r->type, x, &stats, residual, 1, out(r, r->type, M * C, "apply", stored(r)));
    void *dz = inout(r, r->type, M * C, "dz", stored(r));
    double *back = out(r, DTYPE_F64, 2 * C, "backward sums", stored(r));
    r->ops->norm->backward_sums(d, M, C, r->type, dz, dy2, y, x, &stats, 1, back);
    r->ops->norm->backward_params(d, C, back, inout(r, DTYPE_F32, C, "dgamma", stored(r)),
                                  inout(r, DTYPE_F32, C, "dbeta", stored(r)));
    r->ops->norm->backward_apply(d, M, C, r->type, dz, x, &stats, back, (double)M,
                                 out(r, r->type, M * C, "dx", stored(r)));
    r->ops->norm->fold(d, C, 27, floats(r, 27 * C), scale, r->type, out(r, r->type, 27 * C, "folded", stored(r)));
}

static void case_norm(Run *r) {
    norm_of(r, 301, 16);
}

static void case_norm_narrow(Run *r) {
    norm_of(r, 67, 3);
}

static void case_norm_wide(Run *r) {
    norm_of(r, 33, 520);
}

static void case_pool(Run *r) {
    r->ops->pool->forward(r->device, 3, 15, 20, r->type, typed(r, 900),
                          out(r, DTYPE_F32, 60, "features", TOLERANCE_F32));
    r->ops->pool->backward(r->device, 3, 15, 20, r->type, floats(r, 60), out(r, r->type, 900, "dx", stored(r)));
}

static void case_dense(Run *r) {
    Device *d = r->device;
    const void *x = floats(r, 13 * 37), *w = floats(r, 19 * 37), *b = floats(r, 19), *dy = floats(r, 13 * 19);
    r->ops->dense->forward(d, 13, 37, 19, x, w, b, 1, out(r, DTYPE_F32, 13 * 19, "y", TOLERANCE_F32));
    r->ops->dense->backward_data(d, 13, 37, 19, dy, w, out(r, DTYPE_F32, 13 * 37, "dx", TOLERANCE_F32));
    r->ops->dense->backward_weight(d, 13, 37, 19, x, dy, inout(r, DTYPE_F32, 19 * 37, "dw", TOLERANCE_F32),
                                   inout(r, DTYPE_F32, 19, "db", TOLERANCE_F32));
    r->ops->dense->relu_backward(d, 13 * 19, floats(r, 13 * 19), inout(r, DTYPE_F32, 13 * 19, "relu", TOLERANCE_EXACT));
    float *z = out(r, DTYPE_F32, 13 * 37, "z", TOLERANCE_F32), *norm = out(r, DTYPE_F32, 13, "1/norm", TOLERANCE_F32);
    r->ops->unit->forward(d, 13, 37, x, z, norm);
    r->ops->unit->backward(d, 13, 37, z, norm, floats(r, 13 * 37), out(r, DTYPE_F32, 13 * 37, "dunit", TOLERANCE_F32));
}

static void view_of(Run *r, ViewKind kind, const char *name) {
    const ViewSpec spec = view_recipe(kind);
    const int H = 18, W = 20;
    const void *images = in(r, DTYPE_U8, 6 * H * W * 3, 0, 256), *ids = in(r, DTYPE_I64, 6, 0, 1000);
    r->ops->views->make(r->device, &spec, 6, H, W, images, ids, r->type,
                        out(r, r->type, 6 * H * W * 3, name, stored(r)), NULL);
}

static void case_views(Run *r) {
    view_of(r, VIEW_STANDARD, "standard");
    view_of(r, VIEW_RANDOM, "random");
    view_of(r, VIEW_CROP_FLIP, "crop and flip");
}

static void case_saliency(Run *r) {
    Device *d = r->device;
    const float fill[3] = {0.5f, -1, 2};
    const void *A = typed(r, 3 * 16 * 24), *dA = typed(r, 3 * 16 * 24), *x = typed(r, 3 * 81 * 3);
    float *alpha = out(r, DTYPE_F32, 3 * 24, "alpha", TOLERANCE_F32);
    float *mask = out(r, DTYPE_F32, 3 * 81, "mask", TOLERANCE_EXACT);
    const float *up = floats(r, 3 * 81);
    r->ops->saliency->weights(d, 3, 16, 24, r->type, dA, alpha);
    /* derivatives and activations from 0 on: no denominator near 0 */
    r->ops->saliency->weights_plus(d, 3, 16, 24, r->type, in(r, r->type, 3 * 16 * 24, 0, 1),
                                   in(r, r->type, 3 * 16 * 24, 0, 1),
                                   out(r, DTYPE_F32, 3 * 24, "alpha of Grad-CAM++", TOLERANCE_F32));
    r->ops->saliency->cam(d, 3, 16, 24, r->type, A, alpha, 1, out(r, DTYPE_F32, 3 * 16, "cam", TOLERANCE_F32));
    r->ops->saliency->channel_sum(d, 3, 81, 3, r->type, x, typed(r, 3 * 81 * 3), 0,
                                  out(r, DTYPE_F32, 3 * 81, "channel sum", TOLERANCE_F32));
    r->ops->saliency->upsample(d, 3, 4, 4, 9, 9, floats(r, 3 * 16), out(r, DTYPE_F32, 3 * 81, "up", TOLERANCE_EXACT));
    r->ops->saliency->mask(d, 3, 81, up, 0.5f, mask);
    float *ties = out(r, DTYPE_F32, 3 * 81, "one-hot", TOLERANCE_EXACT);
    r->ops->classify->onehot(d, 3, 81, in(r, DTYPE_I32, 3, 0, 81), ties);
    r->ops->saliency->top(d, 3, 81, ties, 12, out(r, DTYPE_F32, 3 * 81, "top, many ties", TOLERANCE_EXACT));
    r->ops->saliency->top(d, 3, 81, up, 12, out(r, DTYPE_F32, 3 * 81, "top", TOLERANCE_EXACT));
    r->ops->saliency->apply(d, 3, 81, r->type, x, mask, fill, 0,
                            out(r, r->type, 3 * 81 * 3, "masked", TOLERANCE_EXACT));
    r->ops->saliency->apply(d, 3, 81, r->type, x, mask, fill, 1, out(r, r->type, 3 * 81 * 3, "rest", TOLERANCE_EXACT));
}

static void case_select(Run *r) {
    const void *accept = in(r, DTYPE_I32, 301, 0, 2), *a = floats(r, 301 * 6), *b = floats(r, 301 * 6);
    r->ops->select->rows(r->device, 301, 24, accept, a, b, out(r, DTYPE_F32, 301 * 6, "rows", TOLERANCE_EXACT));
    r->ops->select->rejected(r->device, 301, accept, 100, out(r, DTYPE_I32, 301, "rejected", TOLERANCE_EXACT),
                             out(r, DTYPE_I32, 1, "count", TOLERANCE_EXACT));
}

static void case_classify(Run *r) {
    Device *d = r->device;
    const int64_t N = 21;
    const int C = 70;
    const void *logits = in(r, DTYPE_F32, N * C, -4, 4), *labels = in(r, DTYPE_I32, N, 0, C);
    int32_t *predicted = out(r, DTYPE_I32, N, "predicted", TOLERANCE_EXACT);
    r->ops->classify->loss(d, N, C, logits, labels, 0.1f, out(r, DTYPE_F32, N, "losses", TOLERANCE_F32),
                           out(r, DTYPE_F32, N * C, "dlogits", TOLERANCE_F32));
    r->ops->classify->predict(d, N, C, logits, predicted);
    r->ops->classify->rank(d, N, C, logits, labels, out(r, DTYPE_I32, N, "rank", TOLERANCE_EXACT));
    r->ops->classify->probability(d, N, C, logits, labels, out(r, DTYPE_F32, N, "probability", TOLERANCE_F32));
    r->ops->classify->onehot(d, N, C, labels, out(r, DTYPE_F32, N * C, "one-hot", TOLERANCE_EXACT));
    r->ops->classify->equal(d, N, predicted, labels, out(r, DTYPE_I32, N, "equal", TOLERANCE_EXACT));
}

/* Rows of this rank: [30, 100) of 141. */
static void case_contrast(Run *r) {
    Device *d = r->device;
    const ContrastShape shape = {.rows = 141,
                                 .own_first = 30,
                                 .own_rows = 70,
                                 .dim = 20,
                                 .groups = 6,
                                 .anchors = 120,
                                 .temperature = 0.1f,
                                 .base_temperature = 0.07f,
                                 .products = r->type};
    /* Every row has a group: lse of the others is +inf, which the comparator takes for a fault. */
    const void *raw = floats(r, 141 * 20), *group = in(r, DTYPE_I32, 141, 0, 6), *all = in(r, DTYPE_F32, 141, 3, 6);
    float *z = out(r, DTYPE_F32, 141 * 20, "z", TOLERANCE_F32), *norm = out(r, DTYPE_F32, 141, "1/norm", TOLERANCE_F32);
    float *sums = out(r, DTYPE_F32, 6 * 20, "sums", TOLERANCE_F32), *lse = out(r, DTYPE_F32, 70, "lse", stored(r));
    int32_t *counts = out(r, DTYPE_I32, 6, "counts", TOLERANCE_EXACT);
    const size_t bytes = r->ops->contrast->scratch(d, 141, 6, 20);
    void *scratch = in(r, DTYPE_U8, (int64_t)bytes, 0, 0);
    r->ops->unit->forward(d, 141, 20, raw, z, norm);
    r->ops->contrast->groups(d, &shape, z, group, sums, counts);
    r->ops->contrast->lse(d, &shape, z, lse, scratch);
    r->ops->contrast->loss(d, &shape, z, group, sums, counts, lse, out(r, DTYPE_F64, 1, "loss", stored(r)),
                           out(r, DTYPE_F32, 70, "anchors' lse", stored(r)));
    r->ops->contrast->gradient(d, &shape, z, group, sums, counts, all, out(r, DTYPE_F32, 70 * 20, "dz", stored(r)),
                               scratch);
}

static void case_optimise(Run *r) {
    const SgdStep step = {.lr = 0.1f, .momentum = 0.9f, .weight_decay = 0.01f};
    const int64_t n = 1003;
    r->ops->optimise->sgd(r->device, n, &step, floats(r, n), inout(r, DTYPE_F32, n, "velocity", TOLERANCE_F32),
                          inout(r, DTYPE_F32, n, "parameter", TOLERANCE_F32),
                          r->type == DTYPE_BF16 ? out(r, DTYPE_BF16, n, "low", TOLERANCE_BF16) : NULL);
    /* A tensor in two pieces, and one that is not adapted. */
    static const LarsPiece pieces[] = {{0, 600, 0, 2, 1, 0}, {600, 131, 1, 2, 1, 0}, {736, 33, 0, 1, 0, 0}};
    const LarsStep lars = {.lr = 0.5f, .momentum = 0.9f, .weight_decay = 0.01f, .trust = 0.1f};
    void *list = out(r, DTYPE_F64, sizeof pieces / (sizeof(double)), "pieces", TOLERANCE_EXACT);
    r->ops->memory->copy_in(r->device, list, pieces, sizeof pieces);
    r->ops->optimise->lars(r->device, 3, list, &lars, floats(r, n), inout(r, DTYPE_F32, n, "velocity", TOLERANCE_F32),
                           inout(r, DTYPE_F32, n, "parameter", TOLERANCE_F32),
                           r->type == DTYPE_BF16 ? inout(r, DTYPE_BF16, n, "low", TOLERANCE_BF16) : NULL,
                           out(r, DTYPE_F64, 6, "squares", TOLERANCE_F32));
    r->ops->optimise->nonfinite(r->device, n, floats(r, n), inout(r, DTYPE_I64, 1, "nonfinite", TOLERANCE_EXACT));
}

static const struct {
    const char *name;
    void (*run)(Run *);
} cases[] = {
    {"convert", case_convert},
    {"conv", case_conv},
    {"conv by im2col", case_conv_plain},
    {"norm", case_norm},
    {"norm of 3 channels", case_norm_narrow},
    {"norm of 520 channels", case_norm_wide},
    {"pool", case_pool},
    {"dense and unit", case_dense},
    {"views", case_views},
    {"saliency", case_saliency},
    {"select", case_select},
    {"classify", case_classify},
    {"contrast", case_contrast},
    {"optimise and guard", case_optimise},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- running ----------------------------------------------------------------------------------------------------- */

typedef struct BackendTest {
    int which;
    DType type;
    char name[NAME];
} BackendTest;

static Device cpu, cuda;

static void run_case(Run *run, Device *device, const BackendTest *test) {
    *run = (Run){.device = device, .ops = device->ops, .type = test->type, .salt = 100 * (uint64_t)test->which};
    cases[test->which].run(run);
}

static void free_run(Run *run) {
    for (int i = 0; i < run->tensor_count; i++)
        tensor_free(&run->tensors[i]);
    for (int i = 0; i < run->output_count; i++)
        tensor_free(&run->outputs[i].tensor);
}

/* Outputs of `got` against `want`; exact: bit for bit, whatever the case tolerates. Returns the number at fault. */
static int compare_runs(const char *what, const Run *got, const Run *want, int exact) {
    int faults = 0;
    for (int i = 0; i < want->output_count; i++) {
        char label[3 * NAME];
        const Output *o = &got->outputs[i];
        snprintf(label, sizeof label, "%s: %s", what, o->name);
        double *values = tensor_values(&want->outputs[i].tensor);
        faults += !tensor_equals(label, &o->tensor, values, exact ? TOLERANCE_EXACT : o->tolerance);
        free(values);
    }
    return faults;
}

static void backends_agree(void **state) {
    static const struct {
        SimtOrder order;
        unsigned seed;
        const char *name;
    } orders[] = {{SIMT_REVERSE, 0, "reverse"}, {SIMT_SHUFFLED, 1, "shuffled"}, {SIMT_SHUFFLED, 2, "shuffled again"}};
    const BackendTest *test = *state;
    void (*set_order)(SimtOrder, unsigned) = NULL;
    *(void **)&set_order = dlsym(cuda.library, "simt_set_order");
    Run want, first, again;
    char label[2 * NAME];
    if (set_order)
        set_order(SIMT_FORWARD, 0);
    run_case(&want, &cpu, test);
    run_case(&first, &cuda, test);
    snprintf(label, sizeof label, "%s, CUDA against CPU", test->name);
    int faults = compare_runs(label, &first, &want, 0);
    for (int i = 0; i < (int)(sizeof orders / sizeof *orders); i++) {
        if (set_order)
            set_order(orders[i].order, orders[i].seed);
        run_case(&again, &cuda, test);
        snprintf(label, sizeof label, "%s, order %s against forward", test->name, orders[i].name);
        faults += compare_runs(label, &again, &first, 1);
        free_run(&again);
    }
    free_run(&want);
    free_run(&first);
    assert_int_equal(faults, 0);
}

int main(void) {
    static BackendTest tests[2 * CASES];
    static struct CMUnitTest units[2 * CASES];
    Error err;
    if (device_open_cpu(&cpu, 2, 0, &err) != STATUS_OK || device_open_cuda(&cuda, 0, &err) != STATUS_OK) {
        printf("1..1\nnot ok 1 - both backends open: %s\n", err.message);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < 2 * CASES; i++) {
        tests[i] = (BackendTest){.which = i / 2, .type = i % 2 ? DTYPE_BF16 : DTYPE_F32};
        snprintf(tests[i].name, sizeof tests[i].name, "%s, %s", cases[i / 2].name, i % 2 ? "bf16" : "f32");
        units[i] = (struct CMUnitTest){.name = tests[i].name, .test_func = backends_agree, .initial_state = &tests[i]};
    }
    int failed = _cmocka_run_group_tests("backends", units, 2 * CASES, NULL, NULL);
    device_close(&cuda);
    device_close(&cpu);
    return failed;
}
