/* Operators at the shapes of a ResNet-18 (or of --size and --width): each rate beside what the same device reaches on a
 * plain copy or a large matrix product. */
#include "trainer/bench/bench_ops.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/clock.h"

enum { WAYS = 3, TILE = 1 << 18 };

static const double BATCH_SECONDS = 3e-3; /* of calls between two marks: far above the clock's resolution */
static const int64_t MOST_CALLS = 200;

typedef struct ReferenceRow {
    const char *name, *unit;
} ReferenceRow;
static const ReferenceRow REFERENCES[REFERENCE_COUNT] = {
    [REFERENCE_COPY] = {"copy", "GB/s"},
    [REFERENCE_GEMM] = {"gemm", "GFLOP/s"},
    [REFERENCE_GEMM_F32] = {"gemm f32", "GFLOP/s"},
};

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static Status make_tile(OpsBench *o, Error *err) {
    float *host = malloc(TILE * sizeof *host);
    if (!host)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    bench_fill(host, TILE, 11);
    Status status = o->d->ops->memory->alloc(o->d, TILE * sizeof *host, &o->tile, err);
    if (status == STATUS_OK)
        o->d->ops->memory->copy_in(o->d, o->tile, host, TILE * sizeof *host);
    o->d->ops->stream->sync(o->d); /* `host` lives until it is copied */
    free(host);
    return status;
}

/* Integers 0 .. limit-1 in turn. */
static void fill_integers(OpsBench *o, DType type, int64_t n, int limit, void *out) {
    const size_t bytes = (size_t)n * dtype_size(type);
    void *host = malloc(bytes);
    if (!host) {
        o->status = error_set(o->err, STATUS_SYSTEM, "out of memory");
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (type == DTYPE_I32)
            ((int32_t *)host)[i] = (int32_t)(i % limit);
        else
            ((int64_t *)host)[i] = i % limit;
    }
    o->d->ops->memory->copy_in(o->d, out, host, bytes);
    o->d->ops->stream->sync(o->d);
    free(host);
}

static void fill_from_tile(OpsBench *o, DType type, int64_t n, char *out) {
    const Ops *ops = o->d->ops;
    const size_t size = dtype_size(type), total = (size_t)n * size;
    size_t done = (size_t)(n < TILE ? n : TILE) * size;
    if (type == DTYPE_U8)
        ops->memory->copy(o->d, out, o->tile, done); /* bytes of floats */
    else
        ops->convert->cast(o->d, n < TILE ? n : TILE, DTYPE_F32, o->tile, type, out);
    for (size_t part; done < total; done += part) {
        part = done < total - done ? done : total - done;
        ops->memory->copy(o->d, out + done, out, part);
    }
}

void *ops_buffer(OpsBench *o, DType type, int64_t n, int limit) {
    void *out = NULL;
    if (o->status != STATUS_OK)
        return NULL;
    if (o->buffers == OPS_BUFFERS) {
        o->status = error_set(o->err, STATUS_INTERNAL, "more than %d buffers in one case", (int)OPS_BUFFERS);
        return NULL;
    }
    const size_t bytes = (size_t)n * dtype_size(type);
    o->status = o->d->ops->memory->alloc(o->d, bytes, &out, o->err);
    if (o->status != STATUS_OK)
        return NULL;
    o->buffer[o->buffers] = out;
    o->bytes[o->buffers++] = bytes;
    if (type == DTYPE_I32 || type == DTYPE_I64)
        fill_integers(o, type, n, limit, out);
    else if (type != DTYPE_F64)
        fill_from_tile(o, type, n, out);
    return out;
}

void ops_release_all(OpsBench *o) {
    while (o->buffers > 0) {
        o->buffers--;
        o->d->ops->memory->release(o->d, o->buffer[o->buffers], o->bytes[o->buffers]);
    }
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

static double time_calls(OpsBench *o, int64_t calls, void (*run)(OpsBench *, const void *), const void *arg) {
    const Ops *ops = o->d->ops;
    ops->stream->stamp(o->d, 0);
    for (int64_t i = 0; i < calls; i++)
        run(o, arg);
    ops->stream->stamp(o->d, 1);
    ops->stream->sync(o->d);
    return ops->stream->seconds(o->d, 0, 1) / (double)calls;
}

double ops_time(OpsBench *o, void (*run)(OpsBench *o, const void *arg), const void *arg) {
    if (o->status != STATUS_OK)
        return 0;
    time_calls(o, 1, run, arg);
    const double once = time_calls(o, 1, run, arg);
    const int64_t calls = once * (double)MOST_CALLS > BATCH_SECONDS ? 1 + (int64_t)(BATCH_SECONDS / once) : MOST_CALLS;
    for (int64_t i = 0; i < o->b->options->steps; i++)
        o->seconds[i] = time_calls(o, calls, run, arg);
    return bench_median(o->seconds, o->b->options->steps);
}

void ops_case(OpsBench *o, const char *name, Reference of, double work, void (*run)(OpsBench *o, const void *arg),
              const void *arg) {
    const double seconds = ops_time(o, run, arg);
    if (o->status != STATUS_OK)
        return;
    const double rate = 1e-9 * work / seconds, share = rate / o->reference[of];
    Json *json = &o->b->json;
    json_begin_object(json, NULL);
    json_string(json, "op", name);
    json_number(json, "rate", rate);
    json_string(json, "unit", REFERENCES[of].unit);
    json_string(json, "of", REFERENCES[of].name);
    json_number(json, "share", share);
    json_number(json, "seconds", seconds);
    json_end_object(json);
    if (!o->b->options->json)
        printf("%-28s %10.1f %-7s %5.1f %% of %s\n", name, rate, REFERENCES[of].unit, 100 * share, REFERENCES[of].name);
}

/* ---- references -------------------------------------------------------------------------------------------------- */

typedef struct CopyCase {
    void *to;
    const void *from;
    size_t bytes;
} CopyCase;

static void run_copy(OpsBench *o, const void *arg) {
    const CopyCase *c = arg;
    o->d->ops->memory->copy(o->d, c->to, c->from, c->bytes);
}

typedef struct GemmCase {
    int64_t n;
    ConvPlan *plan; /* NULL: the dense operator */
    void *x, *w, *y;
} GemmCase;

/* A square product. In f32: the dense operator's. In the bench's precision: what a 1x1 convolution is, without the
 * backend's convolution library: on CUDA one call of cuBLAS. */
static void run_gemm(OpsBench *o, const void *arg) {
    const GemmCase *c = arg;
    if (c->plan)
        o->d->ops->conv->forward(o->d, c->plan, c->n / 64, c->x, c->w, NULL, c->y);
    else
        o->d->ops->dense->forward(o->d, c->n, (int)c->n, (int)c->n, c->x, c->w, NULL, 0, c->y);
}

static void measure_gemm(OpsBench *o, Reference which, int64_t n) {
    const DType type = which == REFERENCE_GEMM ? o->dtype : DTYPE_F32;
    const ConvGeometry g = {.H = 8, .W = 8, .C = (int)n, .K = (int)n, .R = 1, .stride = 1, .pad = 0};
    GemmCase c = {.n = n};
    c.x = ops_buffer(o, type, n * n, 0);
    c.w = ops_buffer(o, type, n * n, 0);
    c.y = ops_buffer(o, type, n * n, 0);
    if (o->status == STATUS_OK && which == REFERENCE_GEMM) {
        const int plain = o->d->plain_conv;
        o->d->plain_conv = 1;
        o->status = o->d->ops->conv->create(o->d, &g, type, &c.plan, o->err);
        o->d->plain_conv = plain;
    }
    const double seconds = ops_time(o, run_gemm, &c);
    if (o->status == STATUS_OK)
        o->reference[which] = 2e-9 * (double)n * (double)n * (double)n / seconds;
    if (c.plan)
        o->d->ops->conv->destroy(o->d, c.plan);
    ops_release_all(o);
}

static void measure_copy(OpsBench *o) {
    const int64_t n = o->N * o->side * o->side * o->width;
    const CopyCase c = {ops_buffer(o, o->dtype, n, 0), ops_buffer(o, o->dtype, n, 0), (size_t)n * dtype_size(o->dtype)};
    const double seconds = ops_time(o, run_copy, &c);
    if (o->status == STATUS_OK)
        o->reference[REFERENCE_COPY] = 2e-9 * (double)c.bytes / seconds;
    ops_release_all(o);
}

static void measure_references(OpsBench *o) {
    int64_t n = o->b->options->gemm;
    if (n == 0)
        n = o->d->kind == DEVICE_CUDA ? 8192 : 1024;
    measure_copy(o);
    measure_gemm(o, REFERENCE_GEMM, n);
    measure_gemm(o, REFERENCE_GEMM_F32, n);
    if (o->status != STATUS_OK)
        return;
    json_begin_object(&o->b->json, "references");
    json_integer(&o->b->json, "gemm_side", n);
    for (int i = 0; i < REFERENCE_COUNT; i++) {
        json_number(&o->b->json, REFERENCES[i].name, o->reference[i]);
        if (!o->b->options->json)
            printf("reference: %-17s %10.1f %s\n", REFERENCES[i].name, o->reference[i], REFERENCES[i].unit);
    }
    json_end_object(&o->b->json);
}

/* ---- convolutions ------------------------------------------------------------------------------------------------ */

typedef struct ConvCase {
    ConvPlan *plan;
    int way;
    void *x, *y, *w, *dw;
} ConvCase;

static void run_conv(OpsBench *o, const void *arg) {
    const ConvCase *c = arg;
    const Ops *ops = o->d->ops;
    if (c->way == 0)
        ops->conv->forward(o->d, c->plan, o->N, c->x, c->w, NULL, c->y);
    else if (c->way == 1)
        ops->conv->backward_data(o->d, c->plan, o->N, c->y, c->w, c->x);
    else
        ops->conv->backward_weight(o->d, c->plan, o->N, c->x, c->y, c->dw);
}

static void bench_conv(OpsBench *o, const ConvGeometry *g) {
    static const char *const names[WAYS] = {"forward", "backward_data", "backward_weight"};
    static const char *const shares[WAYS] = {"forward_share", "backward_data_share", "backward_weight_share"};
    const int64_t P = conv_out(g->H, g->R, g->stride, g->pad), weights = (int64_t)g->K * g->R * g->R * g->C;
    const double gflop = 2e-9 * (double)(o->N * P * P) * (double)weights;
    const int text = !o->b->options->json;
    Json *json = &o->b->json;
    char name[64];
    ConvCase c = {.x = ops_buffer(o, o->dtype, o->N * g->H * g->W * g->C, 0),
                  .y = ops_buffer(o, o->dtype, o->N * P * P * g->K, 0),
                  .w = ops_buffer(o, o->dtype, weights, 0),
                  .dw = ops_buffer(o, DTYPE_F32, weights, 0)};
    if (o->status == STATUS_OK)
        o->status = o->d->ops->conv->create(o->d, g, o->dtype, &c.plan, o->err);
    snprintf(name, sizeof name, "conv %dx%d %d->%d k%d s%d", g->H, g->W, g->C, g->K, g->R, g->stride);
    json_begin_object(json, NULL);
    json_string(json, "op", name);
    if (text)
        printf("%-28s", name);
    for (c.way = 0; c.way < WAYS && o->status == STATUS_OK; c.way++) {
        const double seconds = ops_time(o, run_conv, &c), rate = gflop / seconds;
        json_number(json, names[c.way], rate);
        json_number(json, shares[c.way], rate / o->reference[REFERENCE_GEMM]);
        if (text)
            printf(" %s %.0f (%.1f %%)", names[c.way], rate, 100 * rate / o->reference[REFERENCE_GEMM]);
    }
    json_string(json, "unit", "GFLOP/s");
    json_string(json, "of", REFERENCES[REFERENCE_GEMM].name);
    json_end_object(json);
    if (text)
        printf(" GFLOP/s\n");
    if (c.plan)
        o->d->ops->conv->destroy(o->d, c.plan);
    ops_release_all(o);
}

static void bench_convs(OpsBench *o) {
    const int S = o->side, W = o->width;
    const ConvGeometry shapes[] = {
        {S, S, 3, W, 3, 1, 1},
        {S, S, W, W, 3, 1, 1},
        {S, S, W, 2 * W, 3, 2, 1},
        {S / 2, S / 2, 2 * W, 2 * W, 3, 1, 1},
        {S / 4, S / 4, 4 * W, 4 * W, 3, 1, 1},
        {S / 8, S / 8, 8 * W, 8 * W, 3, 1, 1},
        {S, S, W, 2 * W, 1, 2, 0},
        {S, S, W, 4 * W, 1, 1, 0}, /* ResNet-50's */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && o->status == STATUS_OK; i++)
        bench_conv(o, &shapes[i]);
}

Status bench_ops(BenchContext *b, Error *err) {
    const BenchOptions *options = b->options;
    if (b->runtime.comm.size > 1)
        return error_set(err, STATUS_USAGE, "bench ops runs on one rank");
    if (options->gemm < 0 || options->gemm % 64 != 0)
        return error_set(err, STATUS_USAGE, "--gemm must be a multiple of 64");
    OpsBench o = {.b = b,
                  .d = &b->runtime.device,
                  .dtype = b->runtime.dtype,
                  .N = options->batch,
                  .side = (int)options->size,
                  .width = (int)options->width,
                  .seconds = calloc((size_t)options->steps, sizeof(double)),
                  .err = err};
    o.status = o.seconds ? make_tile(&o, err) : error_set(err, STATUS_SYSTEM, "out of memory");
    const double begin = clock_seconds();
    if (o.status == STATUS_OK)
        measure_references(&o);
    json_begin_array(&b->json, "ops");
    if (o.status == STATUS_OK)
        bench_convs(&o);
    if (o.status == STATUS_OK)
        ops_families(&o);
    json_end_array(&b->json);
    json_number(&b->json, "seconds", clock_seconds() - begin);
    ops_release_all(&o);
    if (o.tile)
        o.d->ops->memory->release(o.d, o.tile, TILE * sizeof(float));
    free(o.seconds);
    return o.status;
}
