#include "trainer/evaluate/metrics/faithfulness.h"

#include <stdlib.h>

#include "kernels/buffers.h"

typedef struct Change {
    int32_t *predicted;              /* device [max_rows] */
    float *before, *after;           /* device [max_rows] */
    float *host_before, *host_after; /* [max_rows] */
} Change;

enum { CHANGE_BUFFERS = 3 };

static void list_buffers(Change *c, int64_t rows, Buffer list[CHANGE_BUFFERS]) {
    list[0] = (Buffer){(void **)&c->predicted, sizeof *c->predicted * (size_t)rows};
    list[1] = (Buffer){(void **)&c->before, sizeof *c->before * (size_t)rows};
    list[2] = (Buffer){(void **)&c->after, sizeof *c->after * (size_t)rows};
}

static Status open_change(const MetricRun *run, Change *c, Error *err) {
    Buffer list[CHANGE_BUFFERS];
    if (c) {
        c->host_before = calloc((size_t)run->max_rows, sizeof *c->host_before);
        c->host_after = calloc((size_t)run->max_rows, sizeof *c->host_after);
    }
    if (!c || !c->host_before || !c->host_after)
        return error_set(err, STATUS_SYSTEM, "out of memory for evaluation batches of %lld", (long long)run->max_rows);
    list_buffers(c, run->max_rows, list);
    return buffers_alloc(run->explainer->model->device, list, CHANGE_BUFFERS, err);
}

Status faithfulness_open(MetricRun *run, Error *err) {
    Change *c = run->own = calloc(1, sizeof *c);
    const Status status = open_change(run, c, err);
    if (status != STATUS_OK)
        faithfulness_close(run);
    return status;
}

void faithfulness_close(MetricRun *run) {
    Buffer list[CHANGE_BUFFERS];
    Change *c = run->own;
    if (!c)
        return;
    list_buffers(c, run->max_rows, list);
    buffers_free(run->explainer->model->device, list, CHANGE_BUFFERS);
    free(c->host_before);
    free(c->host_after);
    free(c);
    run->own = NULL;
}

/* x where it is positive, else 0; NaN stays, which fmax would hide. */
static double positive(double x) {
    return x < 0 ? 0 : x;
}

void faithfulness_add(MetricRun *run, const MetricBatch *batch) {
    Explainer *x = run->explainer;
    Device *d = x->model->device;
    const Ops *ops = d->ops;
    const int C = x->model->shape.classes;
    const size_t bytes = sizeof(float) * (size_t)batch->rows;
    Change *c = run->own;
    ops->classify->predict(d, batch->rows, C, batch->logits, c->predicted);
    ops->classify->probability(d, batch->rows, C, batch->logits, c->predicted, c->before);
    explain_classify(x, x->masked, batch->rows, batch->global_rows);
    ops->classify->probability(d, batch->rows, C, x->heads->logits, c->predicted, c->after);
    ops->memory->copy_out(d, c->host_before, c->before, bytes);
    ops->memory->copy_out(d, c->host_after, c->after, bytes);
    for (int64_t i = 0; i < batch->rows; i++) {
        const double o = c->host_before[i], p = c->host_after[i];
        run->sums[0] += positive(o - p) / o;
        run->sums[1] += p > o;
        run->sums[2] += positive(p - o) / o;
        run->sums[3] += o > p;
    }
}
