#include "trainer/model/plan.h"

#include <stdlib.h>

#include "kernels/base/round.h"
#include "trainer/model/build.h"

typedef struct Life {
    int id;
    int first, last; /* steps, inclusive; first > last: never touched */
    size_t bytes, offset;
} Life;

static void touch(Trace *trace, int id) {
    Life *life = &trace->lives[trace->shares[id]];
    if (trace->step < life->first)
        life->first = trace->step;
    if (trace->step > life->last)
        life->last = trace->step;
}

void plan_touch(Trace *trace, int tensor) {
    if (tensor >= 0)
        touch(trace, tensor);
}

void plan_touch_gradient(Trace *trace, int buffer) {
    if (buffer >= 0)
        touch(trace, trace->model->tensor_count + buffer);
}

void plan_share(Trace *trace, int tensor, int other) {
    trace->shares[tensor] = trace->shares[other];
}

size_t plan_row_bytes(const Model *model, int id) {
    const TensorShape t = id < model->tensor_count ? model->tensors[id] : model->gradients[id - model->tensor_count];
    return (size_t)t.H * (size_t)t.W * (size_t)t.C * dtype_size(model->dtype);
}

static void trace_forward(Trace *trace) {
    const Model *model = trace->model;
    plan_touch(trace, 0);
    for (int i = 0; i < model->layer_count; i++, trace->step++)
        model->layers[i].kind->touch_forward(trace, &model->layers[i]);
    plan_touch(trace, model->output);
    trace->step++;
}

static void trace_backward(Trace *trace) {
    const Model *model = trace->model;
    int last = 0;
    if (trace->plan->kind == PLAN_EXPLAIN)
        model_readers(model, trace->plan->tensor, &last);
    plan_touch(trace, model->output); /* the pool's backward */
    plan_touch_gradient(trace, model->output_dx);
    for (int i = model->layer_count - 1; i >= last; i--) {
        trace->step++;
        model->layers[i].kind->touch_backward(trace, &model->layers[i]);
    }
    if (trace->plan->kind == PLAN_EXPLAIN && trace->plan->tensor > 0)
        plan_touch(trace, trace->plan->tensor); /* values are explained along with their gradient */
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

static Status lay_out(Plan *plan, const Model *model, Error *err) {
    const int ids = model->tensor_count + model->gradient_count;
    Trace trace = {.model = model,
                   .plan = plan,
                   .lives = calloc((size_t)ids, sizeof(Life)),
                   .shares = calloc((size_t)ids, sizeof(int))};
    Life **sorted = calloc((size_t)ids, sizeof *sorted), **placed = calloc((size_t)ids, sizeof *placed);
    plan->offset = calloc((size_t)ids, sizeof *plan->offset);
    Status status = STATUS_OK;
    if (!trace.lives || !trace.shares || !sorted || !placed || !plan->offset) {
        status = error_set(err, STATUS_SYSTEM, "out of memory while planning activations");
        goto done;
    }
    for (int id = 0; id < ids; id++) {
        size_t bytes = plan_row_bytes(model, id) * (size_t)plan->max_rows;
        trace.lives[id] = (Life){.id = id, .first = INT32_MAX, .last = -1, .bytes = round_up(bytes, 64)};
        trace.shares[id] = id;
    }
    trace_forward(&trace);
    if (plan->kind != PLAN_INFER)
        trace_backward(&trace);
    int used = 0;
    for (int id = 0; id < ids; id++)
        if (trace.shares[id] == id && trace.lives[id].last >= 0)
            sorted[used++] = &trace.lives[id];
    qsort(sorted, (size_t)used, sizeof *sorted, larger_first);
    for (int i = 0; i < used; i++) {
        size_t end = place(sorted[i], placed, i);
        plan->bytes = end > plan->bytes ? end : plan->bytes;
    }
    for (int id = 0; id < ids; id++) {
        const Life *life = &trace.lives[trace.shares[id]];
        plan->offset[id] = life->last >= 0 ? life->offset : SIZE_MAX;
    }
done:
    free(trace.lives);
    free(trace.shares);
    free(sorted);
    free(placed);
    if (status != STATUS_OK)
        plan_free(plan);
    return status;
}

Status plan_init_train(Plan *plan, const Model *model, int64_t max_rows, Error *err) {
    *plan = (Plan){.kind = PLAN_TRAIN, .max_rows = max_rows};
    return lay_out(plan, model, err);
}

Status plan_init_explain(Plan *plan, const Model *model, int tensor, bool fold, int64_t max_rows, Error *err) {
    *plan = (Plan){.kind = PLAN_EXPLAIN, .tensor = tensor, .fold_before = fold ? tensor : 0, .max_rows = max_rows};
    return lay_out(plan, model, err);
}

Status plan_init_infer(Plan *plan, const Model *model, bool fold, int64_t max_rows, Error *err) {
    *plan = (Plan){.kind = PLAN_INFER, .fold_before = fold ? model->tensor_count : 0, .max_rows = max_rows};
    return lay_out(plan, model, err);
}

void plan_free(Plan *plan) {
    free(plan->offset);
    *plan = (Plan){0};
}
