#include "trainer/model/heads.h"

#include "kernels/buffers.h"
#include "trainer/model/build.h"

static int add_dense(Model *model, const char *weight, const char *bias, int64_t in, int64_t out) {
    const int first = model_add_span(model, weight, SPAN_MATRIX, START_DENSE, 2, (int64_t[]){out, in});
    model_add_span(model, bias, SPAN_VECTOR, START_DENSE, 1, (int64_t[]){out});
    return first;
}

void heads_describe(Model *model) {
    const int64_t F = model->features;
    model->head_first = model->total;
    model->head_span = add_dense(model, "head.0.weight", "head.0.bias", F, F);
    add_dense(model, "head.2.weight", "head.2.bias", F, model->shape.projection);
    model->classifier_first = model->total;
    model->classifier_span = add_dense(model, "classifier.fc.weight", "classifier.fc.bias", F, model->shape.classes);
}

enum { HEADS_BUFFERS = 12 };

static void list_buffers(Heads *heads, Buffer list[HEADS_BUFFERS]) {
    const Model *m = heads->model;
    const int64_t F = m->features, D = m->shape.projection, C = m->shape.classes;
    const struct {
        float **at;
        int64_t columns;
    } all[HEADS_BUFFERS] = {
        {&heads->features, F},   {&heads->hidden, F},  {&heads->projected, D}, {&heads->z, D},
        {&heads->inv_norm, 1},   {&heads->logits, C},  {&heads->dlogits, C},   {&heads->dz, D},
        {&heads->dprojected, D}, {&heads->dhidden, F}, {&heads->dfeatures, F}, {&heads->losses, 1},
    };
    for (int i = 0; i < HEADS_BUFFERS; i++)
        list[i] = (Buffer){(void **)all[i].at, sizeof(float) * (size_t)(all[i].columns * heads->max_rows)};
}

Status heads_init(Heads *heads, Model *model, int64_t max_rows, Error *err) {
    Buffer list[HEADS_BUFFERS];
    *heads = (Heads){.model = model, .max_rows = max_rows};
    list_buffers(heads, list);
    return buffers_alloc(model->device, list, HEADS_BUFFERS, err);
}

void heads_free(Heads *heads) {
    Buffer list[HEADS_BUFFERS];
    if (!heads->model)
        return;
    list_buffers(heads, list);
    buffers_free(heads->model->device, list, HEADS_BUFFERS);
    *heads = (Heads){0};
}

static float *weight(const Heads *heads, int span) {
    return heads->model->master + heads->model->params[span].offset;
}

static float *gradient(const Heads *heads, int span) {
    return heads->model->gradient + heads->model->params[span].offset;
}

void heads_project(Heads *heads, int64_t rows) {
    const Model *m = heads->model;
    const Ops *ops = m->device->ops;
    const int F = m->features, D = m->shape.projection, s = m->head_span;
    ops->dense->forward(m->device, rows, F, F, heads->features, weight(heads, s), weight(heads, s + 1), 1,
                        heads->hidden);
    ops->dense->forward(m->device, rows, F, D, heads->hidden, weight(heads, s + 2), weight(heads, s + 3), 0,
                        heads->projected);
    ops->unit->forward(m->device, rows, D, heads->projected, heads->z, heads->inv_norm);
}

void heads_project_backward(Heads *heads, int64_t rows) {
    const Model *m = heads->model;
    const Ops *ops = m->device->ops;
    const int F = m->features, D = m->shape.projection, s = m->head_span;
    ops->unit->backward(m->device, rows, D, heads->z, heads->inv_norm, heads->dz, heads->dprojected);
    ops->dense->backward_weight(m->device, rows, F, D, heads->hidden, heads->dprojected, gradient(heads, s + 2),
                                gradient(heads, s + 3));
    ops->dense->backward_data(m->device, rows, F, D, heads->dprojected, weight(heads, s + 2), heads->dhidden);
    ops->dense->relu_backward(m->device, rows * F, heads->hidden, heads->dhidden);
    ops->dense->backward_weight(m->device, rows, F, F, heads->features, heads->dhidden, gradient(heads, s),
                                gradient(heads, s + 1));
    ops->dense->backward_data(m->device, rows, F, F, heads->dhidden, weight(heads, s), heads->dfeatures);
}

void heads_classify(Heads *heads, int64_t rows) {
    const Model *m = heads->model;
    const int s = m->classifier_span;
    m->device->ops->dense->forward(m->device, rows, m->features, m->shape.classes, heads->features, weight(heads, s),
                                   weight(heads, s + 1), 0, heads->logits);
}

void heads_classify_backward_data(Heads *heads, int64_t rows) {
    const Model *m = heads->model;
    m->device->ops->dense->backward_data(m->device, rows, m->features, m->shape.classes, heads->dlogits,
                                         weight(heads, m->classifier_span), heads->dfeatures);
}

void heads_classify_backward_weights(Heads *heads, int64_t rows) {
    const Model *m = heads->model;
    const int s = m->classifier_span;
    m->device->ops->dense->backward_weight(m->device, rows, m->features, m->shape.classes, heads->features,
                                           heads->dlogits, gradient(heads, s), gradient(heads, s + 1));
}
