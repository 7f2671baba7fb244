/* Convolution. Folded with the norm after it (folding.h), it leaves that norm's output. */
#include <stdio.h>

#include "kernels/base/round.h"
#include "trainer/model/layers/folding.h"

typedef struct Conv {
    ConvGeometry geometry;
    ConvPlan *plan;
    const Layer *norm; /* that is folded into it; NULL: none */
    int64_t folded;    /* offset of its folded weights */
} Conv;

static const LayerKind kind;

static const Conv *conv_of(const Layer *layer) {
    return layer->own;
}

int model_add_conv(Model *model, const char *name, int in, int K, int R, int stride) {
    const TensorShape t = model->tensors[in];
    const ConvGeometry g = {.H = t.H, .W = t.W, .C = t.C, .K = K, .R = R, .stride = stride, .pad = R / 2};
    const TensorShape out = {conv_out(t.H, R, stride, g.pad), conv_out(t.W, R, stride, g.pad), K};
    Layer *layer = model_add_layer(model, &kind, in, -1, out, sizeof(Conv));
    layer->dx = model_add_gradient(model, in);
    *(Conv *)layer->own = (Conv){.geometry = g, .folded = model->folded_total};
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    const int span = model_add_span(model, full, SPAN_CONV, START_CONV, 4, (int64_t[]){K, t.C, R, R});
    model->folded_total += (int64_t)round_up((size_t)model->params[span].count, SPAN_ALIGN);
    return layer->out;
}

const ConvGeometry *layer_conv_geometry(const Layer *layer) {
    return layer->kind == &kind ? &conv_of(layer)->geometry : NULL;
}

static Status wire(Model *model, Layer *layer, bool own, Error *err) {
    (void)own; /* dy is only read */
    if (layer->dy2 >= 0)
        return error_set(err, STATUS_INTERNAL, "%s: two layers read the output of convolution %s", model->shape.encoder,
                         model->params[layer->first_span].name);
    return STATUS_OK;
}

static Status create(Model *model, Layer *layer, Error *err) {
    Conv *conv = layer->own;
    return model->device->ops->conv->create(model->device, &conv->geometry, model->dtype, &conv->plan, err);
}

static void destroy(Model *model, Layer *layer) {
    Conv *conv = layer->own;
    if (conv->plan)
        model->device->ops->conv->destroy(model->device, conv->plan);
}

/* ---- folding ---- */

const Layer *conv_pair(const Model *model, Layer *norm) {
    Layer *layer = model_producer(model, norm->in);
    if (!layer || layer->kind != &kind || model_readers(model, norm->in, NULL) != 1)
        return NULL;
    ((Conv *)layer->own)->norm = norm;
    return layer;
}

static void *folded_weights(const Model *model, const Layer *layer) {
    return (char *)model->folded + (size_t)conv_of(layer)->folded * dtype_size(model->dtype);
}

void conv_fold(Model *model, const Layer *layer, const float *scale) {
    const Span *span = &model->params[layer->first_span];
    model->device->ops->norm->fold(model->device, conv_of(layer)->geometry.K, span->count / span->shape[0],
                                   model->master + span->offset, scale, model->dtype, folded_weights(model, layer));
}

static bool runs_folded(const Plan *plan, const Layer *layer) {
    return conv_of(layer)->norm && is_folded(plan, layer);
}

/* ---- forward ---- */

static void touch_forward(Trace *trace, const Layer *layer) {
    plan_touch(trace, layer->in);
    if (!runs_folded(trace->plan, layer)) {
        plan_touch(trace, layer->out);
        return;
    }
    const FoldedNorm norm = norm_folded(trace->model, conv_of(layer)->norm);
    if (norm.residual >= 0)
        plan_share(trace, norm.out, norm.residual); /* the sum is written over the residual */
    plan_touch(trace, norm.out);
    plan_touch(trace, norm.residual);
}

static void forward(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Conv *conv = conv_of(layer);
    const void *x = walk_at(walk, layer->in);
    if (!runs_folded(walk->plan, layer)) {
        model->device->ops->conv->forward(model->device, conv->plan, walk_conv_rows(walk), x,
                                          model_weights(model, layer->first_span), NULL, walk_at(walk, layer->out));
        return;
    }
    const FoldedNorm norm = norm_folded(model, conv->norm);
    const ConvEpilogue epilogue = {.bias = norm.shift, .add = norm.residual >= 0, .relu = norm.relu};
    model->device->ops->conv->forward(model->device, conv->plan, walk_conv_rows(walk), x, folded_weights(model, layer),
                                      &epilogue, walk_at(walk, norm.out));
}

/* ---- backward ---- */

/* The gradient of the input image is made for explanations alone. */
static bool makes_dx(const Plan *plan, const Layer *layer) {
    return layer->in != 0 || plan->kind == PLAN_EXPLAIN;
}

static void touch_backward(Trace *trace, const Layer *layer) {
    plan_touch_gradient(trace, layer->dy);
    if (trace->plan->kind == PLAN_TRAIN)
        plan_touch(trace, layer->in);
    if (makes_dx(trace->plan, layer))
        plan_touch_gradient(trace, layer->dx);
}

/* Rows without data count nothing in a weight gradient, whatever was computed there before. */
static void clear_rows_without_data(const Walk *walk, int id) {
    const size_t row = plan_row_bytes(walk->model, id);
    const int64_t more = walk_conv_rows(walk) - walk->rows;
    if (more > 0)
        walk->model->device->ops->memory->zero(
            walk->model->device, (char *)walk_at(walk, id) + (size_t)walk->rows * row, (size_t)more * row);
}

static void backward(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Ops *ops = model->device->ops;
    const Conv *conv = conv_of(layer);
    const void *dy = walk_gradient_at(walk, layer->dy);
    if (walk->plan->kind == PLAN_TRAIN) {
        clear_rows_without_data(walk, layer->in);
        clear_rows_without_data(walk, model->tensor_count + layer->dy);
        ops->conv->backward_weight(model->device, conv->plan, walk_conv_rows(walk), walk_at(walk, layer->in), dy,
                                   model->gradient + model->params[layer->first_span].offset);
    }
    if (makes_dx(walk->plan, layer))
        ops->conv->backward_data(model->device, conv->plan, walk_conv_rows(walk), dy,
                                 model_weights(model, layer->first_span), walk_gradient_at(walk, layer->dx));
}

static const LayerKind kind = {.name = "convolution",
                               .wire = wire,
                               .create = create,
                               .destroy = destroy,
                               .touch_forward = touch_forward,
                               .touch_backward = touch_backward,
                               .forward = forward,
                               .backward = backward};
