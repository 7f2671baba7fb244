/* Builds the layer list of a ResNet with the CIFAR stem: He et al. 2016, widths w, 2w, 4w, 8w. */
#include "trainer/model/resnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Depth {
    const char *name;
    int blocks[4];
    int bottleneck;
} Depth;

static const Depth DEPTHS[] = {
    {"resnet10", {1, 1, 1, 1}, 0}, {"resnet18", {2, 2, 2, 2}, 0},   {"resnet34", {3, 4, 6, 3}, 0},
    {"resnet50", {3, 4, 6, 3}, 1}, {"resnet101", {3, 4, 23, 3}, 1},
};

static const Depth *find_depth(const char *name) {
    for (size_t i = 0; i < sizeof DEPTHS / sizeof *DEPTHS; i++)
        if (strcmp(DEPTHS[i].name, name) == 0)
            return &DEPTHS[i];
    return NULL;
}

int model_encoder_known(const char *name) {
    return find_depth(name) != NULL;
}

enum { MAX_LAYERS = 256, MAX_SPANS = 640 };

static int64_t align16(int64_t n) {
    return (n + 15) / 16 * 16;
}

static int add_span(Model *model, const char *name, SpanKind kind, int rank, const int64_t *shape) {
    Span *span = &model->params[model->param_count];
    *span = (Span){.kind = kind, .rank = rank, .offset = model->total, .count = 1};
    snprintf(span->name, sizeof span->name, "%s", name);
    for (int i = 0; i < rank; i++) {
        span->shape[i] = shape[i];
        span->count *= shape[i];
    }
    model->total += align16(span->count);
    return model->param_count++;
}

static int64_t add_running(Model *model, const char *prefix, int64_t channels) {
    static const char *const parts[] = {"running_mean", "running_var"};
    int64_t first = model->running_total;
    for (int i = 0; i < 2; i++) {
        Span *span = &model->buffers[model->buffer_count_named++];
        *span = (Span){.kind = SPAN_VECTOR, .rank = 1, .shape = {channels}, .count = channels};
        snprintf(span->name, sizeof span->name, "%s.%s", prefix, parts[i]);
        span->offset = model->running_total;
        model->running_total += channels;
    }
    return first;
}

static int add_tensor(Model *model, int H, int W, int C) {
    model->tensors[model->tensor_count] = (TensorShape){H, W, C};
    return model->tensor_count++;
}

static int add_conv(Model *model, const char *name, int in, int K, int R, int stride, int stage) {
    TensorShape t = model->tensors[in];
    ConvGeometry g = {.H = t.H, .W = t.W, .C = t.C, .K = K, .R = R, .stride = stride, .pad = R / 2};
    int index = model->layer_count++;
    Layer *layer = &model->layers[index];
    *layer = (Layer){.kind = LAYER_CONV, .in = in, .dy = -1, .dx = model->buffer_count++};
    layer->out = add_tensor(model, conv_out(t.H, R, stride, g.pad), conv_out(t.W, R, stride, g.pad), K);
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    layer->first_span = add_span(model, full, SPAN_CONV, 4, (int64_t[]){K, t.C, R, R});
    layer->conv.geometry = g;
    layer->conv.norm = -1;
    layer->conv.stage = stage;
    layer->conv.needs_dx = in != 0;
    layer->conv.folded = model->folded_total;
    model->folded_total += align16((int64_t)K * R * R * t.C);
    return index;
}

static int add_norm(Model *model, const char *name, int conv, int residual, int relu) {
    int index = model->layer_count++;
    Layer *layer = &model->layers[index];
    int in = model->layers[conv].out;
    TensorShape t = model->tensors[in];
    *layer = (Layer){.kind = LAYER_NORM, .in = in, .dy = -1, .dx = -1};
    layer->out = add_tensor(model, t.H, t.W, t.C);
    layer->norm.channels = t.C;
    layer->norm.positions = t.H * t.W;
    layer->norm.residual = residual;
    layer->norm.relu = relu;
    layer->norm.dy2 = layer->norm.packed_with = layer->norm.moments_done_by = -1;
    layer->norm.conv = conv;
    model->layers[conv].conv.norm = index;
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    layer->first_span = add_span(model, full, SPAN_VECTOR, 1, (int64_t[]){t.C});
    snprintf(full, sizeof full, "%s.bias", name);
    add_span(model, full, SPAN_VECTOR, 1, (int64_t[]){t.C});
    layer->norm.running = add_running(model, name, t.C);
    layer->norm.stats = model->stats_total;
    model->stats_total += 4 * t.C;
    layer->norm.sums = model->sums_total;
    model->sums_total += 2 * t.C;
    return index;
}

/* The norms of the shortcut and of the block's first convolution need their moments at the same time: one message. */
static void pack_moments(Model *model, int first, int shortcut) {
    Layer *a = &model->layers[first], *b = &model->layers[shortcut];
    a->norm.packed_with = shortcut;
    b->norm.moments_done_by = first;
}

static int add_block(Model *model, const char *prefix, int in, int planes, int stride, int bottleneck, int stage,
                     int last) {
    int out_channels = bottleneck ? planes * 4 : planes;
    int has_shortcut = stride != 1 || model->tensors[in].C != out_channels;
    char name[96];
#define NAMED(suffix) (snprintf(name, sizeof name, "%s.%s", prefix, suffix), name)
    int conv = add_conv(model, NAMED("conv1"), in, planes, bottleneck ? 1 : 3, bottleneck ? 1 : stride, stage);
    int shortcut_conv = -1;
    if (has_shortcut)
        shortcut_conv = add_conv(model, NAMED("shortcut.0"), in, out_channels, 1, stride, stage);
    int first_norm = add_norm(model, NAMED("bn1"), conv, -1, 1);
    /* sums offsets of packed norms must be neighbours: the shortcut's norm comes right after the first one */
    int shortcut_norm = -1;
    if (has_shortcut) {
        shortcut_norm = add_norm(model, NAMED("shortcut.1"), shortcut_conv, -1, 0);
        pack_moments(model, first_norm, shortcut_norm);
    }
    int x = model->layers[first_norm].out;
    if (bottleneck) {
        conv = add_conv(model, NAMED("conv2"), x, planes, 3, stride, stage);
        x = model->layers[add_norm(model, NAMED("bn2"), conv, -1, 1)].out;
        conv = add_conv(model, NAMED("conv3"), x, out_channels, 1, 1, stage);
    } else {
        conv = add_conv(model, NAMED("conv2"), x, out_channels, 3, 1, stage);
    }
    model->layers[conv].conv.explainable = last;
    int residual = has_shortcut ? model->layers[shortcut_norm].out : in;
    int norm = add_norm(model, NAMED(bottleneck ? "bn3" : "bn2"), conv, residual, 1);
#undef NAMED
    return model->layers[norm].out;
}

/* Backward wiring. A norm turns its first gradient (dy) into dz in place, so dy must be a private buffer: the dx of a
 * consuming convolution or of the pool. An identity shortcut hands its norm's dz on as the second gradient (dy2). */
static void wire_backward(Model *model) {
    model->output_dx = model->buffer_count++;
    for (int i = model->layer_count - 1; i >= 0; i--) {
        Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_CONV) {
            layer->dy = model->layers[layer->conv.norm].dx;
            continue;
        }
        int own = -1, shared = -1;
        if (layer->out == model->output)
            own = model->output_dx;
        for (int j = i + 1; j < model->layer_count; j++) {
            const Layer *user = &model->layers[j];
            if (user->kind == LAYER_CONV && user->in == layer->out) {
                if (own < 0)
                    own = user->dx;
                else
                    shared = user->dx;
            } else if (user->kind == LAYER_NORM && user->norm.residual == layer->out) {
                shared = user->dy;
            }
        }
        layer->dy = own >= 0 ? own : shared; /* a shortcut's norm has no ReLU, so its dy is read, not changed */
        layer->norm.dy2 = own >= 0 ? shared : -1;
        layer->dx = layer->norm.residual >= 0 ? model->buffer_count++ : layer->dy;
    }
}

Status resnet_build(Model *model, Error *err) {
    const Depth *depth = find_depth(model->shape.encoder);
    if (!depth)
        return error_set(err, STATUS_CONFIG,
                         "model.encoder '%s' is not one of resnet10, resnet18, resnet34, resnet50, resnet101",
                         model->shape.encoder);
    model->layers = calloc(MAX_LAYERS, sizeof *model->layers);
    model->tensors = calloc(MAX_LAYERS + 1, sizeof *model->tensors);
    model->params = calloc(MAX_SPANS, sizeof *model->params);
    model->buffers = calloc(MAX_SPANS, sizeof *model->buffers);
    if (!model->layers || !model->tensors || !model->params || !model->buffers)
        return error_set(err, STATUS_SYSTEM, "out of memory for the layer list");
    const int w = model->shape.width;
    int x = add_tensor(model, model->shape.size, model->shape.size, 3);
    int conv = add_conv(model, "encoder.conv1", x, w, 3, 1, 0);
    x = model->layers[add_norm(model, "encoder.bn1", conv, -1, 1)].out;
    for (int stage = 1; stage <= 4; stage++)
        for (int b = 0; b < depth->blocks[stage - 1]; b++) {
            char prefix[64];
            snprintf(prefix, sizeof prefix, "encoder.layer%d.%d", stage, b);
            x = add_block(model, prefix, x, w << (stage - 1), stage > 1 && b == 0 ? 2 : 1, depth->bottleneck, stage,
                          b == depth->blocks[stage - 1] - 1);
        }
    model->output = x;
    model->features = model->tensors[x].C;
    wire_backward(model);

    const int64_t F = model->features, D = model->shape.projection, C = model->shape.classes;
    model->head_first = model->total;
    model->head_span = add_span(model, "head.0.weight", SPAN_MATRIX, 2, (int64_t[]){F, F});
    add_span(model, "head.0.bias", SPAN_VECTOR, 1, (int64_t[]){F});
    add_span(model, "head.2.weight", SPAN_MATRIX, 2, (int64_t[]){D, F});
    add_span(model, "head.2.bias", SPAN_VECTOR, 1, (int64_t[]){D});
    model->classifier_first = model->total;
    model->classifier_span = add_span(model, "classifier.fc.weight", SPAN_MATRIX, 2, (int64_t[]){C, F});
    add_span(model, "classifier.fc.bias", SPAN_VECTOR, 1, (int64_t[]){C});
    return STATUS_OK;
}
