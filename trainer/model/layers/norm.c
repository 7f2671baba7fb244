/* Batch norm over the positions of all rows and, with global scope, all ranks (Ioffe & Szegedy 2015); then an addition
 * and ReLU, if asked for. Right after a convolution it is folded into that one in passes with running statistics
 * (folding.h). */
#include <stdio.h>

#include "trainer/model/layers/folding.h"

typedef struct Norm {
    int channels, positions; /* C, H*W */
    bool relu;
    int joined;        /* a layer whose moments are all-reduced together with this one's, computed here; -1: none */
    bool joins;        /* another layer computes the moments of this one */
    const Layer *pair; /* the convolution that it can be folded into; NULL: none */
    int64_t stats;     /* offset into the statistics arena: mean, invstd, scale, shift [4C] */
    int64_t sums;      /* offset into the sums arena, [2C] f64 */
    int64_t running;   /* offset into the running arena: mean [C], var [C] */
} Norm;

static const LayerKind kind;

static const Norm *norm_of(const Layer *layer) {
    return layer->own;
}

int model_add_norm(Model *model, const char *name, int in, int residual, bool relu) {
    const TensorShape t = model->tensors[in];
    Layer *layer = model_add_layer(model, &kind, in, residual, t, sizeof(Norm));
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    model_add_span(model, full, SPAN_VECTOR, START_ONES, 1, (int64_t[]){t.C});
    snprintf(full, sizeof full, "%s.bias", name);
    model_add_span(model, full, SPAN_VECTOR, START_ZEROS, 1, (int64_t[]){t.C});
    *(Norm *)layer->own = (Norm){.channels = t.C,
                                 .positions = t.H * t.W,
                                 .relu = relu,
                                 .joined = -1,
                                 .stats = model->stats_total,
                                 .sums = model->sums_total,
                                 .running = model_add_running(model, name, t.C)};
    model->stats_total += 4 * t.C;
    model->sums_total += 2 * t.C;
    return layer->out;
}

void model_join_moments(Model *model, int first, int second) {
    Layer *other = model_producer(model, second);
    ((Norm *)model_producer(model, first)->own)->joined = (int)(other - model->layers);
    ((Norm *)other->own)->joins = true;
}

static Status wire(Model *model, Layer *layer, bool own, Error *err) {
    if (!own)
        return error_set(err, STATUS_INTERNAL, "%s: the gradient that norm %s would change is needed by others",
                         model->shape.encoder, model->params[layer->first_span].name);
    layer->dx = layer->residual >= 0 ? model_add_gradient(model, layer->in) : layer->dy;
    ((Norm *)layer->own)->pair = conv_pair(model, layer);
    return STATUS_OK;
}

/* ---- statistics ---- */

static NormStatistics statistics_of(const Model *model, const Layer *layer) {
    const int C = norm_of(layer)->channels;
    float *at = model->stats + norm_of(layer)->stats;
    return (NormStatistics){.mean = at, .invstd = at + C, .scale = at + 2 * C, .shift = at + 3 * C};
}

/* `running`: with the running statistics, to be read or updated. */
static NormParameters parameters_of(const Model *model, const Layer *layer, bool running) {
    const Norm *norm = norm_of(layer);
    float *at = running ? model->running + norm->running : NULL;
    return (NormParameters){.gamma = model->master + model->params[layer->first_span].offset,
                            .beta = model->master + model->params[layer->first_span + 1].offset,
                            .running_mean = at,
                            .running_var = at ? at + norm->channels : NULL,
                            .eps = model->bn_eps,
                            .momentum = model->bn_momentum};
}

FoldedNorm norm_folded(const Model *model, const Layer *layer) {
    return (FoldedNorm){.shift = statistics_of(model, layer).shift,
                        .residual = layer->residual,
                        .out = layer->out,
                        .relu = norm_of(layer)->relu};
}

static void prepare_running(Model *model, const Layer *layer, bool fold) {
    const Norm *norm = norm_of(layer);
    const NormParameters parameters = parameters_of(model, layer, true);
    const NormStatistics stats = statistics_of(model, layer);
    model->device->ops->norm->from_running(model->device, norm->channels, &parameters, &stats);
    if (fold && norm->pair)
        conv_fold(model, norm->pair, stats.scale);
}

/* From sums over so many positions; `running`: the running statistics take a step towards them. */
static void finalize(const Model *model, const Layer *layer, const double *sums, double count, bool running) {
    const NormParameters parameters = parameters_of(model, layer, running);
    const NormStatistics stats = statistics_of(model, layer);
    model->device->ops->norm->finalize(model->device, norm_of(layer)->channels, sums, count, &parameters, &stats);
}

static void update_running(Model *model, const Layer *layer, const double *saved, int64_t rows) {
    const Norm *norm = norm_of(layer);
    finalize(model, layer, saved + norm->sums, (double)rows * norm->positions, true);
}

static void sum_moments(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Norm *norm = norm_of(layer);
    model->device->ops->norm->sums(model->device, walk->rows * norm->positions, norm->channels, model->dtype,
                                   walk_at(walk, layer->in), model->sums + norm->sums);
}

static void compute_moments(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Norm *norm = norm_of(layer);
    int64_t n = 2 * norm->channels;
    sum_moments(walk, layer);
    if (norm->joined >= 0) {
        const Layer *other = &model->layers[norm->joined];
        sum_moments(walk, other);
        n += 2 * norm_of(other)->channels; /* its sums are the next ones */
    }
    if (model->bn_global)
        model->comm->collectives->all_reduce(model->comm, model->sums + norm->sums, n, DTYPE_F64);
}

/* Positions that the statistics are taken over. */
static double positions(const Walk *walk, const Layer *layer) {
    return (double)(walk->model->bn_global ? walk->global_rows : walk->rows) * norm_of(layer)->positions;
}

/* ---- forward ---- */

static void touch_forward(Trace *trace, const Layer *layer) {
    if (is_folded(trace->plan, norm_of(layer)->pair))
        return;
    plan_touch(trace, layer->in);
    plan_touch(trace, layer->out);
    plan_touch(trace, layer->residual);
}

static void forward(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Norm *norm = norm_of(layer);
    if (is_folded(walk->plan, norm->pair))
        return;
    if (walk->norm == NORM_BATCH) {
        if (!norm->joins)
            compute_moments(walk, layer);
        finalize(model, layer, model->sums + norm->sums, positions(walk, layer), walk->update_running);
    }
    const NormStatistics stats = statistics_of(model, layer);
    model->device->ops->norm->apply(model->device, walk->rows * norm->positions, norm->channels, model->dtype,
                                    walk_at(walk, layer->in), &stats, walk_at(walk, layer->residual), norm->relu,
                                    walk_at(walk, layer->out));
}

/* ---- backward ---- */

static void touch_backward(Trace *trace, const Layer *layer) {
    plan_touch_gradient(trace, layer->dy);
    plan_touch_gradient(trace, layer->dy2);
    plan_touch(trace, layer->in);
    plan_touch(trace, layer->out);
    plan_touch_gradient(trace, layer->dx);
}

/* dy becomes the gradient before the ReLU, which is that of the residual, too. */
static void backward(const Walk *walk, const Layer *layer) {
    const Model *model = walk->model;
    const Ops *ops = model->device->ops;
    const int C = norm_of(layer)->channels;
    const int64_t M = walk->rows * norm_of(layer)->positions;
    const NormStatistics stats = statistics_of(model, layer);
    const bool batch = walk->norm == NORM_BATCH, train = walk->plan->kind == PLAN_TRAIN;
    double *sums = batch || train ? model->sums + model->sums_total : NULL;
    void *dz = walk_gradient_at(walk, layer->dy);
    const void *y = layer->residual >= 0 ? walk_at(walk, layer->out) : NULL;
    ops->norm->backward_sums(model->device, M, C, model->dtype, dz, walk_gradient_at(walk, layer->dy2), y,
                             walk_at(walk, layer->in), &stats, norm_of(layer)->relu, sums);
    if (train)
        ops->norm->backward_params(model->device, C, sums, model->gradient + model->params[layer->first_span].offset,
                                   model->gradient + model->params[layer->first_span + 1].offset);
    if (batch && model->bn_global)
        model->comm->collectives->all_reduce(model->comm, sums, 2 * C, DTYPE_F64);
    ops->norm->backward_apply(model->device, M, C, model->dtype, dz, walk_at(walk, layer->in), &stats,
                              batch ? sums : NULL, positions(walk, layer), walk_gradient_at(walk, layer->dx));
}

static const LayerKind kind = {.name = "norm",
                               .wire = wire,
                               .touch_forward = touch_forward,
                               .touch_backward = touch_backward,
                               .forward = forward,
                               .backward = backward,
                               .prepare_running = prepare_running,
                               .update_running = update_running};
