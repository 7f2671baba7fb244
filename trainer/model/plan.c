#include "trainer/model/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct Life {
    int id;
    int first, last; /* steps, inclusive; first > last: never touched */
    size_t bytes, offset;
} Life;

typedef struct Tracer {
    Life *lives; /* by id */
    int *alias;  /* id -> id whose memory it shares */
} Tracer;

static void touch(Tracer *tracer, int id, int step) {
    if (id < 0)
        return;
    Life *life = &tracer->lives[tracer->alias[id]];
    if (step < life->first)
        life->first = step;
    if (step > life->last)
        life->last = step;
}

static TensorShape buffer_shape(const Model *model, int buffer) {
    if (buffer == model->output_dx)
        return model->tensors[model->output];
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].dx == buffer)
            return model->tensors[model->layers[i].in];
    return (TensorShape){0, 0, 0};
}

size_t plan_row_bytes(const Model *model, int id) {
    TensorShape t = id < model->tensor_count ? model->tensors[id] : buffer_shape(model, id - model->tensor_count);
    return (size_t)t.H * (size_t)t.W * (size_t)t.C * dtype_size(model->dtype);
}

static int gradient_id(const Model *model, int buffer) {
    return buffer < 0 ? -1 : model->tensor_count + buffer;
}

static int trace_forward(Tracer *tracer, const Model *model, int fold_before) {
    int step = 0;
    touch(tracer, 0, step);
    for (int i = 0; i < model->layer_count; i++, step++) {
        const Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_CONV && i < fold_before) {
            touch(tracer, layer->in, step);
            touch(tracer, model->layers[layer->conv.norm].out, step);
            touch(tracer, model->layers[layer->conv.norm].norm.residual, step);
        } else if (layer->kind == LAYER_CONV) {
            touch(tracer, layer->in, step);
            touch(tracer, layer->out, step);
        } else if (layer->norm.conv >= fold_before) {
            touch(tracer, layer->in, step);
            touch(tracer, layer->out, step);
            touch(tracer, layer->norm.residual, step);
        }
    }
    touch(tracer, model->output, step);
    return step + 1;
}

static void trace_backward(Tracer *tracer, const Model *model, int step, PlanKind kind, int keep_from) {
    touch(tracer, model->output, step); /* the pool's backward */
    touch(tracer, gradient_id(model, model->output_dx), step++);
    int stop = keep_from >= 0 ? model->layers[keep_from].conv.norm : -1;
    for (int i = model->layer_count - 1; i >= 0; i--, step++) {
        const Layer *layer = &model->layers[i];
        touch(tracer, gradient_id(model, layer->dy), step);
        if (layer->kind == LAYER_NORM) {
            touch(tracer, gradient_id(model, layer->norm.dy2), step);
            touch(tracer, layer->in, step);
            touch(tracer, layer->out, step);
            touch(tracer, gradient_id(model, layer->dx), step);
            if (i == stop)
                return;
        } else {
            if (kind == PLAN_TRAIN)
                touch(tracer, layer->in, step);
            if (layer->conv.needs_dx || kind == PLAN_EXPLAIN)
                touch(tracer, gradient_id(model, layer->dx), step);
        }
    }
}

static int larger_first(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->id - y->id;
}

/* First fit: the lowest offset where nothing alive at the same time lies. `placed` is kept sorted by offset. */
static size_t place(Life *life, Life **placed, int count) {
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        const Life *other = placed[i];
        if (other->first > life->last || other->last < life->first)
            continue;
        if (other->offset >= offset + life->bytes)
            break;
        if (other->offset + other->bytes > offset)
            offset = other->offset + other->bytes;
    }
    life->offset = offset;
    int at = count;
    while (at > 0 && placed[at - 1]->offset > offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = life;
    return offset + life->bytes;
}

Status plan_init(Plan *plan, const Model *model, PlanKind kind, int keep_from, int fold_before, int64_t max_rows,
                 Error *err) {
    const int ids = model->tensor_count + model->buffer_count;
    *plan = (Plan){.kind = kind, .keep_from = keep_from, .fold_before = fold_before, .max_rows = max_rows};
    Tracer tracer = {.lives = calloc((size_t)ids, sizeof(Life)), .alias = calloc((size_t)ids, sizeof(int))};
    Life **sorted = calloc((size_t)ids, sizeof *sorted), **placed = calloc((size_t)ids, sizeof *placed);
    plan->offset = calloc((size_t)ids, sizeof *plan->offset);
    Status status = STATUS_OK;
    if (!tracer.lives || !tracer.alias || !sorted || !placed || !plan->offset) {
        status = error_set(err, STATUS_SYSTEM, "out of memory while planning activations");
        goto done;
    }
    for (int id = 0; id < ids; id++) {
        size_t bytes = plan_row_bytes(model, id) * (size_t)max_rows;
        tracer.lives[id] = (Life){.id = id, .first = INT32_MAX, .last = -1, .bytes = (bytes + 63) / 64 * 64};
        tracer.alias[id] = id;
    }
    for (int i = 0; i < model->layer_count; i++) { /* a folded add writes over its residual */
        const Layer *layer = &model->layers[i];
        if (layer->kind == LAYER_NORM && layer->norm.conv < fold_before && layer->norm.residual >= 0)
            tracer.alias[layer->out] = tracer.alias[layer->norm.residual];
    }
    int step = trace_forward(&tracer, model, fold_before);
    if (kind != PLAN_INFER)
        trace_backward(&tracer, model, step, kind, keep_from);
    int used = 0;
    for (int id = 0; id < ids; id++)
        if (tracer.alias[id] == id && tracer.lives[id].last >= 0)
            sorted[used++] = &tracer.lives[id];
    qsort(sorted, (size_t)used, sizeof *sorted, larger_first);
    for (int i = 0; i < used; i++) {
        size_t end = place(sorted[i], placed, i);
        plan->bytes = end > plan->bytes ? end : plan->bytes;
    }
    for (int id = 0; id < ids; id++) {
        const Life *life = &tracer.lives[tracer.alias[id]];
        plan->offset[id] = life->last >= 0 ? life->offset : SIZE_MAX;
    }
done:
    free(tracer.lives);
    free(tracer.alias);
    free(sorted);
    free(placed);
    if (status != STATUS_OK)
        plan_free(plan);
    return status;
}

void plan_free(Plan *plan) {
    free(plan->offset);
    *plan = (Plan){0};
}
