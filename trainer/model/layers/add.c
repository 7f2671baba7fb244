/* Sum of two tensors, for blocks that do not end in a norm. By the norm's operator, with scale 1 and shift 0; the
 * gradient of the sum is that of both. */
#include <stdlib.h>

#include "trainer/model/build.h"

typedef struct Add {
    int64_t ones, zeros; /* offsets into the statistics arena, [C] each */
} Add;

static const LayerKind kind;

int model_add_sum(Model *model, int in, int residual) {
    const TensorShape t = model->tensors[in];
    Layer *layer = model_add_layer(model, &kind, in, residual, t, sizeof(Add));
    *(Add *)layer->own = (Add){.ones = model->stats_total, .zeros = model->stats_total + t.C};
    model->stats_total += 2 * t.C;
    return layer->out;
}

/* Both who read the sum's parts get dy: it is changed here alone, before they do. */
static Status wire(Model *model, Layer *layer, bool own, Error *err) {
    (void)model, (void)own, (void)err;
    layer->dx = layer->dy;
    return STATUS_OK;
}

static Status create(Model *model, Layer *layer, Error *err) {
    const int C = model->tensors[layer->out].C;
    float *ones = malloc(sizeof *ones * (size_t)C);
    if (!ones)
        return error_set(err, STATUS_SYSTEM, "out of memory for a layer");
    for (int c = 0; c < C; c++)
        ones[c] = 1;
    const Add *add = layer->own; /* the arena is zeros */
    model->device->ops->memory->copy_in(model->device, model->stats + add->ones, ones, sizeof *ones * (size_t)C);
    model->device->ops->stream->sync(model->device);
    free(ones);
    return STATUS_OK;
}

/* y = a + b; y may be either. */
static void sum(const Walk *walk, const Layer *layer, const void *a, const void *b, void *y) {
    const Model *model = walk->model;
    const Add *add = layer->own;
    const TensorShape t = model->tensors[layer->out];
    const NormStatistics unit = {.scale = model->stats + add->ones, .shift = model->stats + add->zeros};
    model->device->ops->norm->apply(model->device, walk->rows * t.H * t.W, t.C, model->dtype, a, &unit, b, 0, y);
}

static void touch_forward(Trace *trace, const Layer *layer) {
    plan_touch(trace, layer->in);
    plan_touch(trace, layer->residual);
    plan_touch(trace, layer->out);
}

static void forward(const Walk *walk, const Layer *layer) {
    sum(walk, layer, walk_at(walk, layer->in), walk_at(walk, layer->residual), walk_at(walk, layer->out));
}

static void touch_backward(Trace *trace, const Layer *layer) {
    plan_touch_gradient(trace, layer->dy);
    plan_touch_gradient(trace, layer->dy2);
}

static void backward(const Walk *walk, const Layer *layer) {
    void *dy = walk_gradient_at(walk, layer->dy);
    if (layer->dy2 >= 0)
        sum(walk, layer, dy, walk_gradient_at(walk, layer->dy2), dy);
}

static const LayerKind kind = {.name = "sum",
                               .wire = wire,
                               .create = create,
                               .touch_forward = touch_forward,
                               .touch_backward = touch_backward,
                               .forward = forward,
                               .backward = backward};
