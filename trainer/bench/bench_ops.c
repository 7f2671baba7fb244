/* Operators at the shapes of a ResNet-18: convolutions in GFLOP/s, norms in GB/s beside a plain copy. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "trainer/bench/bench.h"

enum { WAYS = 3 };

typedef struct OpsArena {
    void *x, *y, *w, *dw, *small;
    size_t x_bytes, w_bytes, dw_bytes;
} OpsArena;

static const ConvGeometry SHAPES[] = {
    {64, 64, 3, 64, 3, 1, 1},    {64, 64, 64, 64, 3, 1, 1}, {64, 64, 64, 128, 3, 2, 1}, {32, 32, 128, 128, 3, 1, 1},
    {16, 16, 256, 256, 3, 1, 1}, {8, 8, 512, 512, 3, 1, 1}, {64, 64, 64, 128, 1, 2, 0},
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

static void run_conv(Device *d, ConvPlan *plan, int way, int64_t N, OpsArena *a) {
    if (way == 0)
        d->ops->conv_forward(d, plan, N, a->x, a->w, NULL, a->y);
    else if (way == 1)
        d->ops->conv_backward_data(d, plan, N, a->y, a->w, a->x);
    else
        d->ops->conv_backward_weight(d, plan, N, a->x, a->y, a->dw);
    d->ops->sync(d);
}

static Status bench_conv(BenchContext *b, const ConvGeometry *g, DType dtype, OpsArena *a, Error *err) {
    static const char *const names[WAYS] = {"forward", "backward_data", "backward_weight"};
    Device *d = &b->runtime.device;
    const int64_t N = b->options->batch;
    const double P = conv_out(g->H, g->R, g->stride, g->pad);
    const double gflop = 2e-9 * (double)N * P * P * g->K * g->R * g->R * g->C;
    ConvPlan *plan = NULL;
    double *seconds = calloc((size_t)b->options->steps, sizeof *seconds);
    Status status =
        seconds ? d->ops->conv_create(d, g, dtype, &plan, err) : error_set(err, STATUS_SYSTEM, "out of memory");
    json_begin_object(&b->json, NULL);
    char name[64];
    snprintf(name, sizeof name, "conv %dx%d %d->%d k%d s%d", g->H, g->W, g->C, g->K, g->R, g->stride);
    json_string(&b->json, "op", name);
    if (!b->options->json)
        printf("%-28s", name);
    for (int way = 0; way < WAYS && status == STATUS_OK; way++) {
        run_conv(d, plan, way, N, a);
        for (int64_t i = 0; i < b->options->steps; i++) {
            double begin = bench_now();
            run_conv(d, plan, way, N, a);
            seconds[i] = bench_now() - begin;
        }
        const double rate = gflop / bench_median(seconds, b->options->steps);
        json_number(&b->json, names[way], rate);
        if (!b->options->json)
            printf(" %s %.0f", names[way], rate);
    }
    json_string(&b->json, "unit", "GFLOP/s");
    json_end_object(&b->json);
    if (!b->options->json)
        printf(" GFLOP/s\n");
    if (plan)
        d->ops->conv_destroy(d, plan);
    free(seconds);
    return status;
}

typedef struct NormCase {
    const char *name;
    double passes; /* tensor reads and writes */
} NormCase;
static const NormCase NORM_CASES[] = {
    {"copy", 2}, {"norm_sums", 1}, {"norm_apply", 2}, {"norm_backward_sums", 3}, {"norm_backward_apply", 3},
};

static void run_norm(Device *d, int which, int64_t M, int C, DType dtype, OpsArena *a) {
    float *s = a->small; /* mean, invstd, scale, shift, then sums */
    double *sums = (double *)(void *)(s + 4 * C);
    switch (which) {
    case 0:
        d->ops->copy(d, a->y, a->x, (size_t)(M * C) * dtype_size(dtype));
        break;
    case 1:
        d->ops->norm_sums(d, M, C, dtype, a->x, sums);
        break;
    case 2:
        d->ops->norm_apply(d, M, C, dtype, a->x, s, s + C, NULL, 1, a->y);
        break;
    case 3:
        d->ops->norm_backward_sums(d, M, C, dtype, a->y, NULL, NULL, a->x, s, s + C, s + 2 * C, s + 3 * C, 1, sums);
        break;
    default:
        d->ops->norm_backward_apply(d, M, C, dtype, a->y, a->x, s, s + C, s + 2 * C, sums, (double)M, a->y);
    }
    d->ops->sync(d);
}

static void bench_norm(BenchContext *b, DType dtype, OpsArena *a, double *seconds) {
    Device *d = &b->runtime.device;
    const int64_t M = b->options->batch * 64 * 64;
    const int C = 64;
    const double gb = 1e-9 * (double)(M * C) * (double)dtype_size(dtype);
    for (int k = 0; k < (int)(sizeof NORM_CASES / sizeof *NORM_CASES); k++) {
        run_norm(d, k, M, C, dtype, a);
        for (int64_t i = 0; i < b->options->steps; i++) {
            double begin = bench_now();
            run_norm(d, k, M, C, dtype, a);
            seconds[i] = bench_now() - begin;
        }
        const double rate = NORM_CASES[k].passes * gb / bench_median(seconds, b->options->steps);
        json_begin_object(&b->json, NULL);
        json_string(&b->json, "op", NORM_CASES[k].name);
        json_number(&b->json, "rate", rate);
        json_string(&b->json, "unit", "GB/s");
        json_end_object(&b->json);
        if (!b->options->json)
            printf("%-28s %.1f GB/s\n", NORM_CASES[k].name, rate);
    }
}

Status bench_ops(BenchContext *b, Error *err) {
    Device *d = &b->runtime.device;
    if (b->runtime.comm.size > 1)
        return error_set(err, STATUS_USAGE, "bench ops runs on one rank");
    const DType dtype = b->config.precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32;
    OpsArena a = {.x_bytes = (size_t)b->options->batch * 64 * 64 * 64 * dtype_size(dtype),
                  .w_bytes = (size_t)512 * 512 * 9 * dtype_size(dtype),
                  .dw_bytes = (size_t)512 * 512 * 9 * sizeof(float)};
    const size_t small = 64 * 16 * sizeof(double);
    double *seconds = calloc((size_t)b->options->steps, sizeof *seconds);
    Status status = seconds ? STATUS_OK : error_set(err, STATUS_SYSTEM, "out of memory");
    if (status == STATUS_OK)
        status = d->ops->alloc(d, a.x_bytes, &a.x, err);
    if (status == STATUS_OK)
        status = d->ops->alloc(d, a.x_bytes, &a.y, err);
    if (status == STATUS_OK)
        status = d->ops->alloc(d, a.w_bytes, &a.w, err);
    if (status == STATUS_OK)
        status = d->ops->alloc(d, a.dw_bytes, &a.dw, err);
    if (status == STATUS_OK)
        status = d->ops->alloc(d, small, &a.small, err);
    double begin = bench_now();
    json_begin_array(&b->json, "ops");
    for (int i = 0; i < SHAPE_COUNT && status == STATUS_OK; i++)
        status = bench_conv(b, &SHAPES[i], dtype, &a, err);
    if (status == STATUS_OK)
        bench_norm(b, dtype, &a, seconds);
    json_end_array(&b->json);
    json_number(&b->json, "seconds", bench_now() - begin);
    void *const parts[] = {a.x, a.y, a.w, a.dw, a.small};
    const size_t sizes[] = {a.x_bytes, a.x_bytes, a.w_bytes, a.dw_bytes, small};
    for (int i = 0; i < 5; i++)
        if (parts[i])
            d->ops->release(d, parts[i], sizes[i]);
    free(seconds);
    return status;
}
