/* What a step owns: taken before the first one, so that none allocates anything. */
#include <stdlib.h>
#include <string.h>

#include "kernels/buffers.h"
#include "trainer/method/step_rows.h"

enum { STEP_BUFFERS = 6 };

static void list_buffers(Step *s, Buffer list[STEP_BUFFERS]) {
    const size_t images = (size_t)s->max_samples * plan_row_bytes(s->model, 0);
    const size_t n = (size_t)s->max_samples;
    const Buffer all[STEP_BUFFERS] = {
        {&s->complement, s->max_background && s->config->background.source == BACKGROUND_COMPLEMENT ? images : 0},
        {(void **)&s->labels_twice, 2 * n * sizeof(int32_t)},
        {(void **)&s->rejected, n * sizeof(int32_t)},
        {(void **)&s->scalars, sizeof(StepScalars)},
        {(void **)&s->running_before, (size_t)s->model->running_total * sizeof(float)},
        {(void **)&s->arena, s->arena_bytes},
    };
    memcpy(list, all, sizeof all);
}

static Status allocate(Step *s, Error *err) {
    const size_t ranks = (size_t)s->comm->size, running = (size_t)s->model->running_total;
    Buffer list[STEP_BUFFERS];
    list_buffers(s, list);
    RETURN_IF(buffers_alloc(s->device, list, STEP_BUFFERS, err));
    s->labels = s->labels_twice;
    RETURN_IF(s->device->ops->memory->host_alloc(s->device, sizeof *s->group_host * (size_t)s->max_rows,
                                                 (void **)&s->group_host, err));
    s->rows_of = calloc(ranks, sizeof *s->rows_of);
    s->background_of = calloc(ranks, sizeof *s->background_of);
    s->running_host = calloc(running, sizeof *s->running_host);
    s->running_sums = calloc(running + 1, sizeof *s->running_sums);
    if (!s->rows_of || !s->background_of || !s->running_host || !s->running_sums)
        return error_set(err, STATUS_SYSTEM, "out of memory for a step of %lld rows", (long long)s->max_rows);
    return STATUS_OK;
}

static Status init_parts(Step *s, int64_t batch, const float mean[3], const float std[3], Error *err) {
    const Config *config = s->config;
    const int ce = config->method == METHOD_CE;
    s->max_samples = (batch + s->comm->size - 1) / s->comm->size;
    if (config->method == METHOD_EXCONB && config->background.mode != BACKGROUND_NONE) {
        s->max_background = config->background.max > 0 ? config->background.max : s->max_samples;
        s->max_background = s->max_background < s->max_samples ? s->max_background : s->max_samples;
    }
    s->max_rows = ce ? s->max_samples : 2 * (s->max_samples + s->max_background);
    RETURN_IF(heads_init(&s->heads, s->model, s->max_rows, err));
    s->row_step = step_rows_granularity(s);
    RETURN_IF(plan_init_train(&s->train, s->model, s->max_rows, err));
    ExplainOptions options = explain_options(config, mean, std);
    if (!config_masks(config)) /* the classifier's pass still needs the folded inference plan */
        options = (ExplainOptions){.method = EXPLAIN_GRADCAM, .bn = EXPLAIN_BN_RUNNING};
    RETURN_IF(explainer_init(&s->explainer, &options, s->model, &s->heads, s->max_samples, err));
    const size_t other = explainer_arena_bytes(&s->explainer);
    s->arena_bytes = s->train.bytes > other ? s->train.bytes : other;
    if (!ce) {
        const int64_t all = s->max_rows * s->comm->size;
        const int groups = config->method == METHOD_SIMCLR ? (int)(all / 2) : s->model->shape.classes + 1;
        RETURN_IF(contrastive_init(&s->contrastive, s->device, s->comm, s->max_rows, all, s->model->shape.projection,
                                   groups, config->loss.temperature, config->loss.base_temperature, s->model->dtype,
                                   err));
    }
    RETURN_IF(buckets_init(&s->buckets, s->comm, s->model->gradient, s->model->total,
                           config->comm.bucket_mb * 1024 * 1024, err));
    return allocate(s, err);
}

Status step_init(Step *step, const Config *config, Model *model, const Optimiser *optimiser, int64_t batch,
                 const float mean[3], const float std[3], Error *err) {
    *step =
        (Step){.config = config, .model = model, .optimiser = optimiser, .comm = model->comm, .device = model->device};
    Status status = init_parts(step, batch, mean, std, err);
    if (status != STATUS_OK) {
        step_free(step);
        return status;
    }
    step->explainer.arena = step->arena;
    /* Ranks must record and replay alike. With background rows their row counts differ from step to step, each rank's
     * in its own way, and with them what a device keeps. */
    step->recordable =
        config->cuda.graphs && model->comm->collectives->recordable && (step->comm->size == 1 || !step->max_background);
    return STATUS_OK;
}

void step_free(Step *s) {
    if (!s->device)
        return;
    Buffer list[STEP_BUFFERS];
    list_buffers(s, list);
    buffers_free(s->device, list, STEP_BUFFERS);
    heads_free(&s->heads);
    explainer_free(&s->explainer);
    contrastive_free(&s->contrastive);
    buckets_free(s->buckets);
    plan_free(&s->train);
    s->device->ops->memory->host_release(s->device, s->group_host, sizeof *s->group_host * (size_t)s->max_rows);
    free(s->rows_of);
    free(s->background_of);
    free(s->running_host);
    free(s->running_sums);
    *s = (Step){0};
}
