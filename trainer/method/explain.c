#include "trainer/method/explain.h"

ExplainOptions explain_options(const Config *config, const float mean[3], const float std[3]) {
    ExplainOptions options = {.method = config->explain.method,
                              .relu = config->explain.relu,
                              .bn = config->explain.bn,
                              .update_running_stats = config->explain.update_running_stats,
                              .target = config->explain.target,
                              .fill = config->explain.fill,
                              .rule = config->select.rule,
                              .stage = config->explain.layer,
                              .steps = (int)config->explain.steps,
                              .threshold = (float)config->explain.threshold};
    for (int c = 0; c < 3; c++)
        options.black[c] = -mean[c] / std[c];
    return options;
}

static size_t round64(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static Status allocate(Explainer *e, Error *err) {
    const Model *m = e->model;
    const size_t N = (size_t)e->max_rows, px = (size_t)m->shape.size * (size_t)m->shape.size;
    const int integrated = e->options.method == EXPLAIN_INTEGRATED;
    struct {
        void **at;
        size_t bytes;
    } parts[] = {
        {&e->masked, N * px * 3 * dtype_size(m->dtype)},
        {&e->accumulated, integrated ? N * px * 3 * dtype_size(m->dtype) : 0},
        {(void **)&e->constants, 6 * sizeof(float)},
        {(void **)&e->alpha, N * (size_t)e->channels * sizeof(float)},
        {(void **)&e->cam, N * (size_t)(e->h * e->w) * sizeof(float)},
        {(void **)&e->up, N * px * sizeof(float)},
        {(void **)&e->mask, N * px * sizeof(float)},
        {(void **)&e->masked_logits, N * (size_t)m->shape.classes * sizeof(float)},
        {(void **)&e->target, N * sizeof(int32_t)},
        {(void **)&e->accept, N * sizeof(int32_t)},
        {(void **)&e->moments, (size_t)m->sums_total * sizeof(double)},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        e->block_bytes += round64(parts[i].bytes);
    RETURN_IF(m->device->ops->memory->alloc(m->device, e->block_bytes, &e->block, err));
    char *at = e->block;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = at;
        at += round64(parts[i].bytes);
    }
    return STATUS_OK;
}

Status explainer_init(Explainer *e, const ExplainOptions *options, Model *model, Heads *heads, int64_t max_rows,
                      Error *err) {
    *e = (Explainer){.options = *options, .model = model, .heads = heads, .max_rows = max_rows, .layer = -1};
    e->h = e->w = model->shape.size;
    e->channels = 3;
    if (options->method == EXPLAIN_GRADCAM) {
        e->layer = model_explain_layer(model, options->stage);
        TensorShape t = model->tensors[model->layers[e->layer].out];
        e->h = t.H;
        e->w = t.W;
        e->channels = t.C;
    }
    const int fold = options->bn == EXPLAIN_BN_RUNNING;
    e->updates = !fold && options->update_running_stats;
    RETURN_IF(
        plan_init(&e->explain, model, PLAN_EXPLAIN, e->layer, fold && e->layer >= 0 ? e->layer : 0, max_rows, err));
    RETURN_IF(plan_init(&e->infer, model, PLAN_INFER, -1, fold ? model->layer_count : 0, max_rows, err));
    return allocate(e, err);
}

void explainer_free(Explainer *e) {
    if (!e->model)
        return;
    plan_free(&e->explain);
    plan_free(&e->infer);
    if (e->block)
        e->model->device->ops->memory->release(e->model->device, e->block, e->block_bytes);
    *e = (Explainer){0};
}

size_t explainer_arena_bytes(const Explainer *e) {
    return e->explain.bytes > e->infer.bytes ? e->explain.bytes : e->infer.bytes;
}

static size_t image_bytes(const Model *m) {
    return (size_t)m->shape.size * (size_t)m->shape.size * 3 * dtype_size(m->dtype);
}

static Walk make_walk(const Explainer *e, const Plan *plan, int64_t rows, int64_t global_rows) {
    const int batch = e->options.bn == EXPLAIN_BN_BATCH;
    return (Walk){.model = e->model,
                  .plan = plan,
                  .base = e->arena,
                  .rows = rows,
                  .global_rows = global_rows,
                  .norm = batch ? NORM_BATCH : NORM_RUNNING,
                  .update_running = e->updates};
}

/* Forward of the images themselves; their batch statistics are kept for explain_select. */
static void forward_images(Explainer *e, const Walk *walk, const void *images) {
    const Model *m = e->model;
    m->device->ops->memory->copy(m->device, walk_at(walk, 0), images, image_bytes(m) * (size_t)walk->rows);
    walk_forward(walk, e->heads->features);
    if (e->updates)
        walk_save_moments(m, e->moments);
}

/* The classes that are explained: the labels, or what the model made of the images in the last forward. */
static const int32_t *choose_targets(Explainer *e, int64_t rows, const int32_t *labels) {
    const Model *m = e->model;
    if (e->options.target != TARGET_PREDICTED)
        return labels;
    heads_classify(e->heads, rows);
    m->device->ops->classify->predict(m->device, rows, m->shape.classes, e->heads->logits, e->target);
    return e->target;
}

/* d logit[target] / d features. */
static void seed_backward(Explainer *e, int64_t rows, const int32_t *target) {
    const Model *m = e->model;
    m->device->ops->classify->onehot(m->device, rows, m->shape.classes, target, e->heads->dlogits);
    heads_classify_backward_data(e->heads, rows);
}

static void gradcam(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    forward_images(e, walk, images);
    seed_backward(e, walk->rows, choose_targets(e, walk->rows, labels));
    const void *dA = walk_backward_to(walk, e->heads->dfeatures, e->layer);
    ops->saliency->weights(m->device, walk->rows, e->h * e->w, e->channels, m->dtype, dA, e->alpha);
    ops->saliency->cam(m->device, walk->rows, e->h * e->w, e->channels, m->dtype,
                       walk_at(walk, m->layers[e->layer].out), e->alpha, e->options.relu, e->cam);
}

/* y = x*scale + shift on image channels, by the norm operator. */
static void affine(Explainer *e, int64_t rows, float scale, const void *x, const void *add, void *y) {
    const Model *m = e->model;
    const float host[6] = {scale, scale, scale, 0, 0, 0};
    m->device->ops->stream->sync(m->device);
    m->device->ops->memory->copy_in(m->device, e->constants, host, sizeof host);
    m->device->ops->norm->apply(m->device, rows * m->shape.size * m->shape.size, 3, m->dtype, x, e->constants,
                                e->constants + 3, add, 0, y);
    m->device->ops->stream->sync(m->device);
}

/* Signed sum over channels of the input gradient (Simonyan et al. 2014). */
static void input_gradient(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    forward_images(e, walk, images);
    seed_backward(e, walk->rows, choose_targets(e, walk->rows, labels));
    const void *dx = walk_backward(walk, e->heads->dfeatures, 0, 1, NULL);
    m->device->ops->saliency->channel_sum(m->device, walk->rows, m->shape.size * m->shape.size, 3, m->dtype, dx, NULL,
                                          e->options.relu, e->cam);
}

/* Signed sum over channels of image times the mean gradient on the straight path from the mean colour, midpoint rule
 * (integrated gradients, Sundararajan et al. 2017). All points explain the same classes. What is asked of the images
 * themselves, which are no point of the path, takes one more forward: their predicted classes, and the batch statistics
 * for the published code's pass over the originals, which explain_select accounts for. */
static void integrated_gradients(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    const int steps = e->options.steps;
    const int32_t *target = labels;
    if (e->updates || e->options.target == TARGET_PREDICTED) {
        Walk still = *walk;
        still.update_running = 0;
        forward_images(e, &still, images);
        target = choose_targets(e, walk->rows, labels);
    }
    for (int s = 0; s < steps; s++) {
        affine(e, walk->rows, ((float)s + 0.5f) / (float)steps, images, NULL, walk_at(walk, 0));
        walk_forward(walk, e->heads->features);
        seed_backward(e, walk->rows, target);
        const void *dx = walk_backward(walk, e->heads->dfeatures, 0, 1, NULL);
        affine(e, walk->rows, 1.0f / (float)steps, dx, s > 0 ? e->accumulated : NULL, e->accumulated);
    }
    m->device->ops->saliency->channel_sum(m->device, walk->rows, m->shape.size * m->shape.size, 3, m->dtype,
                                          e->accumulated, images, e->options.relu, e->cam);
}

void explain_saliency(Explainer *e, const void *images, const int32_t *labels, int64_t rows, int64_t global_rows) {
    const Model *m = e->model;
    Walk walk = make_walk(e, &e->explain, rows, global_rows);
    if (e->layer >= 0)
        gradcam(e, &walk, images, labels);
    else if (e->options.method == EXPLAIN_INTEGRATED)
        integrated_gradients(e, &walk, images, labels);
    else
        input_gradient(e, &walk, images, labels);
    m->device->ops->saliency->upsample(m->device, rows, e->h, e->w, m->shape.size, m->shape.size, e->cam, e->up);
}

void explain_mask(Explainer *e, const void *images, int64_t rows) {
    const Model *m = e->model;
    const int px = m->shape.size * m->shape.size;
    static const float zero[3] = {0, 0, 0};
    m->device->ops->saliency->mask(m->device, rows, px, e->up, e->options.threshold, e->mask);
    m->device->ops->saliency->apply(m->device, rows, px, m->dtype, images, e->mask,
                                    e->options.fill == FILL_BLACK ? e->options.black : zero, 0, e->masked);
}

void explain_classify(Explainer *e, const void *images, int64_t rows, int64_t global_rows) {
    const Model *m = e->model;
    Walk walk = make_walk(e, &e->infer, rows, global_rows);
    m->device->ops->memory->copy(m->device, walk_at(&walk, 0), images, image_bytes(m) * (size_t)rows);
    walk_forward(&walk, e->heads->features);
    heads_classify(e->heads, rows);
}

void explain_select(Explainer *e, const int32_t *labels, int64_t rows, int64_t global_rows) {
    Model *m = e->model;
    const Ops *ops = m->device->ops;
    const int C = m->shape.classes;
    explain_classify(e, e->masked, rows, global_rows);
    ops->memory->copy(m->device, e->masked_logits, e->heads->logits, sizeof(float) * (size_t)(rows * C));
    if (e->options.rule == SELECT_CORRECT) {
        ops->classify->predict(m->device, rows, C, e->masked_logits, e->target);
        ops->classify->equal(m->device, rows, e->target, labels, e->accept);
    } else { /* labels equal themselves */
        ops->classify->equal(m->device, rows, labels, labels, e->accept);
        if (e->options.rule == SELECT_NEVER)
            ops->memory->zero(m->device, e->accept, sizeof(int32_t) * (size_t)rows);
    }
    if (e->updates)
        walk_update_running(m, e->moments, m->bn_global ? global_rows : rows);
}
