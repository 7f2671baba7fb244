#include "tests/support/numbers/conv_sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/base/round.h"
#include "kernels/cpu/device/cpu_device.h"
#include "tests/support/numbers/block.h"
#include "tests/support/numbers/compare.h"
#include "trainer/model/encoders/encoders.h"

/* Scratch is NaN as f32 and bf16 before a pass, so what is read without having been written shows as well. */
enum { UNTOUCHED = 0xFF, GUARD = 4096 };
static const size_t scratch_guard = (size_t)1 << 20;

/* ---- which ---- */

static int same(const ConvGeometry *a, const ConvGeometry *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static int in_order(const void *a, const void *b) {
    return memcmp(a, b, sizeof(ConvGeometry));
}

/* Sorts the last geometries of `all`, from `first` on, and drops doubles; returns the new length. */
static int distinct(ConvGeometry *all, int first, int n) {
    int kept = first;
    qsort(all + first, (size_t)(n - first), sizeof *all, in_order);
    for (int i = first; i < n; i++)
        if (kept == first || !same(&all[kept - 1], &all[i]))
            all[kept++] = all[i];
    return kept;
}

/* Appends those of one network, none if it cannot have that width, to the n of *all; returns the new length. */
static int append_network(ConvGeometry **all, int n, const Encoder *encoder, int width, int side) {
    Model model = {.shape = {.width = width, .classes = 2, .projection = 2, .size = side}};
    Error err;
    const Status status = encoder_build_as(&model, encoder, &err);
    if (status != STATUS_OK && status != STATUS_CONFIG)
        abort();
    *all = realloc(*all, (size_t)(n + model.layer_count) * sizeof **all);
    if (!*all)
        abort();
    for (int l = 0; l < model.layer_count; l++)
        if (layer_conv_geometry(&model.layers[l]))
            (*all)[n++] = *layer_conv_geometry(&model.layers[l]);
    model_free_lists(&model);
    return n;
}

ConvGeometry *sweep_geometries(int first_width, int last_width, const int *sides, int count, int *length) {
    ConvGeometry *all = NULL;
    int n = 0;
    for (int width = first_width; width <= last_width; width++) {
        const int first = n;
        for (const Encoder *encoder = encoders; encoder->name; encoder++)
            for (int s = 0; s < count; s++)
                n = append_network(&all, n, encoder, width, sides[s]);
        n = distinct(all, first, n);
    }
    *length = distinct(all, 0, n);
    return all;
}

double sweep_work(const SweepCase *c) {
    const ConvGeometry *g = &c->geometry;
    const double positions = (double)conv_out(g->H, g->R, g->stride, g->pad) * conv_out(g->W, g->R, g->stride, g->pad);
    return (double)c->N * positions * g->K * g->C * g->R * g->R;
}

void sweep_name(const SweepCase *c, char *out, size_t size) {
    const ConvGeometry *g = &c->geometry;
    snprintf(out, size, "%dx%d, %d -> %d channels, %dx%d pixels, stride %d, %s, %lld rows, %d threads%s%s", g->R, g->R,
             g->C, g->K, g->H, g->W, g->stride, c->type == DTYPE_BF16 ? "bf16" : "f32", (long long)c->N, c->threads,
             c->bias ? ", bias" : "", c->add ? ", add" : "");
}

/* ---- buffers between guard words ---- */

typedef struct Buffer {
    DType type;
    int64_t n;
    unsigned char *base;
    void *data;
} Buffer;

static size_t buffer_bytes(const Buffer *b) {
    return round_up((size_t)b->n * dtype_size(b->type), 64);
}

static Buffer buffer_new(DType type, int64_t n) {
    Buffer b = {.type = type, .n = n};
    const size_t bytes = buffer_bytes(&b) + 2 * GUARD;
    b.base = aligned_alloc(64, bytes);
    if (!b.base)
        abort();
    memset(b.base, UNTOUCHED, bytes);
    b.data = b.base + GUARD;
    return b;
}

static int untouched(const unsigned char *from, const unsigned char *to) {
    while (from < to && *from == UNTOUCHED)
        from++;
    return from >= to;
}

static int buffer_guards_hold(const Buffer *b) {
    const unsigned char *data = b->data, *end = b->base + buffer_bytes(b) + 2 * GUARD;
    return untouched(b->base, data) && untouched(data + (size_t)b->n * dtype_size(b->type), end);
}

static float value(const Buffer *b, int64_t i) {
    if (b->type == DTYPE_F32)
        return ((const float *)b->data)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)b->data)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Multiples of 1/128 in [-1, 1): both types hold them. */
static void fill(Buffer *b, uint64_t *state) {
    for (int64_t i = 0; i < b->n; i++) {
        const float v = (float)((int)(next(state) >> 56) - 128) / 128.0f;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        if (b->type == DTYPE_F32)
            ((float *)b->data)[i] = v;
        else
            ((uint16_t *)b->data)[i] = (uint16_t)(bits >> 16);
    }
}

/* ---- projections: sums with random signs over the outer or the inner dimension of [outer, inner] ---- */

static double *sum_inner(const Buffer *b, int64_t inner, const double *sign) {
    double *out = zeros(b->n / inner);
    for (int64_t i = 0; i < b->n; i++)
        out[i / inner] += sign[i % inner] * (double)value(b, i);
    return out;
}

static double *sum_outer(const Buffer *b, int64_t inner, const double *sign) {
    double *out = zeros(inner);
    for (int64_t i = 0; i < b->n; i++)
        out[i % inner] += sign[i / inner] * (double)value(b, i);
    return out;
}

/* ---- the plain loops, with one output (or, for dx, one input) channel left ---- */

/* A pixel of y, a tap of w, and the pixel of x that they meet. */
typedef struct Place {
    int image, tap, output;
} Place;

static Place *places_of(const SweepCase *c, int64_t *count) {
    const ConvGeometry *g = &c->geometry;
    const int P = conv_out(g->H, g->R, g->stride, g->pad), Q = conv_out(g->W, g->R, g->stride, g->pad);
    const int rows = (int)c->N;
    Place *places = malloc((size_t)rows * (size_t)(P * Q * g->R * g->R) * sizeof *places);
    if (!places)
        abort();
    *count = 0;
    for (int n = 0; n < rows; n++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++)
                for (int r = 0; r < g->R; r++)
                    for (int s = 0; s < g->R; s++) {
                        const int h = p * g->stride - g->pad + r, v = q * g->stride - g->pad + s;
                        if (h >= 0 && h < g->H && v >= 0 && v < g->W)
                            places[(*count)++] = (Place){(n * g->H + h) * g->W + v, r * g->R + s, (n * P + p) * Q + q};
                    }
    return places;
}

/* The operands of a case, and where the passes write. */
typedef struct Operands {
    Buffer x, w, dy, bias, y, dx, dw;
    double *over_k, *over_c; /* signs */
    Place *places;
    int64_t place_count;
} Operands;

static double *signs(int n, uint64_t *state) {
    double *out = zeros(n);
    for (int i = 0; i < n; i++)
        out[i] = next(state) >> 63 ? 1 : -1;
    return out;
}

static void operands_make(const SweepCase *c, Operands *o) {
    const ConvGeometry *g = &c->geometry;
    const int P = conv_out(g->H, g->R, g->stride, g->pad), Q = conv_out(g->W, g->R, g->stride, g->pad);
    const int64_t x = c->N * g->H * g->W * g->C, y = c->N * P * Q * g->K, w = (int64_t)g->K * g->R * g->R * g->C;
    uint64_t state = 1;
    *o = (Operands){.x = buffer_new(c->type, x),
                    .w = buffer_new(c->type, w),
                    .dy = buffer_new(c->type, y),
                    .bias = buffer_new(DTYPE_F32, g->K),
                    .y = buffer_new(c->type, y),
                    .dx = buffer_new(c->type, x),
                    .dw = buffer_new(DTYPE_F32, w)};
    Buffer *inputs[] = {&o->x, &o->w, &o->dy, &o->bias, &o->dw};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        fill(inputs[i], &state);
    if (c->add)
        fill(&o->y, &state);
    o->over_k = signs(g->K, &state);
    o->over_c = signs(g->C, &state);
    o->places = places_of(c, &o->place_count);
}

static void operands_free(Operands *o) {
    Buffer *all[] = {&o->x, &o->w, &o->dy, &o->bias, &o->y, &o->dx, &o->dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->base);
    free(o->over_k), free(o->over_c), free(o->places);
}

/* What y, summed over its channels, must be. */
static double *want_forward(const SweepCase *c, const Operands *o) {
    const int C = c->geometry.C, K = c->geometry.K;
    double *want = c->add ? sum_inner(&o->y, K, o->over_k) : zeros(o->y.n / K);
    double *v = sum_outer(&o->w, o->w.n / K, o->over_k), bias = 0;
    for (int k = 0; c->bias && k < K; k++)
        bias += o->over_k[k] * (double)value(&o->bias, k);
    for (int64_t i = 0; i < o->y.n / K; i++)
        want[i] += bias;
    for (int64_t i = 0; i < o->place_count; i++) {
        const Place at = o->places[i];
        double sum = 0;
        for (int j = 0; j < C; j++)
            sum += (double)value(&o->x, (int64_t)at.image * C + j) * v[at.tap * C + j];
        want[at.output] += sum;
    }
    free(v);
    return want;
}

/* What dx, summed over its channels, must be. */
static double *want_backward_data(const SweepCase *c, const Operands *o) {
    const int C = c->geometry.C, K = c->geometry.K, taps = c->geometry.R * c->geometry.R;
    double *want = zeros(o->x.n / C), *v = sum_inner(&o->w, C, o->over_c);
    for (int64_t i = 0; i < o->place_count; i++) {
        const Place at = o->places[i];
        double sum = 0;
        for (int k = 0; k < K; k++)
            sum += (double)value(&o->dy, (int64_t)at.output * K + k) * v[k * taps + at.tap];
        want[at.image] += sum;
    }
    free(v);
    return want;
}

/* What dw, summed over the output channels, must be; it is added to what dw holds. */
static double *want_backward_weight(const SweepCase *c, const Operands *o) {
    const int C = c->geometry.C, K = c->geometry.K;
    double *want = sum_outer(&o->dw, o->dw.n / K, o->over_k), *dy = sum_inner(&o->dy, K, o->over_k);
    for (int64_t i = 0; i < o->place_count; i++) {
        const Place at = o->places[i];
        for (int j = 0; j < C; j++)
            want[at.tap * C + j] += dy[at.output] * (double)value(&o->x, (int64_t)at.image * C + j);
    }
    free(dy);
    return want;
}

/* ---- guarded scratch ---- */

void sweep_open(Sweep *sweep, size_t scratch_bytes) {
    sweep->room = scratch_bytes;
    Error err;
    sweep->scratch = mmap(NULL, sweep->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sweep->scratch == MAP_FAILED)
        abort();
    memset(sweep->scratch, UNTOUCHED, sweep->room);
    for (int i = 0; i < SWEEP_THREADS; i++) {
        if (device_open_cpu(&sweep->devices[i], i + 1, 0, &err) != STATUS_OK) {
            printf("%s\n", err.message);
            abort();
        }
        cpu_of(&sweep->devices[i])->scratch = sweep->scratch + scratch_guard;
        cpu_of(&sweep->devices[i])->scratch_bytes = sweep->room - 2 * scratch_guard;
    }
}

void sweep_close(Sweep *sweep) {
    for (int i = 0; i < SWEEP_THREADS; i++) {
        cpu_of(&sweep->devices[i])->scratch = NULL;
        cpu_of(&sweep->devices[i])->scratch_bytes = 0;
        device_close(&sweep->devices[i]);
    }
    munmap(sweep->scratch, sweep->room);
}

/* Nothing round the parts was written: before the first, between them, and a stretch after the last. The parts are made
 * fresh for the next pass. */
static int scratch_guards_hold(const Sweep *sweep, Device *device) {
    const ScratchPart *parts = cpu_of(device)->parts;
    const unsigned char *from = sweep->scratch;
    int hold = 1;
    for (int i = 0; i < SCRATCH_PARTS; i++) {
        hold = hold && untouched(from, parts[i].data);
        from = (unsigned char *)parts[i].data + parts[i].bytes;
    }
    hold = hold && untouched(from, from + scratch_guard);
    const size_t used = (size_t)(from - sweep->scratch) + scratch_guard;
    memset(sweep->scratch, UNTOUCHED, hold ? used : sweep->room);
    return hold;
}

/* ---- a case ---- */

/* Judges a result [outer, inner] by its sum over the inner or, with `outer`, the outer dimension. */
static int judge(const char *what, const Buffer *got, int64_t inner, int outer, const double *sign, const double *want,
                 ToleranceKind kind) {
    double *sum = outer ? sum_outer(got, inner, sign) : sum_inner(got, inner, sign);
    int ok = compare_vectors(what, outer ? inner : got->n / inner, sum, want, kind);
    free(sum);
    return ok;
}

static int guards(const char *pass, const Sweep *sweep, Device *device, const Operands *o) {
    const Buffer *all[] = {&o->x, &o->w, &o->dy, &o->bias, &o->y, &o->dx, &o->dw};
    static const char *const names[] = {"x", "w", "dy", "bias", "y", "dx", "dw"};
    int ok = 1;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!buffer_guards_hold(all[i])) {
            printf("%s: wrote outside %s\n", pass, names[i]);
            ok = 0;
        }
    if (!scratch_guards_hold(sweep, device)) {
        printf("%s: wrote outside its part of the scratch\n", pass);
        ok = 0;
    }
    return ok;
}

static int passes_agree(Sweep *sweep, Device *d, ConvPlan *plan, const SweepCase *c, Operands *o) {
    const int C = c->geometry.C, K = c->geometry.K;
    const ToleranceKind stored = c->type == DTYPE_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
    const ConvEpilogue epilogue = {.bias = c->bias ? o->bias.data : NULL, .add = c->add};
    double *want = want_forward(c, o);
    d->ops->conv->forward(d, plan, c->N, o->x.data, o->w.data, c->bias || c->add ? &epilogue : NULL, o->y.data);
    int ok = judge("y", &o->y, K, 0, o->over_k, want, stored);
    ok = guards("forward", sweep, d, o) && ok;
    free(want);
    want = want_backward_data(c, o);
    d->ops->conv->backward_data(d, plan, c->N, o->dy.data, o->w.data, o->dx.data);
    ok = judge("dx", &o->dx, C, 0, o->over_c, want, stored) && ok;
    ok = guards("backward data", sweep, d, o) && ok;
    free(want);
    want = want_backward_weight(c, o);
    d->ops->conv->backward_weight(d, plan, c->N, o->x.data, o->dy.data, o->dw.data);
    ok = judge("dw", &o->dw, o->dw.n / K, 1, o->over_k, want, TOLERANCE_F32) && ok;
    ok = guards("backward weight", sweep, d, o) && ok;
    free(want);
    return ok;
}

SweepResult sweep_run(Sweep *sweep, const SweepCase *c) {
    Device *d = &sweep->devices[c->threads - 1];
    ConvPlan *plan;
    Error err;
    char name[160];
    if (d->ops->conv->create(d, &c->geometry, c->type, &plan, &err) != STATUS_OK) {
        if (err.code == STATUS_CONFIG)
            return SWEEP_REFUSED;
        printf("%s\n", err.message);
        return SWEEP_DIFFERS;
    }
    Operands o;
    operands_make(c, &o);
    const int ok = passes_agree(sweep, d, plan, c, &o);
    operands_free(&o);
    d->ops->conv->destroy(d, plan);
    if (ok)
        return SWEEP_AGREES;
    sweep_name(c, name, sizeof name);
    printf("... in %s\n", name);
    return SWEEP_DIFFERS;
}
