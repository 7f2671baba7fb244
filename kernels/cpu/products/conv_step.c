/* Convolutions compiled by oneDNN; see conv_step.h. */
#include "kernels/cpu/products/conv_step.h"

#include <stdlib.h>

#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/products/pixels.h"
#include "kernels/ops.h"

/* Handles of memories are set per call. */
struct ConvStep {
    ConvPass pass;
    int epilogue;
    ConvGeometry geometry;  /* as asked for; oneDNN's own has no stride where pixels are gathered */
    DType type, inner_type; /* of the caller's images, outputs and weights (not of dw); what oneDNN is given */
    int64_t N;
    int64_t image_count, weight_count, output_count; /* numbers that oneDNN is given */
    dnnl_primitive_t conv, reorder;
    dnnl_memory_t image, weights, output;  /* x or dx; w or dw, packed; y or dy */
    dnnl_memory_t user_weights, bias;      /* KRRC; bias only in forward */
    dnnl_memory_t conv_temp, reorder_temp; /* oneDNN's scratchpads */
    size_t packed_bytes, temp_bytes;
    int has_pixels; /* gathered, and scattered again */
};

DType conv_step_type(DType type) {
    return type == DTYPE_BF16 && onednn_convolves_bf16() ? DTYPE_BF16 : DTYPE_F32;
}

static int is_widened(const ConvStep *step) {
    return step->inner_type != step->type;
}

/* The layouts of a convolution, owned. */
typedef struct ConvShapes {
    OnednnLayout image, output, any_weights, user_weights, bias;
    dnnl_dims_t stride, pad;
} ConvShapes;

static dnnl_data_type_t dnnl_type(DType type) {
    return type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

static void shapes_free(ConvShapes *s) {
    onednn_layout_free(s->image);
    onednn_layout_free(s->output);
    onednn_layout_free(s->any_weights);
    onednn_layout_free(s->user_weights);
    onednn_layout_free(s->bias);
}

static dnnl_status_t shapes_make(const ConvGeometry *g, DType type, DType weight_type, int64_t N, ConvShapes *s) {
    int P = conv_out(g->H, g->R, g->stride, g->pad), Q = conv_out(g->W, g->R, g->stride, g->pad);
    dnnl_dims_t image = {N, g->C, g->H, g->W}, output = {N, g->K, P, Q}, weights = {g->K, g->C, g->R, g->R};
    dnnl_dims_t bias = {g->K};
    *s = (ConvShapes){.stride = {g->stride, g->stride}, .pad = {g->pad, g->pad}};
    dnnl_status_t status = onednn_layout_make(4, image, dnnl_type(type), dnnl_nhwc, &s->image);
    if (status == dnnl_success)
        status = onednn_layout_make(4, output, dnnl_type(type), dnnl_nhwc, &s->output);
    if (status == dnnl_success)
        status = onednn_layout_make(4, weights, dnnl_type(weight_type), dnnl_format_tag_any, &s->any_weights);
    if (status == dnnl_success)
        status = onednn_layout_make(4, weights, dnnl_type(weight_type), dnnl_ohwi, &s->user_weights);
    if (status == dnnl_success)
        status = onednn_layout_make(1, bias, dnnl_f32, dnnl_x, &s->bias);
    return status;
}

/* oneDNN's ReLU is a maximum, which makes NaN 0 and so hides a broken model in inference; its leaky one compares, and
 * NaN stays. With this slope a negative number becomes too small for any sum to notice, and stays below 0. */
static const float relu_slope = 0x1p-100f;

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
        status = onednn_append_sum(post);
    if (status == dnnl_success && relu)
        status = onednn_append_relu(post, relu_slope);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(*out, post);
    dnnl_post_ops_destroy(post);
    return status;
}

static dnnl_status_t pass_desc(const ConvShapes *s, ConvPass pass, int epilogue, const_dnnl_primitive_desc_t hint,
                               dnnl_engine_t engine, dnnl_primitive_desc_t *out) {
    OnednnConv conv = {.image = s->image, .weights = s->any_weights, .output = s->output};
    for (int i = 0; i < 2; i++) {
        conv.stride[i] = s->stride[i];
        conv.pad[i] = s->pad[i];
    }
    if (epilogue & EPILOGUE_BIAS)
        conv.bias = s->bias;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = make_attributes(epilogue & EPILOGUE_ADD, epilogue & EPILOGUE_RELU, &attr);
    if (status == dnnl_success && pass == PASS_FORWARD)
        status =
            onednn_conv_forward(&conv, epilogue ? dnnl_forward_inference : dnnl_forward_training, attr, engine, out);
    else if (status == dnnl_success && pass == PASS_BACKWARD_DATA)
        status = onednn_conv_backward_data(&conv, hint, attr, engine, out);
    else if (status == dnnl_success)
        status = onednn_conv_backward_weights(&conv, hint, attr, engine, out);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

/* The descriptor of a pass. A backward pass wants the forward one; weight gradients are f32 whatever the weights are.
 */
static dnnl_status_t conv_desc(const ConvGeometry *geometry, DType type, ConvPass pass, int epilogue, int64_t N,
                               dnnl_engine_t engine, ConvShapes *shapes, dnnl_primitive_desc_t *out) {
    dnnl_primitive_desc_t forward = NULL;
    dnnl_status_t status = shapes_make(geometry, type, type, N, shapes);
    if (status == dnnl_success && pass == PASS_FORWARD)
        return pass_desc(shapes, PASS_FORWARD, epilogue, NULL, engine, out);
    if (status == dnnl_success)
        status = pass_desc(shapes, PASS_FORWARD, 0, NULL, engine, &forward);
    if (status == dnnl_success && pass == PASS_BACKWARD_WEIGHT) {
        shapes_free(shapes);
        status = shapes_make(geometry, type, DTYPE_F32, N, shapes);
    }
    if (status == dnnl_success)
        status = pass_desc(shapes, pass, 0, forward, engine, out);
    dnnl_primitive_desc_destroy(forward);
    return status;
}

/* Packs our weights for the convolution, or adds its packed gradient to ours. */
static dnnl_status_t make_reorder(ConvStep *step, OnednnLayoutRef from, OnednnLayoutRef to, int accumulate,
                                  dnnl_engine_t engine, size_t *temp_bytes) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = make_attributes(accumulate, 0, &attr);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, attr);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&step->reorder, desc);
    if (status == dnnl_success) {
        OnednnLayoutRef temp = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        *temp_bytes = dnnl_memory_desc_get_size(temp);
        status = dnnl_memory_create(&step->reorder_temp, temp, engine, DNNL_MEMORY_NONE);
    }
    dnnl_primitive_desc_destroy(desc);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t fill_step(ConvStep *step, const ConvShapes *shapes, const_dnnl_primitive_desc_t desc,
                               dnnl_engine_t engine) {
    dnnl_query_t query = step->pass == PASS_BACKWARD_WEIGHT ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    OnednnLayoutRef packed = dnnl_primitive_desc_query_md(desc, query, 0);
    OnednnLayoutRef temp = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    struct {
        dnnl_memory_t *memory;
        OnednnLayoutRef desc;
    } parts[] = {{&step->image, shapes->image}, {&step->output, shapes->output},
                 {&step->weights, packed},      {&step->user_weights, shapes->user_weights},
                 {&step->bias, shapes->bias},   {&step->conv_temp, temp}};
    dnnl_status_t status = dnnl_primitive_create(&step->conv, desc);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == dnnl_success; i++)
        status = dnnl_memory_create(parts[i].memory, parts[i].desc, engine, DNNL_MEMORY_NONE);
    if (status != dnnl_success)
        return status;
    size_t reorder_temp = 0;
    if (step->pass == PASS_BACKWARD_WEIGHT)
        status = make_reorder(step, packed, shapes->user_weights, 1, engine, &reorder_temp);
    else if (!dnnl_memory_desc_equal(packed, shapes->user_weights))
        status = make_reorder(step, shapes->user_weights, packed, 0, engine, &reorder_temp);
    size_t conv_temp = dnnl_memory_desc_get_size(temp);
    step->packed_bytes = step->reorder ? dnnl_memory_desc_get_size(packed) : 0;
    step->temp_bytes = conv_temp > reorder_temp ? conv_temp : reorder_temp;
    return status;
}

/* What oneDNN computes: on gathered pixels, a convolution without stride. */
static ConvGeometry unstrided(const ConvGeometry *g) {
    if (!pixels_strided(g))
        return *g;
    return (ConvGeometry){.H = conv_out(g->H, g->R, g->stride, g->pad),
                          .W = conv_out(g->W, g->R, g->stride, g->pad),
                          .C = g->C,
                          .K = g->K,
                          .R = 1,
                          .stride = 1};
}

void conv_step_free(ConvStep *step) {
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

Status conv_step_make(Device *device, const ConvGeometry *geometry, DType type, ConvPass pass, int epilogue, int64_t N,
                      ConvStep **out, Error *err) {
    const ConvGeometry *g = geometry;
    dnnl_engine_t engine = cpu_of(device)->engine;
    dnnl_primitive_desc_t desc = NULL;
    ConvShapes shapes = {.image = NULL};
    dnnl_status_t status = dnnl_out_of_memory;
    *out = NULL;
    cpu_use_threads(device);
    ConvStep *step = calloc(1, sizeof *step);
    if (step) {
        const ConvGeometry inner = unstrided(g);
        *step = (ConvStep){.pass = pass, .geometry = *g, .type = type, .inner_type = conv_step_type(type), .N = N};
        step->has_pixels = pixels_strided(g);
        step->epilogue = epilogue;
        step->image_count = N * inner.H * inner.W * inner.C;
        step->weight_count = (int64_t)inner.K * inner.R * inner.R * inner.C;
        step->output_count = N * conv_out(inner.H, inner.R, inner.stride, inner.pad) *
                             conv_out(inner.W, inner.R, inner.stride, inner.pad) * inner.K;
        status = conv_desc(&inner, step->inner_type, pass, epilogue, N, engine, &shapes, &desc);
    }
    if (step && status == dnnl_success)
        status = fill_step(step, &shapes, desc, engine);
    dnnl_primitive_desc_destroy(desc);
    shapes_free(&shapes);
    if (status == dnnl_success) {
        *out = step;
        return STATUS_OK;
    }
    conv_step_free(step);
    return error_set(
        err, status == dnnl_unimplemented ? STATUS_CONFIG : STATUS_SYSTEM,
        "convolution %dx%d, %d -> %d channels, %dx%d pixels, stride %d, pad %d, %s, %lld rows: oneDNN says "
        "%s",
        g->R, g->R, g->C, g->K, g->H, g->W, g->stride, g->pad, type == DTYPE_BF16 ? "bf16" : "f32", (long long)N,
        status == dnnl_unimplemented   ? "unimplemented"
        : status == dnnl_out_of_memory ? "out of memory"
                                       : "invalid arguments");
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

static void reorder_weights(Device *device, const ConvStep *step, dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, step->reorder_temp}};
    execute(device, step->reorder, args, 3);
}

/* Where a call's numbers lie for oneDNN: the caller's own, or copies in the device's scratch. */
enum { PACKED, PIXELS, WIDE_IMAGE, WIDE_WEIGHTS, WIDE_OUTPUT, TEMP, PARTS };

typedef struct Operands {
    void *image, *weights, *output;
} Operands;

static void cut_scratch(Device *device, const ConvStep *step, int64_t rows, void **parts) {
    const int64_t image = step->image_count / step->N * rows, output = step->output_count / step->N * rows;
    const size_t bytes[PARTS] = {
        [PACKED] = step->packed_bytes,
        [TEMP] = step->temp_bytes,
        [PIXELS] = step->has_pixels ? (size_t)image * dtype_size(step->type) : 0,
        [WIDE_IMAGE] = is_widened(step) ? sizeof(float) * (size_t)image : 0,
        [WIDE_WEIGHTS] =
            is_widened(step) && step->pass != PASS_BACKWARD_WEIGHT ? sizeof(float) * (size_t)step->weight_count : 0,
        [WIDE_OUTPUT] = is_widened(step) ? sizeof(float) * (size_t)output : 0,
    };
    cpu_scratch_parts(device, PARTS, bytes, parts);
}

/* Gathers pixels and widens what the pass reads. oneDNN's handles are not const: it only writes what the pass does. */
static Operands take_in(Device *device, const ConvStep *step, const ConvCall *call, void **parts) {
    Operands o = {.image = (void *)(uintptr_t)call->image,
                  .weights = (void *)(uintptr_t)call->weights,
                  .output = (void *)(uintptr_t)call->output};
    if (step->has_pixels) {
        o.image = parts[PIXELS];
        if (step->pass != PASS_BACKWARD_DATA)
            pixels_gather(device, &step->geometry, step->type, step->N, call->image, o.image);
    }
    if (!is_widened(step))
        return o;
    if (step->pass != PASS_BACKWARD_DATA)
        device->ops->convert->cast(device, step->image_count, step->type, o.image, step->inner_type, parts[WIDE_IMAGE]);
    if (step->pass != PASS_BACKWARD_WEIGHT) {
        device->ops->convert->cast(device, step->weight_count, step->type, o.weights, step->inner_type,
                                   parts[WIDE_WEIGHTS]);
        o.weights = parts[WIDE_WEIGHTS];
    }
    if (step->pass != PASS_FORWARD || step->epilogue & EPILOGUE_ADD)
        device->ops->convert->cast(device, step->output_count, step->type, o.output, step->inner_type,
                                   parts[WIDE_OUTPUT]);
    o.image = parts[WIDE_IMAGE];
    o.output = parts[WIDE_OUTPUT];
    return o;
}

/* Narrows what the pass wrote, and scatters pixels. Weight gradients are the caller's f32 already. */
static void give_out(Device *device, const ConvStep *step, const ConvCall *call, void **parts) {
    if (is_widened(step) && step->pass == PASS_FORWARD)
        device->ops->convert->cast(device, step->output_count, step->inner_type, parts[WIDE_OUTPUT], step->type,
                                   (void *)(uintptr_t)call->output);
    if (step->pass != PASS_BACKWARD_DATA)
        return;
    void *image = step->has_pixels ? parts[PIXELS] : (void *)(uintptr_t)call->image;
    if (is_widened(step))
        device->ops->convert->cast(device, step->image_count, step->inner_type, parts[WIDE_IMAGE], step->type, image);
    if (step->has_pixels)
        pixels_scatter(device, &step->geometry, step->type, step->N, image, (void *)(uintptr_t)call->image);
}

void conv_step_run(Device *device, const ConvStep *step, const ConvCall *call) {
    static const int arguments[3][3] = {
        [PASS_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        [PASS_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        [PASS_BACKWARD_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST},
    };
    void *parts[PARTS];
    cut_scratch(device, step, call->most_rows, parts);
    const Operands operands = take_in(device, step, call, parts);
    bind(step->conv_temp, parts[TEMP]);
    if (step->reorder)
        bind(step->reorder_temp, parts[TEMP]);
    bind(step->image, operands.image);
    bind(step->output, operands.output);
    bind(step->user_weights, operands.weights);
    bind(step->weights, step->reorder ? parts[PACKED] : operands.weights);
    if (call->bias)
        bind(step->bias, call->bias);
    if (step->reorder && step->pass != PASS_BACKWARD_WEIGHT)
        reorder_weights(device, step, step->user_weights, step->weights);
    const int *argument = arguments[step->pass];
    const dnnl_exec_arg_t args[] = {{argument[0], step->image},
                                    {argument[1], step->weights},
                                    {argument[2], step->output},
                                    {DNNL_ARG_SCRATCHPAD, step->conv_temp},
                                    {DNNL_ARG_BIAS, step->bias}};
    execute(device, step->conv, args, call->bias ? 5 : 4);
    if (step->pass == PASS_BACKWARD_WEIGHT)
        reorder_weights(device, step, step->weights, step->user_weights);
    give_out(device, step, call, parts);
}
