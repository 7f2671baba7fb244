#include "trainer/method/explainers/explainers.h"

#define DECLARE(SYMBOL, symbol, name) extern const ExplainerKind explainer_##symbol;
EXPLAIN_METHODS(DECLARE)

/* The table of explainers. */
#define ENTRY(SYMBOL, symbol, name) [EXPLAIN_##SYMBOL] = &explainer_##symbol,
static const ExplainerKind *const kinds[EXPLAIN_METHOD_COUNT] = {EXPLAIN_METHODS(ENTRY)};

const ExplainerKind *explainer_kind(int method) {
    return kinds[method];
}

void explainer_forward(Explainer *e, const Walk *walk, const void *images) {
    const Model *m = e->model;
    m->device->ops->memory->copy(m->device, walk_at(walk, 0), images, plan_row_bytes(m, 0) * (size_t)walk->rows);
    walk_forward(walk, e->heads->features);
    if (e->updates)
        walk_save_moments(m, e->moments);
}

const int32_t *explainer_targets(Explainer *e, int64_t rows, const int32_t *labels) {
    const Model *m = e->model;
    if (e->options.target != TARGET_PREDICTED)
        return labels;
    heads_classify(e->heads, rows);
    m->device->ops->classify->predict(m->device, rows, m->shape.classes, e->heads->logits, e->target);
    return e->target;
}

void explainer_seed(Explainer *e, int64_t rows, const int32_t *target) {
    const Model *m = e->model;
    m->device->ops->classify->onehot(m->device, rows, m->shape.classes, target, e->heads->dlogits);
    heads_classify_backward_data(e->heads, rows);
}
