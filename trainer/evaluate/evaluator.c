#include "trainer/evaluate/evaluator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/buffers.h"

enum { EVALUATOR_BUFFERS = 5 };

static void list_buffers(Evaluator *e, Buffer list[EVALUATOR_BUFFERS]) {
    const Model *m = e->model;
    const size_t N = (size_t)e->max_rows;
    const Buffer all[EVALUATOR_BUFFERS] = {
        {&e->images, N * plan_row_bytes(m, 0)},     {(void **)&e->logits, N * (size_t)m->shape.classes * sizeof(float)},
        {(void **)&e->labels, N * sizeof(int32_t)}, {(void **)&e->rank, N * sizeof(int32_t)},
        {(void **)&e->arena, e->arena_bytes},
    };
    memcpy(list, all, sizeof all);
}

static Status allocate(Evaluator *e, Error *err) {
    const size_t N = (size_t)e->max_rows;
    Buffer list[EVALUATOR_BUFFERS];
    list_buffers(e, list);
    RETURN_IF(buffers_alloc(e->model->device, list, EVALUATOR_BUFFERS, err));
    e->explainer.arena = e->arena;
    e->host_rank = malloc(sizeof(int32_t) * N);
    e->host_likelihood = malloc(sizeof(float) * N);
    if (!e->host_rank || !e->host_likelihood)
        return error_set(err, STATUS_SYSTEM, "out of memory for evaluation batches of %zu", N);
    return STATUS_OK;
}

static bool measures(const Evaluator *e, int m) {
    return e->metrics >> m & 1;
}

static Status open_metrics(Evaluator *e, int64_t images, Error *err) {
    for (int m = 0; m < METRIC_COUNT; m++) {
        const Metric *metric = metric_at(m);
        if (!measures(e, m))
            continue;
        e->runs[m] =
            (MetricRun){.metric = metric, .explainer = &e->explainer, .images = images, .max_rows = e->max_rows};
        e->needs_saliency |= metric->needs_saliency;
        if (metric->open)
            RETURN_IF(metric->open(&e->runs[m], err));
    }
    return STATUS_OK;
}

ExplainOptions evaluator_explanation(const Config *config, const float mean[3], const float std[3]) {
    ExplainOptions options = explain_options(config, mean, std);
    options.method = EXPLAIN_GRADCAM;
    options.bn = EXPLAIN_BN_RUNNING;
    options.relu = false;
    options.update_running_stats = false;
    options.target = TARGET_PREDICTED;
    options.fill = FILL_MEAN;
    return options;
}

static Status init_parts(Evaluator *e, int64_t images, const ExplainOptions *explanation, const float mean[3],
                         const float std[3], Error *err) {
    RETURN_IF(heads_init(&e->heads, e->model, e->max_rows, err));
    RETURN_IF(explainer_init(&e->explainer, explanation, e->model, &e->heads, e->max_rows, err));
    e->arena_bytes = explainer_arena_bytes(&e->explainer);
    RETURN_IF(feed_init(&e->feed, e->model->device, NULL, e->max_rows, e->model->shape.size, mean, std, err));
    RETURN_IF(allocate(e, err));
    return open_metrics(e, images, err);
}

Status evaluator_init(Evaluator *e, const Config *config, Model *model, int64_t images, MetricSet metrics,
                      const ExplainOptions *explanation, const float mean[3], const float std[3], Error *err) {
    *e = (Evaluator){
        .config = config, .model = model, .comm = model->comm, .batch = config->eval.batch, .metrics = metrics};
    if (e->batch > images)
        e->batch = images > 0 ? images : 1;
    e->max_rows = (e->batch + e->comm->size - 1) / e->comm->size;
    Status status = init_parts(e, images, explanation, mean, std, err);
    if (status != STATUS_OK)
        evaluator_free(e);
    return status;
}

void evaluator_free(Evaluator *e) {
    if (!e->model)
        return;
    for (int m = 0; m < METRIC_COUNT; m++)
        if (e->runs[m].metric && e->runs[m].metric->close)
            e->runs[m].metric->close(&e->runs[m]);
    Buffer list[EVALUATOR_BUFFERS];
    list_buffers(e, list);
    buffers_free(e->model->device, list, EVALUATOR_BUFFERS);
    explainer_free(&e->explainer);
    heads_free(&e->heads);
    feed_free(&e->feed);
    free(e->host_rank);
    free(e->host_likelihood);
    *e = (Evaluator){0};
}

/* Images spread over the batch, explained once more: no collective stands in a pass with running statistics, so this
 * rank may do it alone. */
static void fill_sheet(Evaluator *e, const Batch *batch) {
    const Model *m = e->model;
    const MemoryOps *memory = m->device->ops->memory;
    Explainer *x = &e->explainer;
    const int64_t n = batch->rows < SHEET_ROWS ? batch->rows : SHEET_ROWS;
    const size_t px = (size_t)m->shape.size * (size_t)m->shape.size, bytes = plan_row_bytes(m, 0);
    int32_t labels[SHEET_ROWS];
    e->sheet->rows = (int)n;
    for (int64_t i = 0; i < n; i++) {
        const size_t from = (size_t)(i * batch->rows / n);
        memory->copy(m->device, (char *)x->masked + (size_t)i * bytes, (const char *)e->images + from * bytes, bytes);
        memcpy(e->sheet->images + (size_t)i * px * 3, batch->images + from * px * 3, px * 3);
        labels[i] = batch->labels[from];
    }
    memory->copy_in(m->device, e->labels, labels, sizeof *labels * (size_t)n);
    explain_saliency(x, x->masked, e->labels, n, n);
    memory->copy_out(m->device, e->sheet->maps, x->up, sizeof(float) * (size_t)n * px);
}

/* What all metrics need of a loaded batch: its views, and what the model makes of them. Counts images whose outputs are
 * not finite. */
static MetricBatch classify(Evaluator *e, const Batch *batch, double *nonfinite) {
    const Model *m = e->model;
    Device *d = m->device;
    const Ops *ops = d->ops;
    const int64_t rows = batch->rows;
    const int C = m->shape.classes;
    explain_classify(&e->explainer, e->images, rows, batch->global_rows);
    ops->memory->copy(d, e->logits, e->heads.logits, sizeof(float) * (size_t)(rows * C));
    ops->classify->rank(d, rows, C, e->logits, e->labels, e->rank);
    ops->classify->loss(d, rows, C, e->logits, e->labels, 1.0f, e->heads.losses, NULL);
    ops->memory->copy_out(d, e->host_rank, e->rank, sizeof(int32_t) * (size_t)rows);
    ops->memory->copy_out(d, e->host_likelihood, e->heads.losses, sizeof(float) * (size_t)rows);
    for (int64_t i = 0; i < rows; i++)
        *nonfinite += !isfinite(e->host_likelihood[i]);
    return (MetricBatch){.rows = rows,
                         .global_rows = batch->global_rows,
                         .global_first = batch->global_first,
                         .images = e->images,
                         .labels = e->labels,
                         .logits = e->logits,
                         .rank = e->host_rank,
                         .likelihood = e->host_likelihood};
}

static void measure(Evaluator *e, MetricBatch *batch) {
    if (e->needs_saliency) {
        explain_saliency(&e->explainer, e->images, e->labels, batch->rows, batch->global_rows);
        batch->saliency = e->explainer.up;
    }
    for (int m = 0; m < METRIC_COUNT; m++)
        if (measures(e, m))
            metric_at(m)->add(&e->runs[m], batch);
}

/* What ranks add up at the end, beside what a metric gathers by itself. */
typedef struct Sums {
    double count, nonfinite, of_metrics[METRIC_COUNT][METRIC_NUMBERS];
} Sums;

static Status run_batches(Evaluator *e, Loader *loader, Sums *sums, Error *err) {
    const Ops *ops = e->model->device->ops;
    for (;;) {
        Batch batch;
        int done = 0;
        Status status = feed_next(&e->feed, loader, &batch, &done, err);
        RETURN_IF(comm_agree(e->comm, status, err));
        if (done)
            return STATUS_OK;
        feed_load(&e->feed, &batch);
        ops->memory->copy_in(e->model->device, e->labels, batch.labels, sizeof(int32_t) * (size_t)batch.rows);
        feed_view(&e->feed, e->config, VIEW_STANDARD, 0, 0, batch.rows, e->model->dtype, e->images);
        feed_prefetch(&e->feed, loader);
        MetricBatch seen = classify(e, &batch, &sums->nonfinite);
        sums->count += (double)batch.rows;
        measure(e, &seen);
        if (e->sheet && e->comm->rank == 0 && batch.global_first == 0 && batch.rows > 0)
            fill_sheet(e, &batch);
        feed_done(&e->feed, loader, &batch); /* the ranks came from the device, so its labels have been read */
    }
}

static Status finish(Evaluator *e, Sums *sums, EvalResult *result, Error *err) {
    for (int m = 0; m < METRIC_COUNT; m++)
        memcpy(sums->of_metrics[m], e->runs[m].sums, sizeof sums->of_metrics[m]);
    comm_host_sum_f64(e->comm, (double *)sums, (int)(sizeof *sums / sizeof(double)));
    *result = (EvalResult){.count = (int64_t)sums->count, .nonfinite = (int64_t)sums->nonfinite, .metrics = e->metrics};
    for (int m = 0; m < METRIC_COUNT; m++) {
        MetricRun *run = &e->runs[m];
        memcpy(run->sums, sums->of_metrics[m], sizeof run->sums);
        if (measures(e, m))
            RETURN_IF(comm_agree(
                e->comm, run->metric->finish(run, sums->count > 0 ? sums->count : 1, result->values[m], err), err));
    }
    return STATUS_OK;
}

Status evaluator_run(Evaluator *e, const Dataset *dataset, Split split, const int64_t *ids, int64_t n,
                     EvalResult *result, Error *err) {
    LoaderConfig config = {.dataset = dataset,
                           .split = split,
                           .layout = {.ids = ids, .n = n, .block = 64, .window = 1},
                           .mode = LOADER_STREAM,
                           .batch = e->batch,
                           .rank = e->comm->rank,
                           .size = e->comm->size,
                           .prefetch = 3,
                           .cache_bytes = 64 << 20,
                           .device = e->model->device};
    Loader *loader = NULL;
    Sums sums = {0};
    for (int m = 0; m < METRIC_COUNT; m++)
        memset(e->runs[m].sums, 0, sizeof e->runs[m].sums);
    Status status = loader_open(&loader, &config, err);
    if (status == STATUS_OK)
        status = loader_start_epoch(loader, 1, 0, err);
    status = comm_agree(e->comm, status, err);
    if (status == STATUS_OK) {
        walk_prepare_running(e->model, true);
        status = run_batches(e, loader, &sums, err);
    }
    feed_drop(&e->feed, loader);
    if (loader)
        loader_close(loader);
    RETURN_IF(status);
    return finish(e, &sums, result, err);
}
