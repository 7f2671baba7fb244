/* Arenas, initialisation and the passage between arena and PyTorch layouts. */
#include "trainer/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/philox.h"
#include "kernels/buffers.h"
#include "trainer/model/build.h"
#include "trainer/model/encoders/encoders.h"
#include "trainer/model/heads.h"

static Status create_layers(Model *model, Error *err) {
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind->create)
            RETURN_IF(model->layers[i].kind->create(model, &model->layers[i], err));
    return STATUS_OK;
}

/* Two normals from two uniforms (Box and Muller 1958); double keeps the tail exact. */
static float normal(PhiloxReader *reader) {
    double u = 1.0 - (double)philox_next_uniform(reader), v = (double)philox_next_uniform(reader);
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v));
}

/* Start values of parameter span `index`, in PyTorch layout. Convolutions: Kaiming normal, fan-out. Dense layers:
 * uniform in +-1/sqrt(fan_in) for weights and biases alike; all of them read features. */
static void draw_span(const Model *model, int index, uint64_t seed, float *values) {
    const Span *span = &model->params[index];
    PhiloxReader reader = philox_reader(seed, PHILOX_INIT, (uint64_t)index, 0);
    if (span->start == START_CONV) {
        double std = sqrt(2.0 / (double)(span->shape[0] * span->shape[2] * span->shape[3]));
        for (int64_t i = 0; i < span->count; i++)
            values[i] = (float)(std * normal(&reader));
    } else if (span->start == START_DENSE) {
        float bound = (float)(1.0 / sqrt((double)model->features));
        for (int64_t i = 0; i < span->count; i++)
            values[i] = bound * (2.0f * philox_next_uniform(&reader) - 1.0f);
    } else {
        for (int64_t i = 0; i < span->count; i++)
            values[i] = span->start == START_ONES;
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
        for (int64_t c = 0; c < span->count; c++)
            host[c] = span->start == START_ONES;
        model_write_span(model, model->running, span, host);
    }
    free(host);
    model_sync_low(model);
    return STATUS_OK;
}

enum { MODEL_BUFFERS = 7 };

static void list_arenas(Model *model, Buffer list[MODEL_BUFFERS]) {
    int most_channels = 0;
    for (int i = 0; i < model->tensor_count; i++)
        most_channels = model->tensors[i].C > most_channels ? model->tensors[i].C : most_channels;
    const size_t total = (size_t)model->total, each = dtype_size(model->dtype);
    const Buffer all[MODEL_BUFFERS] = {
        {(void **)&model->master, sizeof(float) * total},
        {(void **)&model->gradient, sizeof(float) * total},
        {(void **)&model->running, sizeof(float) * (size_t)model->running_total},
        {(void **)&model->stats, sizeof(float) * (size_t)model->stats_total},
        {(void **)&model->sums, sizeof(double) * (size_t)(model->sums_total + 2 * most_channels)},
        {&model->folded, (size_t)model->folded_total * each},
        {&model->low, model->dtype == DTYPE_F32 ? 0 : total * each},
    };
    memcpy(list, all, sizeof all);
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
    Buffer arenas[MODEL_BUFFERS];
    Status status;
    GOTO_IF(encoder_build(model, err), fail);
    heads_describe(model);
    list_arenas(model, arenas);
    GOTO_IF(buffers_alloc(device, arenas, MODEL_BUFFERS, err), fail);
    if (dtype == DTYPE_F32)
        model->low = model->master;
    GOTO_IF(create_layers(model, err), fail);
    GOTO_IF(initialise(model, seed, err), fail);
    return STATUS_OK;
fail:
    model_free(model);
    return status;
}

void model_free(Model *model) {
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind->destroy)
            model->layers[i].kind->destroy(model, &model->layers[i]);
    if (model->low == model->master)
        model->low = NULL;
    if (model->device) {
        Buffer arenas[MODEL_BUFFERS];
        list_arenas(model, arenas);
        buffers_free(model->device, arenas, MODEL_BUFFERS);
    }
    model_free_lists(model);
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

Status model_explain_tensor(const Model *model, int stage, int *tensor, Error *err) {
    if (stage == 0)
        stage = model->shape.size >= 64 ? model->stage_count : 2;
    if (stage > model->stage_count)
        return error_set(err, STATUS_CONFIG, "explain.layer: layer%d, but model.encoder %s has layer1 to layer%d only",
                         stage, model->shape.encoder, model->stage_count);
    *tensor = model->stage[stage - 1];
    return STATUS_OK;
}
