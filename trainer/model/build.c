#include "trainer/model/build.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/round.h"

/* `list` with room for one element more; capacities are powers of two, so no length needs to be kept beside the count.
 */
static void *grown(const Model *model, void *list, int count, size_t each) {
    if ((count & (count - 1)) != 0)
        return list;
    void *more = realloc(list, (count ? 2 * (size_t)count : 1) * each);
    if (!more)
        device_fatal(model->device, STATUS_SYSTEM, "out of memory for the layer list");
    return more;
}

static int add_tensor(Model *model, TensorShape shape) {
    model->tensors = grown(model, model->tensors, model->tensor_count, sizeof *model->tensors);
    model->tensors[model->tensor_count] = shape;
    return model->tensor_count++;
}

int model_add_input(Model *model) {
    return add_tensor(model, (TensorShape){model->shape.size, model->shape.size, 3});
}

Layer *model_add_layer(Model *model, const LayerKind *kind, int in, int residual, TensorShape out, size_t own_bytes) {
    model->layers = grown(model, model->layers, model->layer_count, sizeof *model->layers);
    Layer *layer = &model->layers[model->layer_count++];
    *layer = (Layer){.kind = kind,
                     .in = in,
                     .residual = residual,
                     .out = add_tensor(model, out),
                     .dy = -1,
                     .dy2 = -1,
                     .dx = -1,
                     .first_span = model->param_count,
                     .own = calloc(1, own_bytes)};
    if (!layer->own)
        device_fatal(model->device, STATUS_SYSTEM, "out of memory for the layer list");
    return layer;
}

int model_add_gradient(Model *model, int tensor) {
    model->gradients = grown(model, model->gradients, model->gradient_count, sizeof *model->gradients);
    model->gradients[model->gradient_count] = model->tensors[tensor];
    return model->gradient_count++;
}

int model_add_span(Model *model, const char *name, SpanKind kind, SpanStart start, int rank, const int64_t *shape) {
    model->params = grown(model, model->params, model->param_count, sizeof *model->params);
    Span *span = &model->params[model->param_count];
    *span = (Span){.kind = kind, .start = start, .rank = rank, .offset = model->total, .count = 1};
    snprintf(span->name, sizeof span->name, "%s", name);
    for (int i = 0; i < rank; i++) {
        span->shape[i] = shape[i];
        span->count *= shape[i];
    }
    model->total += (int64_t)round_up((size_t)span->count, SPAN_ALIGN);
    return model->param_count++;
}

int64_t model_add_running(Model *model, const char *name, int channels) {
    static const char *const parts[] = {"running_mean", "running_var"};
    static const SpanStart starts[] = {START_ZEROS, START_ONES};
    const int64_t first = model->running_total;
    for (int i = 0; i < 2; i++) {
        model->buffers = grown(model, model->buffers, model->buffer_count_named, sizeof *model->buffers);
        Span *span = &model->buffers[model->buffer_count_named++];
        *span = (Span){.kind = SPAN_VECTOR,
                       .start = starts[i],
                       .rank = 1,
                       .shape = {channels},
                       .offset = model->running_total,
                       .count = channels};
        snprintf(span->name, sizeof span->name, "%s.%s", name, parts[i]);
        model->running_total += channels;
    }
    return first;
}

void model_add_stage(Model *model, int tensor) {
    if (model->stage_count == MODEL_STAGES)
        device_fatal(model->device, STATUS_INTERNAL, "an encoder has more than %d stages", MODEL_STAGES);
    model->stage[model->stage_count++] = tensor;
}

Layer *model_producer(const Model *model, int tensor) {
    return tensor > 0 ? &model->layers[tensor - 1] : NULL; /* each layer makes one tensor */
}

int model_readers(const Model *model, int tensor, int *first) {
    int count = 0;
    for (int i = model->layer_count - 1; i >= 0; i--)
        if (model->layers[i].in == tensor || model->layers[i].residual == tensor) {
            count++;
            if (first)
                *first = i;
        }
    return count;
}

/* ---- gradients ---- */

/* Gives a layer one more gradient of its output. */
static Status receive(const Model *model, Layer *layer, int buffer, bool exclusive, int *own, int *other, Error *err) {
    if (exclusive && *own < 0)
        *own = buffer;
    else if (*other < 0)
        *other = buffer;
    else
        return error_set(err, STATUS_INTERNAL, "%s: more than two layers read the output of layer %d, which is a %s",
                         model->shape.encoder, (int)(layer - model->layers), layer->kind->name);
    return STATUS_OK;
}

/* What the layers after it, wired already, leave for layer i. A layer hands the gradient of `in` on in dx and that of
 * `residual` in dy; where that is one buffer, nobody may change it. */
static Status wire_layer(Model *model, int i, Error *err) {
    Layer *layer = &model->layers[i];
    int own = -1, other = -1;
    if (layer->out == model->output)
        RETURN_IF(receive(model, layer, model->output_dx, true, &own, &other, err));
    for (int j = i + 1; j < model->layer_count; j++) {
        const Layer *reader = &model->layers[j];
        const bool exclusive = reader->residual < 0 || reader->dx != reader->dy;
        if (reader->in == layer->out)
            RETURN_IF(receive(model, layer, reader->dx, exclusive, &own, &other, err));
        if (reader->residual == layer->out)
            RETURN_IF(receive(model, layer, reader->dy, exclusive, &own, &other, err));
    }
    layer->dy = own >= 0 ? own : other;
    layer->dy2 = own >= 0 ? other : -1;
    return layer->kind->wire(model, layer, own >= 0, err);
}

Status model_wire(Model *model, int output, Error *err) {
    model->output = output;
    model->features = model->tensors[output].C;
    model->output_dx = model_add_gradient(model, output);
    for (int i = model->layer_count - 1; i >= 0; i--)
        RETURN_IF(wire_layer(model, i, err));
    return STATUS_OK;
}

void model_free_lists(Model *model) {
    for (int i = 0; i < model->layer_count; i++)
        free(model->layers[i].own);
    free(model->layers);
    free(model->tensors);
    free(model->gradients);
    free(model->params);
    free(model->buffers);
}
