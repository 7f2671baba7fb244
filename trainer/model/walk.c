#include "trainer/model/walk.h"

#include "trainer/model/build.h"

void *walk_at(const Walk *walk, int id) {
    return id < 0 ? NULL : walk->base + walk->plan->offset[id];
}

void *walk_gradient_at(const Walk *walk, int buffer) {
    return buffer < 0 ? NULL : walk_at(walk, walk->model->tensor_count + buffer);
}

int64_t walk_conv_rows(const Walk *walk) {
    return walk->conv_rows ? walk->conv_rows : walk->rows;
}

void walk_prepare_running(Model *model, bool fold) {
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind->prepare_running)
            model->layers[i].kind->prepare_running(model, &model->layers[i], fold);
}

void walk_forward(const Walk *walk, float *features) {
    Model *model = walk->model;
    for (int i = 0; i < model->layer_count; i++)
        model->layers[i].kind->forward(walk, &model->layers[i]);
    const TensorShape out = model->tensors[model->output];
    model->device->ops->pool->forward(model->device, walk->rows, out.H * out.W, out.C, model->dtype,
                                      walk_at(walk, model->output), features);
}

/* From the pool down to layer `last`. */
static void backward(const Walk *walk, const float *dfeatures, int last, Buckets *buckets) {
    Model *model = walk->model;
    const TensorShape out = model->tensors[model->output];
    model->device->ops->pool->backward(model->device, walk->rows, out.H * out.W, out.C, model->dtype, dfeatures,
                                       walk_gradient_at(walk, model->output_dx));
    for (int i = model->layer_count - 1; i >= last; i--) {
        const Layer *layer = &model->layers[i];
        layer->kind->backward(walk, layer);
        if (buckets)
            buckets_ready(buckets, model->params[layer->first_span].offset);
    }
}

void walk_backward(const Walk *walk, const float *dfeatures, Buckets *buckets) {
    backward(walk, dfeatures, 0, buckets);
}

const void *walk_backward_to_tensor(const Walk *walk, const float *dfeatures) {
    int reader = 0;
    model_readers(walk->model, walk->plan->tensor, &reader);
    backward(walk, dfeatures, reader, NULL);
    return walk_gradient_at(walk, walk->model->layers[reader].dx);
}

void walk_save_moments(const Model *model, double *saved) {
    model->device->ops->memory->copy(model->device, saved, model->sums, sizeof(double) * (size_t)model->sums_total);
}

void walk_update_running(Model *model, const double *saved, int64_t rows) {
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind->update_running)
            model->layers[i].kind->update_running(model, &model->layers[i], saved, rows);
}
