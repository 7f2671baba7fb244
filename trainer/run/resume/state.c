#include "trainer/run/resume/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Status capture(const Model *model, const float *arena, const char *folder, const Span *span,
                      CheckpointTensor *tensor, Error *err) {
    *tensor = (CheckpointTensor){.rank = span->rank};
    snprintf(tensor->name, sizeof tensor->name, "%s/%s", folder, span->name);
    memcpy(tensor->shape, span->shape, sizeof tensor->shape);
    tensor->data = malloc(sizeof(float) * (size_t)span->count);
    if (!tensor->data)
        return error_set(err, STATUS_SYSTEM, "out of memory copying %s for a checkpoint", tensor->name);
    model_read_span(model, arena, span, tensor->data);
    return STATUS_OK;
}

Status state_capture(const Model *model, const Optimiser *optimiser, CheckpointTensor **tensors, int *count,
                     Error *err) {
    const int total = (1 + OPTIMISER_SLOTS) * model->param_count + model->buffer_count_named;
    CheckpointTensor *list = calloc((size_t)total, sizeof *list);
    if (!list)
        return error_set(err, STATUS_SYSTEM, "out of memory for a checkpoint of %d tensors", total);
    int n = 0;
    Status status = STATUS_OK;
    for (int i = 0; i < model->param_count && status == STATUS_OK; i++)
        status = capture(model, model->master, "model", &model->params[i], &list[n++], err);
    for (int i = 0; i < model->buffer_count_named && status == STATUS_OK; i++)
        status = capture(model, model->running, "model", &model->buffers[i], &list[n++], err);
    for (int s = 0; s < OPTIMISER_SLOTS && optimiser->slots[s]; s++)
        for (int i = 0; i < model->param_count && status == STATUS_OK; i++)
            status = capture(model, optimiser->slots[s], optimiser->kind->slots[s], &model->params[i], &list[n++], err);
    if (status != STATUS_OK) {
        state_free(list, n);
        return status;
    }
    *tensors = list;
    *count = n;
    return STATUS_OK;
}

void state_free(CheckpointTensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        free(tensors[i].data);
    free(tensors);
}

static Status restore(Model *model, float *arena, const char *folder, const Span *span, const CheckpointFile *file,
                      Error *err) {
    char name[192];
    snprintf(name, sizeof name, "%s/%s", folder, span->name);
    const CheckpointTensor *tensor = checkpoint_find(file, name);
    if (!tensor)
        return error_set(err, STATUS_DATA, "checkpoint has no %s; was it made with another model?", name);
    if (tensor->rank != span->rank || memcmp(tensor->shape, span->shape, sizeof(int64_t) * (size_t)span->rank) != 0)
        return error_set(err, STATUS_DATA,
                         "checkpoint tensor %s has another shape than this model; check model.* and data.classes",
                         name);
    model_write_span(model, arena, span, tensor->data);
    return STATUS_OK;
}

Status state_restore(Model *model, const Optimiser *optimiser, const CheckpointFile *file, Error *err) {
    for (int i = 0; i < model->param_count; i++)
        RETURN_IF(restore(model, model->master, "model", &model->params[i], file, err));
    for (int i = 0; i < model->buffer_count_named; i++)
        RETURN_IF(restore(model, model->running, "model", &model->buffers[i], file, err));
    for (int s = 0; optimiser && s < OPTIMISER_SLOTS && optimiser->slots[s]; s++)
        for (int i = 0; i < model->param_count; i++)
            RETURN_IF(restore(model, optimiser->slots[s], optimiser->kind->slots[s], &model->params[i], file, err));
    model_sync_low(model);
    return STATUS_OK;
}

void state_shape(const CheckpointMeta *meta, ModelShape *shape) {
    *shape = (ModelShape){.width = (int)meta->width,
                          .classes = (int)meta->classes,
                          .projection = (int)meta->projection,
                          .size = (int)meta->image_size};
    snprintf(shape->encoder, sizeof shape->encoder, "%.15s", meta->encoder);
}
