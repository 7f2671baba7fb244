/* Convolutions through oneDNN.
 *
 * Images stay plain NHWC. Weights arrive as KRRC ("ohwi") and are packed per call into whatever layout the chosen
 * implementation wants; weight gradients come out packed and are added to dw by a reorder with accumulation. Packed
 * weights and oneDNN's own temporaries live in the device's scratch, which only grows when a step for a new row count
 * is built, so a call on a known row count allocates nothing.
 *
 * A plan keeps the steps of the row counts last used; the least recently used one makes room. A step holds some 50 kB
 * of compiled code and takes under a millisecond to build again, so few row counts are kept: a run meets the batch,
 * twice the batch and their tails often, the others once. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/device/internal.h"

enum { ROWS_KEPT = 8, EPILOGUES = 8, SCRATCH_ALIGN = 4096 };

typedef enum ConvPass { PASS_FORWARD, PASS_BACKWARD_DATA, PASS_BACKWARD_WEIGHT } ConvPass;

enum { EPILOGUE_BIAS = 1, EPILOGUE_ADD = 2, EPILOGUE_RELU = 4 };

/* One compiled convolution and the reorder between our weights and its packed ones. Handles are set per call. */
typedef struct ConvStep {
    dnnl_primitive_t conv, reorder;
    dnnl_memory_t image, weights, output;  /* x or dx; w or dw, packed; y or dy */
    dnnl_memory_t user_weights, bias;      /* KRRC; bias only in forward */
    dnnl_memory_t conv_temp, reorder_temp; /* oneDNN's scratchpads */
    size_t packed_bytes, temp_bytes;       /* scratch = packed weights, then temporaries */
} ConvStep;

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

typedef struct ConvShapes {
    dnnl_memory_desc_t image, output, any_weights, user_weights, bias;
    dnnl_dims_t stride, pad;
} ConvShapes;

static dnnl_data_type_t dnnl_type(DType type) {
    return type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t describe(const ConvGeometry *g, DType type, DType weight_type, int64_t N, ConvShapes *s) {
    int P = conv_out(g->H, g->R, g->stride, g->pad), Q = conv_out(g->W, g->R, g->stride, g->pad);
    dnnl_dims_t image = {N, g->C, g->H, g->W}, output = {N, g->K, P, Q}, weights = {g->K, g->C, g->R, g->R};
    dnnl_dims_t bias = {g->K};
    for (int i = 0; i < 2; i++) {
        s->stride[i] = g->stride;
        s->pad[i] = g->pad;
    }
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&s->image, 4, image, dnnl_type(type), dnnl_nhwc);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&s->output, 4, output, dnnl_type(type), dnnl_nhwc);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&s->any_weights, 4, weights, dnnl_type(weight_type), dnnl_format_tag_any);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&s->user_weights, 4, weights, dnnl_type(weight_type), dnnl_ohwi);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&s->bias, 1, bias, dnnl_f32, dnnl_x);
    return status;
}

static dnnl_status_t make_attributes(int add, int relu, dnnl_primitive_attr_t *out) {
    dnnl_post_ops_t post;
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (status != dnnl_success)
        return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (status != dnnl_success || !(add || relu))
        return status;
    status = dnnl_post_ops_create(&post);
    if (status != dnnl_success)
        return status;
    if (add)
        status = dnnl_post_ops_append_sum(post, 1.0f);
    if (status == dnnl_success && relu)
        status = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(*out, post);
    dnnl_post_ops_destroy(post);
    return status;
}

static dnnl_status_t forward_desc(const ConvShapes *s, int epilogue, dnnl_engine_t engine, dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &desc, epilogue ? dnnl_forward_inference : dnnl_forward_training, dnnl_convolution_direct, &s->image,
        &s->any_weights, epilogue & EPILOGUE_BIAS ? &s->bias : NULL, &s->output, s->stride, s->pad, s->pad);
    if (status == dnnl_success)
        status = make_attributes(epilogue & EPILOGUE_ADD, epilogue & EPILOGUE_RELU, &attr);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t backward_desc(const ConvShapes *s, ConvPass pass, const_dnnl_primitive_desc_t hint,
                                   dnnl_engine_t engine, dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status =
        pass == PASS_BACKWARD_DATA
            ? dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &s->image, &s->any_weights,
                                                       &s->output, s->stride, s->pad, s->pad)
            : dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &s->image, &s->any_weights,
                                                          NULL, &s->output, s->stride, s->pad, s->pad);
    if (status == dnnl_success)
        status = make_attributes(0, 0, &attr);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &desc, attr, engine, hint);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t conv_desc(const ConvPlan *plan, ConvPass pass, int epilogue, int64_t N, dnnl_engine_t engine,
                               ConvShapes *shapes, dnnl_primitive_desc_t *out) {
    dnnl_status_t status = describe(&plan->geometry, plan->type, plan->type, N, shapes);
    if (status != dnnl_success)
        return status;
    if (pass == PASS_FORWARD)
        return forward_desc(shapes, epilogue, engine, out);
    dnnl_primitive_desc_t hint = NULL;
    status = forward_desc(shapes, 0, engine, &hint);
    if (status == dnnl_success && pass == PASS_BACKWARD_WEIGHT)
        status = describe(&plan->geometry, plan->type, DTYPE_F32, N, shapes);
    if (status == dnnl_success)
        status = backward_desc(shapes, pass, hint, engine, out);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

/* Packs our weights for the convolution, or adds its packed gradient to ours. */
static dnnl_status_t make_reorder(ConvStep *step, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                  int accumulate, dnnl_engine_t engine, size_t *temp_bytes) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = make_attributes(accumulate, 0, &attr);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, attr);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&step->reorder, desc);
    if (status == dnnl_success) {
        const dnnl_memory_desc_t *temp = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        *temp_bytes = dnnl_memory_desc_get_size(temp);
        status = dnnl_memory_create(&step->reorder_temp, temp, engine, DNNL_MEMORY_NONE);
    }
    dnnl_primitive_desc_destroy(desc);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t fill_step(ConvStep *step, ConvPass pass, const ConvShapes *shapes,
                               const_dnnl_primitive_desc_t desc, dnnl_engine_t engine) {
    dnnl_query_t query = pass == PASS_BACKWARD_WEIGHT ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(desc, query, 0);
    const dnnl_memory_desc_t *temp = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    struct {
        dnnl_memory_t *memory;
        const dnnl_memory_desc_t *desc;
    } parts[] = {{&step->image, &shapes->image}, {&step->output, &shapes->output},
                 {&step->weights, packed},       {&step->user_weights, &shapes->user_weights},
                 {&step->bias, &shapes->bias},   {&step->conv_temp, temp}};
    dnnl_status_t status = dnnl_primitive_create(&step->conv, desc);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == dnnl_success; i++)
        status = dnnl_memory_create(parts[i].memory, parts[i].desc, engine, DNNL_MEMORY_NONE);
    if (status != dnnl_success)
        return status;
    size_t reorder_temp = 0;
    if (pass == PASS_BACKWARD_WEIGHT)
        status = make_reorder(step, packed, &shapes->user_weights, 1, engine, &reorder_temp);
    else if (!dnnl_memory_desc_equal(packed, &shapes->user_weights))
        status = make_reorder(step, &shapes->user_weights, packed, 0, engine, &reorder_temp);
    size_t packed_bytes = dnnl_memory_desc_get_size(packed), conv_temp = dnnl_memory_desc_get_size(temp);
    step->packed_bytes = (packed_bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
    step->temp_bytes = conv_temp > reorder_temp ? conv_temp : reorder_temp;
    return status;
}

static void step_free(ConvStep *step) {
    if (!step)
        return;
    dnnl_memory_t memories[] = {step->image, step->weights,   step->output,      step->user_weights,
                                step->bias,  step->conv_temp, step->reorder_temp};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        dnnl_memory_destroy(memories[i]);
    dnnl_primitive_destroy(step->conv);
    dnnl_primitive_destroy(step->reorder);
    free(step);
}

static Status step_make(Device *device, const ConvPlan *plan, ConvPass pass, int epilogue, int64_t N, ConvStep **out,
                        Error *err) {
    const ConvGeometry *g = &plan->geometry;
    dnnl_engine_t engine = cpu_of(device)->engine;
    dnnl_primitive_desc_t desc = NULL;
    ConvShapes shapes;
    dnnl_status_t status = dnnl_out_of_memory;
    cpu_use_threads(device);
    ConvStep *step = calloc(1, sizeof *step);
    if (step)
        status = conv_desc(plan, pass, epilogue, N, engine, &shapes, &desc);
    if (step && status == dnnl_success)
        status = fill_step(step, pass, &shapes, desc, engine);
    dnnl_primitive_desc_destroy(desc);
    if (status == dnnl_success) {
        *out = step;
        return STATUS_OK;
    }
    step_free(step);
    return error_set(
        err, status == dnnl_unimplemented ? STATUS_CONFIG : STATUS_SYSTEM,
        "convolution %dx%d, %d -> %d channels, %dx%d pixels, stride %d, pad %d, %s, %lld rows: oneDNN says "
        "%s%s",
        g->R, g->R, g->C, g->K, g->H, g->W, g->stride, g->pad, plan->type == DTYPE_BF16 ? "bf16" : "f32", (long long)N,
        status == dnnl_unimplemented   ? "unimplemented"
        : status == dnnl_out_of_memory ? "out of memory"
                                       : "invalid arguments",
        status == dnnl_unimplemented && plan->type == DTYPE_BF16 ? "; this CPU may lack AVX-512: use precision: f32"
                                                                 : "");
}

static void rows_free(ConvRows *rows) {
    for (int i = 0; i < EPILOGUES; i++)
        step_free(rows->forward[i]);
    step_free(rows->backward_data);
    step_free(rows->backward_weight);
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
        if (step_make(device, plan, pass, epilogue, N, slot, &err) != STATUS_OK)
            device_fatal(device, err.code, "%s", err.message);
    }
    return *slot;
}

static void execute(Device *device, dnnl_primitive_t primitive, const dnnl_exec_arg_t *args, int count) {
    cpu_use_threads(device);
    dnnl_status_t status = dnnl_primitive_execute(primitive, cpu_of(device)->stream, count, args);
    if (status == dnnl_success)
        status = dnnl_stream_wait(cpu_of(device)->stream);
    if (status != dnnl_success)
        device_fatal(device, STATUS_SYSTEM, "a oneDNN convolution failed with status %d", (int)status);
}

/* oneDNN takes inputs through non-const handles; it only reads them. */
static void bind(dnnl_memory_t memory, const void *data) {
    dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)data);
}

static char *bind_scratch(Device *device, const ConvStep *step) {
    char *scratch = cpu_scratch(device, step->packed_bytes + step->temp_bytes);
    bind(step->conv_temp, scratch + step->packed_bytes);
    if (step->reorder)
        bind(step->reorder_temp, scratch + step->packed_bytes);
    return scratch;
}

static void pack_weights(Device *device, const ConvStep *step, const void *w) {
    char *scratch = bind_scratch(device, step);
    if (!step->reorder) {
        bind(step->weights, w);
        return;
    }
    bind(step->user_weights, w);
    bind(step->weights, scratch);
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_FROM, step->user_weights}, {DNNL_ARG_TO, step->weights}, {DNNL_ARG_SCRATCHPAD, step->reorder_temp}};
    execute(device, step->reorder, args, 3);
}

Status conv_create_cpu(Device *device, const ConvGeometry *geometry, DType type, ConvPlan **out, Error *err) {
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
        Status status = step_make(device, plan, pass, 0, 1, &step, err);
        step_free(step);
        if (status != STATUS_OK) {
            free(plan);
            return status;
        }
    }
    *out = plan;
    return STATUS_OK;
}

void conv_destroy_cpu(Device *device, ConvPlan *plan) {
    (void)device;
    if (!plan)
        return;
    for (int i = 0; i < ROWS_KEPT; i++)
        rows_free(&plan->rows[i]);
    free(plan);
}

void conv_forward_cpu(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *w,
                      const ConvEpilogue *epilogue, void *y) {
    if (N == 0)
        return;
    int kind = 0;
    if (epilogue)
        kind = (epilogue->bias ? EPILOGUE_BIAS : 0) | (epilogue->add ? EPILOGUE_ADD : 0) |
               (epilogue->relu ? EPILOGUE_RELU : 0);
    ConvStep *step = step_of(device, plan, PASS_FORWARD, kind, N);
    pack_weights(device, step, w);
    bind(step->image, x);
    bind(step->output, y);
    if (kind & EPILOGUE_BIAS)
        bind(step->bias, epilogue->bias);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, step->image},
                                    {DNNL_ARG_WEIGHTS, step->weights},
                                    {DNNL_ARG_DST, step->output},
                                    {DNNL_ARG_SCRATCHPAD, step->conv_temp},
                                    {DNNL_ARG_BIAS, step->bias}};
    execute(device, step->conv, args, kind & EPILOGUE_BIAS ? 5 : 4);
}

void conv_backward_data_cpu(Device *device, ConvPlan *plan, int64_t N, const void *dy, const void *w, void *dx) {
    if (N == 0)
        return;
    ConvStep *step = step_of(device, plan, PASS_BACKWARD_DATA, 0, N);
    pack_weights(device, step, w);
    bind(step->output, dy);
    bind(step->image, dx);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_DIFF_DST, step->output},
                                    {DNNL_ARG_WEIGHTS, step->weights},
                                    {DNNL_ARG_DIFF_SRC, step->image},
                                    {DNNL_ARG_SCRATCHPAD, step->conv_temp}};
    execute(device, step->conv, args, 4);
}

void conv_backward_weight_cpu(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *dy, float *dw) {
    if (N == 0)
        return;
    ConvStep *step = step_of(device, plan, PASS_BACKWARD_WEIGHT, 0, N);
    bind(step->weights, bind_scratch(device, step));
    bind(step->image, x);
    bind(step->output, dy);
    bind(step->user_weights, dw);
    const dnnl_exec_arg_t conv[] = {{DNNL_ARG_SRC, step->image},
                                    {DNNL_ARG_DIFF_DST, step->output},
                                    {DNNL_ARG_DIFF_WEIGHTS, step->weights},
                                    {DNNL_ARG_SCRATCHPAD, step->conv_temp}};
    execute(device, step->conv, conv, 4);
    const dnnl_exec_arg_t add[] = {
        {DNNL_ARG_FROM, step->weights}, {DNNL_ARG_TO, step->user_weights}, {DNNL_ARG_SCRATCHPAD, step->reorder_temp}};
    execute(device, step->reorder, add, 3);
}
