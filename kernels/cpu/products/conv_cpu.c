/* Convolutions through oneDNN (conv_step.h).
 *
 * A plan keeps the steps of the row counts last used; the least recently used one makes room. A step holds some 50 kB
 * of compiled code and takes under a millisecond to build again, so few row counts are kept: a run meets the batch,
 * twice the batch and their tails often, the others once. The device's scratch only grows when a step for a new row
 * count is built, so a call on a known row count allocates nothing. */
#include <stdlib.h>
#include <string.h>

#include "kernels/contract/conv.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"
#include "kernels/cpu/products/conv_step.h"
#include "kernels/cpu/products/pixels.h"

enum { ROWS_KEPT = 8 };

/* Gathered pixels of one call, and widened copies: the scratch stays as small as it is without them, or nearly so. */
static const int64_t pixels_limit = 4 << 20, copies_limit = 16 << 20;

typedef struct ConvRows {
    int64_t N; /* 0: free */
    uint64_t used;
    ConvStep *forward[EPILOGUES], *backward_data, *backward_weight;
} ConvRows;

struct ConvPlan {
    ConvGeometry geometry;
    DType type;
    uint64_t clock;
    ConvRows rows[ROWS_KEPT];
};

static void rows_free(ConvRows *rows) {
    for (int i = 0; i < EPILOGUES; i++)
        conv_step_free(rows->forward[i]);
    conv_step_free(rows->backward_data);
    conv_step_free(rows->backward_weight);
    memset(rows, 0, sizeof *rows);
}

/* The slot of row count N: the one in use, else a free one, else the least recently used one emptied. */
static ConvRows *rows_of(ConvPlan *plan, int64_t N) {
    ConvRows *oldest = plan->rows, *found = NULL;
    for (int i = 0; i < ROWS_KEPT && !found; i++) {
        ConvRows *rows = &plan->rows[i];
        if (rows->N == N)
            found = rows;
        else if (rows->used < oldest->used)
            oldest = rows;
    }
    if (!found) {
        rows_free(oldest);
        oldest->N = N;
        found = oldest;
    }
    found->used = ++plan->clock;
    return found;
}

static ConvStep *step_of(Device *device, ConvPlan *plan, ConvPass pass, int epilogue, int64_t N) {
    ConvRows *rows = rows_of(plan, N);
    ConvStep **slot = pass == PASS_FORWARD         ? &rows->forward[epilogue]
                      : pass == PASS_BACKWARD_DATA ? &rows->backward_data
                                                   : &rows->backward_weight;
    if (!*slot) {
        Error err;
        if (conv_step_make(device, &plan->geometry, plan->type, pass, epilogue, N, slot, &err) != STATUS_OK)
            device_fatal(device, err.code, "%s", err.message);
    }
    return *slot;
}

static Status conv_create_cpu(Device *device, const ConvGeometry *geometry, DType type, ConvPlan **out, Error *err) {
    *out = NULL;
    const ConvGeometry *g = geometry;
    if (g->H < 1 || g->W < 1 || g->C < 1 || g->K < 1 || g->R < 1 || g->stride < 1 || g->pad < 0 ||
        g->H + 2 * g->pad < g->R || g->W + 2 * g->pad < g->R || (type != DTYPE_F32 && type != DTYPE_BF16))
        return error_set(err, STATUS_CONFIG,
                         "impossible convolution: %dx%d kernel, stride %d, pad %d on %dx%d pixels, %d -> %d channels",
                         g->R, g->R, g->stride, g->pad, g->H, g->W, g->C, g->K);
    ConvPlan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return error_set(err, STATUS_SYSTEM, "out of memory for a convolution plan");
    plan->geometry = *geometry;
    plan->type = type;
    for (ConvPass pass = PASS_FORWARD; pass <= PASS_BACKWARD_WEIGHT; pass++) {
        ConvStep *step = NULL;
        Status status = conv_step_make(device, geometry, type, pass, 0, 1, &step, err);
        conv_step_free(step);
        if (status != STATUS_OK) {
            free(plan);
            return status;
        }
    }
    *out = plan;
    return STATUS_OK;
}

static void conv_destroy_cpu(Device *device, ConvPlan *plan) {
    (void)device;
    if (!plan)
        return;
    for (int i = 0; i < ROWS_KEPT; i++)
        rows_free(&plan->rows[i]);
    free(plan);
}

/* How many calls N rows are cut into. */
static int calls_of(const ConvPlan *plan, int64_t N) {
    const ConvGeometry *g = &plan->geometry;
    const int64_t positions =
        (int64_t)conv_out(g->H, g->R, g->stride, g->pad) * conv_out(g->W, g->R, g->stride, g->pad);
    const int64_t image = pixels_strided(g) ? positions * g->C : (int64_t)g->H * g->W * g->C;
    int64_t calls = 1;
    if (pixels_strided(g))
        calls = (N * image * (int64_t)dtype_size(plan->type) + pixels_limit - 1) / pixels_limit;
    if (conv_step_type(plan->type) != plan->type) {
        const int64_t copies = N * (image + positions * g->K) * (int64_t)sizeof(float);
        const int64_t needed = (copies + copies_limit - 1) / copies_limit;
        calls = needed > calls ? needed : calls;
    }
    return (int)(calls < N ? calls : N);
}

static void run(Device *device, ConvPlan *plan, ConvPass pass, int epilogue, int64_t N, const ConvCall *call) {
    const ConvGeometry *g = &plan->geometry;
    const int64_t image = (int64_t)g->H * g->W * g->C;
    const int64_t output =
        (int64_t)conv_out(g->H, g->R, g->stride, g->pad) * conv_out(g->W, g->R, g->stride, g->pad) * g->K;
    const int calls = calls_of(plan, N);
    for (int i = 0; i < calls; i++) {
        const Part rows = part_of(N, calls, i, 1);
        ConvCall part = *call;
        part.most_rows = (N + calls - 1) / calls;
        part.image = lane_at(plan->type, call->image, rows.first * image);
        part.output = lane_at(plan->type, call->output, rows.first * output);
        conv_step_run(device, step_of(device, plan, pass, epilogue, rows.last - rows.first), &part);
    }
}

static void conv_forward_cpu(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *w,
                             const ConvEpilogue *epilogue, void *y) {
    if (N == 0)
        return;
    int kind = 0;
    if (epilogue)
        kind = (epilogue->bias ? EPILOGUE_BIAS : 0) | (epilogue->add ? EPILOGUE_ADD : 0) |
               (epilogue->relu ? EPILOGUE_RELU : 0);
    const ConvCall call = {.image = x, .weights = w, .output = y, .bias = epilogue ? epilogue->bias : NULL};
    run(device, plan, PASS_FORWARD, kind, N, &call);
}

static void conv_backward_data_cpu(Device *device, ConvPlan *plan, int64_t N, const void *dy, const void *w, void *dx) {
    if (N == 0)
        return;
    const ConvCall call = {.image = dx, .weights = w, .output = dy};
    run(device, plan, PASS_BACKWARD_DATA, 0, N, &call);
}

static void conv_backward_weight_cpu(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *dy,
                                     float *dw) {
    if (N == 0)
        return;
    const ConvCall call = {.image = x, .weights = dw, .output = dy};
    run(device, plan, PASS_BACKWARD_WEIGHT, 0, N, &call);
}

const ConvOps conv_ops_cpu = {
    .create = conv_create_cpu,
    .destroy = conv_destroy_cpu,
    .forward = conv_forward_cpu,
    .backward_data = conv_backward_data_cpu,
    .backward_weight = conv_backward_weight_cpu,
};
