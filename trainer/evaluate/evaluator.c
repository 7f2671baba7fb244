#include "trainer/evaluate/evaluator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Sums {
    double count, nonfinite, top1, top5, nll;
    Faithfulness top, soft;
} Sums;
enum { SUMS = sizeof(Sums) / sizeof(double) };

static size_t round64(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static Status allocate(Evaluator *e, Error *err) {
    const Model *m = e->model;
    const size_t N = (size_t)e->max_rows, side = (size_t)m->shape.size;
    struct {
        void **at;
        size_t bytes;
    } parts[] = {
        {&e->images, N * side * side * 3 * dtype_size(m->dtype)},
        {(void **)&e->labels, N * sizeof(int32_t)},
        {(void **)&e->predicted, N * sizeof(int32_t)},
        {(void **)&e->rank, N * sizeof(int32_t)},
        {(void **)&e->before, N * sizeof(float)},
        {(void **)&e->after, N * sizeof(float)},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        e->block_bytes += round64(parts[i].bytes);
    RETURN_IF(m->device->ops->memory->alloc(m->device, e->block_bytes, &e->block, err));
    char *at = e->block;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = at;
        at += round64(parts[i].bytes);
    }
    e->host_f = malloc(sizeof(float) * N);
    e->host_g = malloc(sizeof(float) * N);
    e->host_i = malloc(sizeof(int32_t) * N);
    if (!e->host_f || !e->host_g || !e->host_i)
        return error_set(err, STATUS_SYSTEM, "out of memory for evaluation batches of %zu", N);
    return STATUS_OK;
}

static Status init_parts(Evaluator *e, const float mean[3], const float std[3], Error *err) {
    /* The published evaluation explains the predicted class with running statistics, by the signed map. */
    ExplainOptions options = explain_options(e->config, mean, std);
    options.method = EXPLAIN_GRADCAM;
    options.bn = EXPLAIN_BN_RUNNING;
    options.relu = 0;
    options.update_running_stats = 0;
    options.target = TARGET_PREDICTED;
    options.fill = FILL_MEAN;
    RETURN_IF(heads_init(&e->heads, e->model, e->max_rows, err));
    RETURN_IF(explainer_init(&e->explainer, &options, e->model, &e->heads, e->max_rows, err));
    e->arena_bytes = explainer_arena_bytes(&e->explainer);
    RETURN_IF(e->model->device->ops->memory->alloc(e->model->device, e->arena_bytes, &e->arena, err));
    e->explainer.arena = e->arena;
    RETURN_IF(feed_init(&e->feed, e->model->device, NULL, e->max_rows, e->model->shape.size, mean, std, err));
    return allocate(e, err);
}

Status evaluator_init(Evaluator *e, const Config *config, Model *model, int64_t images, const float mean[3],
                      const float std[3], Error *err) {
    *e = (Evaluator){.config = config, .model = model, .comm = model->comm, .batch = config->eval.batch};
    if (e->batch > images)
        e->batch = images > 0 ? images : 1;
    e->max_rows = (e->batch + e->comm->size - 1) / e->comm->size;
    Status status = init_parts(e, mean, std, err);
    if (status != STATUS_OK)
        evaluator_free(e);
    return status;
}

void evaluator_free(Evaluator *e) {
    if (!e->model)
        return;
    Device *d = e->model->device;
    if (e->arena)
        d->ops->memory->release(d, e->arena, e->arena_bytes);
    if (e->block)
        d->ops->memory->release(d, e->block, e->block_bytes);
    explainer_free(&e->explainer);
    heads_free(&e->heads);
    feed_free(&e->feed);
    free(e->host_f);
    free(e->host_g);
    free(e->host_i);
    *e = (Evaluator){0};
}

static void add_accuracy(Evaluator *e, int64_t rows, Sums *sums) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    const int C = m->shape.classes;
    ops->classify->rank(m->device, rows, C, e->heads.logits, e->labels, e->rank);
    ops->classify->loss(m->device, rows, C, e->heads.logits, e->labels, 1.0f, e->heads.losses, NULL);
    ops->memory->copy_out(m->device, e->host_i, e->rank, sizeof(int32_t) * (size_t)rows);
    ops->memory->copy_out(m->device, e->host_f, e->heads.losses, sizeof(float) * (size_t)rows);
    for (int64_t i = 0; i < rows; i++) {
        sums->top1 += e->host_i[i] < 1;
        sums->top5 += e->host_i[i] < (C < 5 ? C : 5);
        sums->nll += e->host_f[i];
        sums->nonfinite += !isfinite(e->host_f[i]);
    }
    sums->count += (double)rows;
}

/* x where it is positive, else 0; NaN stays, which fmax would hide. */
static double positive(double x) {
    return x < 0 ? 0 : x;
}

/* Asks again with explainer.masked for images. */
static void add_change(Evaluator *e, int64_t rows, int64_t global_rows, Faithfulness *sums) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    explain_classify(&e->explainer, e->explainer.masked, rows, global_rows);
    ops->classify->probability(m->device, rows, m->shape.classes, e->heads.logits, e->predicted, e->after);
    ops->memory->copy_out(m->device, e->host_f, e->before, sizeof(float) * (size_t)rows);
    ops->memory->copy_out(m->device, e->host_g, e->after, sizeof(float) * (size_t)rows);
    for (int64_t i = 0; i < rows; i++) {
        const double o = e->host_f[i], p = e->host_g[i];
        sums->drop += positive(o - p) / o;
        sums->gain += positive(p - o) / o;
        sums->increase += p > o;
        sums->decrease += o > p;
    }
}

static void add_faithfulness(Evaluator *e, int64_t rows, int64_t global_rows, int reductions, Sums *sums) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    Explainer *x = &e->explainer;
    const int C = m->shape.classes, px = m->shape.size * m->shape.size;
    static const float zero[3] = {0, 0, 0};
    ops->classify->predict(m->device, rows, C, e->heads.logits, e->predicted);
    ops->classify->probability(m->device, rows, C, e->heads.logits, e->predicted, e->before);
    explain_saliency(x, e->images, e->labels, rows, global_rows);
    if (reductions & EVAL_TOP) {
        ops->saliency->top(m->device, rows, px, x->up, (int)(EVAL_KEEP_SHARE * px), x->mask);
        ops->saliency->apply(m->device, rows, px, m->dtype, e->images, x->mask, zero, 0, x->masked);
        add_change(e, rows, global_rows, &sums->top);
    }
    if (reductions & EVAL_SOFT) {
        ops->saliency->soften(m->device, rows, px, m->dtype, e->images, x->up, x->masked);
        add_change(e, rows, global_rows, &sums->soft);
    }
}

/* Images spread over the batch, explained once more: no collective stands in a pass with running statistics, so this
 * rank may do it alone. */
static void fill_sheet(Evaluator *e, const Batch *batch) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    Explainer *x = &e->explainer;
    const int64_t n = batch->rows < SHEET_ROWS ? batch->rows : SHEET_ROWS;
    const size_t px = (size_t)m->shape.size * (size_t)m->shape.size, bytes = px * 3 * dtype_size(m->dtype);
    e->sheet->rows = (int)n;
    for (int64_t i = 0; i < n; i++) {
        const size_t from = (size_t)(i * batch->rows / n);
        ops->memory->copy(m->device, (char *)x->masked + (size_t)i * bytes, (const char *)e->images + from * bytes,
                          bytes);
        memcpy(e->sheet->images + (size_t)i * px * 3, batch->images + from * px * 3, px * 3);
    }
    explain_saliency(x, x->masked, e->labels, n, n);
    ops->memory->copy_out(m->device, e->sheet->maps, x->up, sizeof(float) * (size_t)n * px);
}

static Status run_batches(Evaluator *e, Loader *loader, int reductions, Sums *sums, Error *err) {
    const Ops *ops = e->model->device->ops;
    for (;;) {
        Batch batch;
        int done = 0;
        Status status = feed_next(&e->feed, loader, &batch, &done, err);
        RETURN_IF(comm_agree(e->comm, status, err));
        if (done)
            return STATUS_OK;
        const int64_t rows = batch.rows;
        feed_load(&e->feed, &batch);
        ops->memory->copy_in(e->model->device, e->labels, batch.labels, sizeof(int32_t) * (size_t)rows);
        feed_view(&e->feed, e->config, VIEW_STANDARD, 0, 0, rows, e->model->dtype, e->images);
        feed_prefetch(&e->feed, loader);
        explain_classify(&e->explainer, e->images, rows, batch.global_rows);
        add_accuracy(e, rows, sums);
        if (reductions)
            add_faithfulness(e, rows, batch.global_rows, reductions, sums);
        if (e->sheet && e->comm->rank == 0 && batch.global_first == 0 && rows > 0)
            fill_sheet(e, &batch);
        feed_done(&e->feed, loader, &batch); /* the sums came from the device, so its labels have been read */
    }
}

static Faithfulness mean_of(const Faithfulness *sums, double count) {
    return (Faithfulness){sums->drop / count, sums->increase / count, sums->gain / count, sums->decrease / count};
}

Status evaluator_run(Evaluator *e, const Dataset *dataset, Split split, const int64_t *ids, int64_t n, int reductions,
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
    Status status = loader_open(&loader, &config, err);
    if (status == STATUS_OK)
        status = loader_start_epoch(loader, 1, 0, err);
    status = comm_agree(e->comm, status, err);
    if (status == STATUS_OK) {
        walk_prepare_running(e->model, 1);
        status = run_batches(e, loader, reductions, &sums, err);
    }
    feed_drop(&e->feed, loader);
    if (loader)
        loader_close(loader);
    RETURN_IF(status);
    comm_host_sum_f64(e->comm, (double *)&sums, SUMS);
    const double count = sums.count > 0 ? sums.count : 1;
    *result = (EvalResult){.count = (int64_t)sums.count,
                           .nonfinite = (int64_t)sums.nonfinite,
                           .top1 = sums.top1 / count,
                           .top5 = sums.top5 / count,
                           .nll = sums.nll / count,
                           .reductions = reductions,
                           .top = mean_of(&sums.top, count),
                           .soft = mean_of(&sums.soft, count)};
    return STATUS_OK;
}
