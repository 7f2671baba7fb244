/* Arenas, initialisation and the passage between arena and PyTorch layouts. */
#include "trainer/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/philox.h"
#include "trainer/model/resnet.h"

static Status create_plans(Model *model, Error *err) {
    for (int i = 0; i < model->layer_count; i++) {
        Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_CONV)
            RETURN_IF(model->device->ops->conv->create(model->device, &layer->conv.geometry, model->dtype,
                                                       &layer->conv.plan, err));
    }
    return STATUS_OK;
}

/* Two normals from two uniforms (Box and Muller 1958); double keeps the tail exact. */
static float normal(PhiloxReader *reader) {
    double u = 1.0 - (double)philox_next_uniform(reader), v = (double)philox_next_uniform(reader);
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v));
}

/* Published initialisation: convolutions Kaiming normal, fan-out; norms 1 and 0; dense layers PyTorch's default,
 * uniform in
 * +-1/sqrt(fan_in) for weights and biases alike. `values` in PyTorch layout. */
static void draw_span(const Model *model, int index, uint64_t seed, float *values) {
    const Span *span = &model->params[index];
    PhiloxReader reader = philox_reader(seed, PHILOX_INIT, (uint64_t)index, 0);
    if (span->kind == SPAN_CONV) {
        double std = sqrt(2.0 / (double)(span->shape[0] * span->shape[2] * span->shape[3]));
        for (int64_t i = 0; i < span->count; i++)
            values[i] = (float)(std * normal(&reader));
    } else if (index >= model->head_span) {
        int64_t fan_in = span->kind == SPAN_MATRIX ? span->shape[1] : model->features;
        float bound = (float)(1.0 / sqrt((double)fan_in));
        for (int64_t i = 0; i < span->count; i++)
            values[i] = bound * (2.0f * philox_next_uniform(&reader) - 1.0f);
    } else {
        float value = strstr(span->name, ".bias") ? 0.0f : 1.0f;
        for (int64_t i = 0; i < span->count; i++)
            values[i] = value;
    }
}

static Status initialise(Model *model, uint64_t seed, Error *err) {
    int64_t largest = model->running_total;
    for (int i = 0; i < model->param_count; i++)
        largest = model->params[i].count > largest ? model->params[i].count : largest;
    float *host = malloc(sizeof(float) * (size_t)largest);
    if (!host)
        return error_set(err, STATUS_SYSTEM, "out of memory while initialising parameters");
    for (int i = 0; i < model->param_count; i++) {
        draw_span(model, i, seed, host);
        model_write_span(model, model->master, &model->params[i], host);
    }
    for (int i = 0; i < model->buffer_count_named; i++) {
        const Span *span = &model->buffers[i];
        float value = strstr(span->name, "running_var") ? 1.0f : 0.0f;
        for (int64_t c = 0; c < span->count; c++)
            host[c] = value;
        model_write_span(model, model->running, span, host);
    }
    free(host);
    model_sync_low(model);
    return STATUS_OK;
}

Status model_init(Model *model, Device *device, Comm *comm, const ModelShape *shape, DType dtype, uint64_t seed,
                  Error *err) {
    *model = (Model){.device = device, .comm = comm, .dtype = dtype, .shape = *shape};
    model->bn_eps = 1e-5f;
    model->bn_momentum = 0.1f;
    model->bn_global = 1;
    if (shape->size < 8 || shape->width < 1 || shape->classes < 1 || shape->projection < 1)
        return error_set(err, STATUS_CONFIG,
                         "a model needs images of 8 pixels or more, width, classes and projection of 1 or more (got "
                         "%d, %d, %d, %d)",
                         shape->size, shape->width, shape->classes, shape->projection);
    Status status = resnet_build(model, err);
    if (status == STATUS_OK)
        status = create_plans(model, err);
    int max_channels = 0;
    for (int i = 0; i < model->tensor_count; i++)
        max_channels = model->tensors[i].C > max_channels ? model->tensors[i].C : max_channels;
    const size_t low_bytes = (size_t)model->total * dtype_size(dtype);
    struct {
        void **at;
        size_t bytes;
    } arenas[] = {
        {(void **)&model->master, sizeof(float) * (size_t)model->total},
        {(void **)&model->gradient, sizeof(float) * (size_t)model->total},
        {(void **)&model->running, sizeof(float) * (size_t)model->running_total},
        {(void **)&model->stats, sizeof(float) * (size_t)model->stats_total},
        {(void **)&model->sums, sizeof(double) * (size_t)(model->sums_total + 2 * max_channels)},
        {(void **)&model->folded, (size_t)model->folded_total * dtype_size(dtype)},
        {&model->low, dtype == DTYPE_F32 ? 0 : low_bytes},
    };
    for (size_t i = 0; status == STATUS_OK && i < sizeof arenas / sizeof *arenas; i++)
        if (arenas[i].bytes)
            status = device->ops->memory->alloc(device, arenas[i].bytes, arenas[i].at, err);
    if (status == STATUS_OK && dtype == DTYPE_F32)
        model->low = model->master;
    if (status == STATUS_OK)
        status = initialise(model, seed, err);
    if (status != STATUS_OK)
        model_free(model);
    return status;
}

void model_free(Model *model) {
    Device *device = model->device;
    if (!device)
        return;
    const Ops *ops = device->ops;
    if (model->low && (float *)model->low != model->master)
        ops->memory->release(device, model->low, (size_t)model->total * dtype_size(model->dtype));
    int max_channels = 0;
    for (int i = 0; i < model->tensor_count; i++)
        max_channels = model->tensors[i].C > max_channels ? model->tensors[i].C : max_channels;
    if (model->master)
        ops->memory->release(device, model->master, sizeof(float) * (size_t)model->total);
    if (model->gradient)
        ops->memory->release(device, model->gradient, sizeof(float) * (size_t)model->total);
    if (model->running)
        ops->memory->release(device, model->running, sizeof(float) * (size_t)model->running_total);
    if (model->stats)
        ops->memory->release(device, model->stats, sizeof(float) * (size_t)model->stats_total);
    if (model->sums)
        ops->memory->release(device, model->sums, sizeof(double) * (size_t)(model->sums_total + 2 * max_channels));
    if (model->folded)
        ops->memory->release(device, model->folded, (size_t)model->folded_total * dtype_size(model->dtype));
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind == LAYER_CONV && model->layers[i].conv.plan)
            ops->conv->destroy(device, model->layers[i].conv.plan);
    free(model->layers);
    free(model->tensors);
    free(model->params);
    free(model->buffers);
    *model = (Model){0};
}

void model_sync_low(Model *model) {
    if (model->dtype != DTYPE_F32)
        model->device->ops->convert->cast(model->device, model->total, DTYPE_F32, model->master, model->dtype,
                                          model->low);
}

const void *model_weights(const Model *model, int span) {
    return (const char *)model->low + (size_t)model->params[span].offset * dtype_size(model->dtype);
}

/* OIHW <-> KRRC: both have K outermost, so only [C][RR] <-> [RR][C] swaps inside each output channel. */
static void permute(const Span *span, const float *from, float *to, int to_pytorch) {
    int64_t K = span->shape[0], C = span->shape[1], RR = span->shape[2] * span->shape[3];
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t r = 0; r < RR; r++) {
                int64_t oihw = (k * C + c) * RR + r, krrc = (k * RR + r) * C + c;
                if (to_pytorch)
                    to[oihw] = from[krrc];
                else
                    to[krrc] = from[oihw];
            }
}

static float *scratch(const Model *model, const Span *span) {
    float *copy = malloc(sizeof(float) * (size_t)span->count);
    if (!copy)
        device_fatal(model->device, STATUS_SYSTEM, "out of memory copying %s", span->name);
    return copy;
}

void model_read_span(const Model *model, const float *arena, const Span *span, float *host) {
    const size_t bytes = sizeof(float) * (size_t)span->count;
    if (span->kind != SPAN_CONV) {
        model->device->ops->memory->copy_out(model->device, host, arena + span->offset, bytes);
        return;
    }
    float *copy = scratch(model, span);
    model->device->ops->memory->copy_out(model->device, copy, arena + span->offset, bytes);
    permute(span, copy, host, 1);
    free(copy);
}

void model_write_span(Model *model, float *arena, const Span *span, const float *host) {
    const size_t bytes = sizeof(float) * (size_t)span->count;
    if (span->kind != SPAN_CONV) {
        model->device->ops->memory->copy_in(model->device, arena + span->offset, host, bytes);
        model->device->ops->stream->sync(model->device);
        return;
    }
    float *copy = scratch(model, span);
    permute(span, host, copy, 0);
    model->device->ops->memory->copy_in(model->device, arena + span->offset, copy, bytes);
    model->device->ops->stream->sync(model->device);
    free(copy);
}

int model_explain_layer(const Model *model, int stage) {
    if (stage == 0)
        stage = model->shape.size >= 64 ? 4 : 2;
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind == LAYER_CONV && model->layers[i].conv.explainable &&
            model->layers[i].conv.stage == stage)
            return i;
    return -1;
}
