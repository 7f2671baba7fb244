#include "trainer/model/walk.h"

static float *stat(const Model *model, const Layer *layer, int which) {
    return model->stats + layer->norm.stats + (int64_t)which * layer->norm.channels;
}
enum { STAT_MEAN, STAT_INVSTD, STAT_SCALE, STAT_SHIFT };

static const float *gamma_of(const Model *model, const Layer *layer) {
    return model->master + model->params[layer->first_span].offset;
}

static const float *beta_of(const Model *model, const Layer *layer) {
    return model->master + model->params[layer->first_span + 1].offset;
}

static int is_folded(const Walk *walk, int conv) {
    return conv < walk->plan->fold_before;
}

static int64_t conv_rows(const Walk *walk) {
    return walk->conv_rows ? walk->conv_rows : walk->rows;
}

/* Rows without data count nothing in a weight gradient, whatever was computed there before. */
static void clear_rows_without_data(const Walk *walk, int id) {
    const size_t row = plan_row_bytes(walk->model, id);
    const int64_t more = conv_rows(walk) - walk->rows;
    if (more > 0)
        walk->model->device->ops->memory->zero(
            walk->model->device, (char *)walk_at(walk, id) + (size_t)walk->rows * row, (size_t)more * row);
}

void *walk_at(const Walk *walk, int id) {
    return id < 0 ? NULL : walk->base + walk->plan->offset[id];
}

static void *gradient_at(const Walk *walk, int buffer) {
    return buffer < 0 ? NULL : walk_at(walk, walk->model->tensor_count + buffer);
}

void walk_prepare_running(Model *model, int fold) {
    const Ops *ops = model->device->ops;
    for (int i = 0; i < model->layer_count; i++) {
        const Layer *layer = &model->layers[i];
        if (layer->kind != LAYER_NORM)
            continue;
        const float *running = model->running + layer->norm.running;
        ops->norm->from_running(model->device, layer->norm.channels, model->bn_eps, running,
                                running + layer->norm.channels, gamma_of(model, layer), beta_of(model, layer),
                                stat(model, layer, STAT_MEAN), stat(model, layer, STAT_INVSTD),
                                stat(model, layer, STAT_SCALE), stat(model, layer, STAT_SHIFT));
        if (!fold)
            continue;
        const Layer *conv = &model->layers[layer->norm.conv];
        const Span *span = &model->params[conv->first_span];
        ops->norm->fold(model->device, layer->norm.channels, span->count / span->shape[0], model->master + span->offset,
                        stat(model, layer, STAT_SCALE), model->dtype,
                        (char *)model->folded + (size_t)conv->conv.folded * dtype_size(model->dtype));
    }
}

static void conv_forward(const Walk *walk, int index) {
    Model *model = walk->model;
    const Layer *layer = &model->layers[index];
    const Ops *ops = model->device->ops;
    if (!is_folded(walk, index)) {
        ops->conv->forward(model->device, layer->conv.plan, conv_rows(walk), walk_at(walk, layer->in),
                           model_weights(model, layer->first_span), NULL, walk_at(walk, layer->out));
        return;
    }
    const Layer *norm = &model->layers[layer->conv.norm];
    ConvEpilogue epilogue = {
        .bias = stat(model, norm, STAT_SHIFT), .add = norm->norm.residual >= 0, .relu = norm->norm.relu};
    ops->conv->forward(model->device, layer->conv.plan, conv_rows(walk), walk_at(walk, layer->in),
                       (char *)model->folded + (size_t)layer->conv.folded * dtype_size(model->dtype), &epilogue,
                       walk_at(walk, norm->out));
}

static void compute_moments(const Walk *walk, const Layer *layer) {
    Model *model = walk->model;
    const Ops *ops = model->device->ops;
    ops->norm->sums(model->device, walk->rows * layer->norm.positions, layer->norm.channels, model->dtype,
                    walk_at(walk, layer->in), model->sums + layer->norm.sums);
    int64_t n = 2 * layer->norm.channels;
    if (layer->norm.packed_with >= 0) {
        const Layer *other = &model->layers[layer->norm.packed_with];
        ops->norm->sums(model->device, walk->rows * other->norm.positions, other->norm.channels, model->dtype,
                        walk_at(walk, other->in), model->sums + other->norm.sums);
        n += 2 * other->norm.channels;
    }
    if (model->bn_global)
        model->comm->collectives->all_reduce(model->comm, model->sums + layer->norm.sums, n, DTYPE_F64);
}

static double positions(const Walk *walk, const Layer *layer) {
    return (double)(walk->model->bn_global ? walk->global_rows : walk->rows) * layer->norm.positions;
}

static void norm_forward(const Walk *walk, const Layer *layer) {
    Model *model = walk->model;
    const Ops *ops = model->device->ops;
    const int C = layer->norm.channels;
    if (walk->norm == NORM_BATCH) {
        if (layer->norm.moments_done_by < 0)
            compute_moments(walk, layer);
        float *running = walk->update_running ? model->running + layer->norm.running : NULL;
        ops->norm->finalize(model->device, C, model->sums + layer->norm.sums, positions(walk, layer), model->bn_eps,
                            model->bn_momentum, gamma_of(model, layer), beta_of(model, layer),
                            stat(model, layer, STAT_MEAN), stat(model, layer, STAT_INVSTD),
                            stat(model, layer, STAT_SCALE), stat(model, layer, STAT_SHIFT), running,
                            running ? running + C : NULL);
    }
    ops->norm->apply(model->device, walk->rows * layer->norm.positions, C, model->dtype, walk_at(walk, layer->in),
                     stat(model, layer, STAT_SCALE), stat(model, layer, STAT_SHIFT),
                     walk_at(walk, layer->norm.residual), layer->norm.relu, walk_at(walk, layer->out));
}

void walk_forward(const Walk *walk, float *features) {
    Model *model = walk->model;
    for (int i = 0; i < model->layer_count; i++) {
        const Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_CONV)
            conv_forward(walk, i);
        else if (!is_folded(walk, layer->norm.conv))
            norm_forward(walk, layer);
    }
    TensorShape out = model->tensors[model->output];
    model->device->ops->pool->forward(model->device, walk->rows, out.H * out.W, out.C, model->dtype,
                                      walk_at(walk, model->output), features);
}

static void norm_backward(const Walk *walk, const Layer *layer, int weight_gradients) {
    Model *model = walk->model;
    const Ops *ops = model->device->ops;
    const int C = layer->norm.channels;
    const int64_t M = walk->rows * layer->norm.positions;
    double *sums = walk->norm == NORM_BATCH || weight_gradients ? model->sums + model->sums_total : NULL;
    void *dz = gradient_at(walk, layer->dy);
    const void *y = layer->norm.residual >= 0 ? walk_at(walk, layer->out) : NULL;
    ops->norm->backward_sums(model->device, M, C, model->dtype, dz, gradient_at(walk, layer->norm.dy2), y,
                             walk_at(walk, layer->in), stat(model, layer, STAT_MEAN), stat(model, layer, STAT_INVSTD),
                             stat(model, layer, STAT_SCALE), stat(model, layer, STAT_SHIFT), layer->norm.relu, sums);
    if (weight_gradients)
        ops->norm->backward_params(model->device, C, sums, model->gradient + model->params[layer->first_span].offset,
                                   model->gradient + model->params[layer->first_span + 1].offset);
    if (walk->norm == NORM_BATCH && model->bn_global)
        model->comm->collectives->all_reduce(model->comm, sums, 2 * C, DTYPE_F64);
    ops->norm->backward_apply(model->device, M, C, model->dtype, dz, walk_at(walk, layer->in),
                              stat(model, layer, STAT_MEAN), stat(model, layer, STAT_INVSTD),
                              stat(model, layer, STAT_SCALE), walk->norm == NORM_BATCH ? sums : NULL,
                              positions(walk, layer), gradient_at(walk, layer->dx));
}

static void conv_backward(const Walk *walk, const Layer *layer, int weight_gradients, int data_gradient) {
    Model *model = walk->model;
    const Ops *ops = model->device->ops;
    const void *dy = gradient_at(walk, layer->dy);
    if (weight_gradients) {
        clear_rows_without_data(walk, layer->in);
        clear_rows_without_data(walk, model->tensor_count + layer->dy);
        ops->conv->backward_weight(model->device, layer->conv.plan, conv_rows(walk), walk_at(walk, layer->in), dy,
                                   model->gradient + model->params[layer->first_span].offset);
    }
    if (data_gradient)
        ops->conv->backward_data(model->device, layer->conv.plan, conv_rows(walk), dy,
                                 model_weights(model, layer->first_span), gradient_at(walk, layer->dx));
}

static void pool_backward(const Walk *walk, const float *dfeatures) {
    Model *model = walk->model;
    TensorShape out = model->tensors[model->output];
    model->device->ops->pool->backward(model->device, walk->rows, out.H * out.W, out.C, model->dtype, dfeatures,
                                       gradient_at(walk, model->output_dx));
}

void *walk_backward(const Walk *walk, const float *dfeatures, int weight_gradients, int input_gradient,
                    Buckets *buckets) {
    Model *model = walk->model;
    pool_backward(walk, dfeatures);
    for (int i = model->layer_count - 1; i >= 0; i--) {
        const Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_NORM)
            norm_backward(walk, layer, weight_gradients);
        else
            conv_backward(walk, layer, weight_gradients, layer->conv.needs_dx || input_gradient);
        if (buckets)
            buckets_ready(buckets, model->params[layer->first_span].offset);
    }
    return input_gradient ? gradient_at(walk, model->layers[0].dx) : NULL;
}

const void *walk_backward_to(const Walk *walk, const float *dfeatures, int conv) {
    Model *model = walk->model;
    const int stop = model->layers[conv].conv.norm;
    pool_backward(walk, dfeatures);
    for (int i = model->layer_count - 1; i >= stop; i--) {
        const Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_NORM)
            norm_backward(walk, layer, 0);
        else
            conv_backward(walk, layer, 0, 1);
    }
    return gradient_at(walk, model->layers[stop].dx);
}

void walk_save_moments(const Model *model, double *saved) {
    model->device->ops->memory->copy(model->device, saved, model->sums, sizeof(double) * (size_t)model->sums_total);
}

void walk_update_running(Model *model, const double *saved, int64_t rows) {
    const Ops *ops = model->device->ops;
    for (int i = 0; i < model->layer_count; i++) {
        const Layer *layer = &model->layers[i];
        if (layer->kind != LAYER_NORM)
            continue;
        float *running = model->running + layer->norm.running;
        ops->norm->finalize(model->device, layer->norm.channels, saved + layer->norm.sums,
                            (double)rows * layer->norm.positions, model->bn_eps, model->bn_momentum,
                            gamma_of(model, layer), beta_of(model, layer), stat(model, layer, STAT_MEAN),
                            stat(model, layer, STAT_INVSTD), stat(model, layer, STAT_SCALE),
                            stat(model, layer, STAT_SHIFT), running, running + layer->norm.channels);
    }
}
