#include "trainer/method/explain.h"

#include <string.h>

#include "kernels/buffers.h"
#include "trainer/method/explainers/explainers.h"

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

enum { EXPLAINER_BUFFERS = 9 };

static void list_buffers(Explainer *e, Buffer list[EXPLAINER_BUFFERS]) {
    const Model *m = e->model;
    const size_t N = (size_t)e->max_rows, px = (size_t)m->shape.size * (size_t)m->shape.size;
    const Buffer all[EXPLAINER_BUFFERS] = {
        {&e->masked, N * plan_row_bytes(m, 0)},
        {&e->own, e->kind->own_bytes ? e->kind->own_bytes(e) : 0},
        {(void **)&e->cam, N * (size_t)(e->h * e->w) * sizeof(float)},
        {(void **)&e->up, N * px * sizeof(float)},
        {(void **)&e->mask, N * px * sizeof(float)},
        {(void **)&e->masked_logits, N * (size_t)m->shape.classes * sizeof(float)},
        {(void **)&e->target, N * sizeof(int32_t)},
        {(void **)&e->accept, N * sizeof(int32_t)},
        {(void **)&e->moments, (size_t)m->sums_total * sizeof(double)},
    };
    memcpy(list, all, sizeof all);
}

static Status init_parts(Explainer *e, Error *err) {
    Model *model = e->model;
    const ExplainOptions *options = &e->options;
    Buffer list[EXPLAINER_BUFFERS];
    e->h = e->w = model->shape.size;
    e->channels = 3;
    if (e->kind->at_layer) {
        RETURN_IF(model_explain_tensor(model, options->stage, &e->tensor, err));
        TensorShape t = model->tensors[e->tensor];
        e->h = t.H;
        e->w = t.W;
        e->channels = t.C;
    }
    const int fold = options->bn == EXPLAIN_BN_RUNNING;
    e->updates = !fold && options->update_running_stats;
    RETURN_IF(plan_init_explain(&e->explain, model, e->tensor, fold, e->max_rows, err));
    RETURN_IF(plan_init_infer(&e->infer, model, fold, e->max_rows, err));
    list_buffers(e, list);
    return buffers_alloc(model->device, list, EXPLAINER_BUFFERS, err);
}

Status explainer_init(Explainer *e, const ExplainOptions *options, Model *model, Heads *heads, int64_t max_rows,
                      Error *err) {
    *e = (Explainer){.options = *options,
                     .kind = explainer_kind(options->method),
                     .model = model,
                     .heads = heads,
                     .max_rows = max_rows};
    const Status status = init_parts(e, err);
    if (status != STATUS_OK)
        explainer_free(e);
    return status;
}

void explainer_free(Explainer *e) {
    if (!e->model)
        return;
    plan_free(&e->explain);
    plan_free(&e->infer);
    Buffer list[EXPLAINER_BUFFERS];
    list_buffers(e, list);
    buffers_free(e->model->device, list, EXPLAINER_BUFFERS);
    *e = (Explainer){0};
}

size_t explainer_arena_bytes(const Explainer *e) {
    return e->explain.bytes > e->infer.bytes ? e->explain.bytes : e->infer.bytes;
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

void explain_saliency(Explainer *e, const void *images, const int32_t *labels, int64_t rows, int64_t global_rows) {
    const Model *m = e->model;
    Walk walk = make_walk(e, &e->explain, rows, global_rows);
    e->kind->saliency(e, &walk, images, labels);
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
    m->device->ops->memory->copy(m->device, walk_at(&walk, 0), images, plan_row_bytes(m, 0) * (size_t)rows);
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
