#include "trainer/method/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/share.h"
#include "kernels/buffers.h"
#include "trainer/method/explainers/explainers.h"

const char *const PHASE_NAMES[PHASE_COUNT] = {"data", "views",    "explain", "forward",
                                              "loss", "backward", "reduce",  "optimise"};

/* Moments of a step in the device's order of work: where each phase ends, and where the step begins. */
enum { STAMP_BEGIN = PHASE_COUNT, STAMPS };
_Static_assert((int)STAMPS <= (int)DEVICE_STAMPS, "a stamp per phase, and the beginning");

static void begins(const Step *step) {
    step->device->ops->stream->stamp(step->device, STAMP_BEGIN);
}

static void ends(const Step *step, Phase phase) {
    step->device->ops->stream->stamp(step->device, (int)phase);
}

/* Waits for the device and charges each of the phases that were stamped, in order. */
static void charge(const Step *step, StepReport *report, const Phase *phases, int count) {
    const Ops *ops = step->device->ops;
    step->comm->collectives->settle(step->comm);
    int from = STAMP_BEGIN;
    for (int i = 0; i < count; i++) {
        report->seconds[phases[i]] += ops->stream->seconds(step->device, from, (int)phases[i]);
        from = (int)phases[i];
    }
}

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
    Buffer list[STEP_BUFFERS];
    list_buffers(s, list);
    RETURN_IF(buffers_alloc(s->device, list, STEP_BUFFERS, err));
    s->labels = s->labels_twice;
    RETURN_IF(s->device->ops->memory->host_alloc(s->device, sizeof *s->group_host * (size_t)s->max_rows,
                                                 (void **)&s->group_host, err));
    s->rows_of = calloc((size_t)s->comm->size, sizeof *s->rows_of);
    if (!s->rows_of)
        return error_set(err, STATUS_SYSTEM, "out of memory for a step of %lld rows", (long long)s->max_rows);
    return STATUS_OK;
}

/* With background rows the row count differs from step to step. Where few different ones are wanted, convolutions get
 * 2 * max_samples or one of these many above: each costs a search of plans once, and half a step between two counts is
 * computed for nothing on average, a hundredth of the rows. */
enum { ROW_STEPS = 32, ROW_STEP_LEAST = 16 };

static int64_t choose_row_step(const Step *s) {
    if (!s->max_background || !s->device->slow_to_plan || s->device->plain_conv)
        return 0;
    const int64_t step = (2 * s->max_background + ROW_STEPS - 1) / ROW_STEPS;
    return step < ROW_STEP_LEAST ? ROW_STEP_LEAST : step;
}

static int64_t conv_rows(const Step *s, int64_t rows) {
    if (!s->row_step || rows == 0)
        return rows;
    const int64_t least = 2 * s->max_samples, more = rows > least ? rows - least : 0;
    const int64_t rounded = least + (more + s->row_step - 1) / s->row_step * s->row_step;
    return rounded < s->max_rows ? rounded : s->max_rows;
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
    s->row_step = choose_row_step(s);
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
    *s = (Step){0};
}

/* Key of a recordable stretch: which one, and the numbers and addresses of the caller's that its launches hold. */
static uint64_t stretch_key(uint64_t stretch, const int64_t *numbers, int count) {
    uint64_t key = 1469598103934665603u ^ stretch; /* FNV-1a, by words */
    for (int i = 0; i < count; i++)
        key = (key ^ (uint64_t)numbers[i]) * 1099511628211u;
    return key;
}

enum { STRETCH_EXPLAIN = 1, STRETCH_TRAIN = 2 };

static int stretch_begin(const Step *s, int recordable, uint64_t key) {
    return recordable ? s->device->ops->graph->begin(s->device, key) : 1;
}

static void stretch_end(const Step *s, int recordable) {
    if (recordable)
        s->device->ops->graph->end(s->device);
}

/* Saliency, masking and selection of this rank's samples; the rejected ones' indices and count. */
static void explain(Step *s, const StepInput *input, const StepViews *views) {
    const Ops *ops = s->device->ops;
    Explainer *e = &s->explainer;
    const void *source = s->config->explain.source_view == SOURCE_RANDOM ? views->backup : views->standard;
    const int recordable = s->recordable && e->kind->recordable;
    const int64_t numbers[] = {input->rows, input->global_rows, (intptr_t)source};
    if (!stretch_begin(s, recordable, stretch_key(STRETCH_EXPLAIN, numbers, 3)))
        return;
    if (e->options.bn == EXPLAIN_BN_RUNNING)
        walk_prepare_running(s->model, 1);
    explain_saliency(e, source, s->labels, input->rows, input->global_rows);
    explain_mask(e, source, input->rows);
    explain_select(e, s->labels, input->rows, input->global_rows);
    ops->select->rejected(s->device, input->rows, e->accept, s->max_background, s->rejected, &s->scalars->rejected);
    if (s->complement) {
        static const float zero[3] = {0, 0, 0};
        const int px = s->model->shape.size * s->model->shape.size;
        ops->saliency->apply(s->device, input->rows, px, s->model->dtype, source, e->mask,
                             e->options.fill == FILL_BLACK ? e->options.black : zero, 1, s->complement);
    }
    stretch_end(s, recordable);
}

/* Background rows this rank would append. */
static int64_t background_rows(Step *s) {
    int32_t rejected = 0;
    s->comm->collectives->settle(s->comm);
    s->device->ops->memory->copy_out(s->device, &rejected, &s->scalars->rejected, sizeof rejected);
    return rejected < s->max_background ? rejected : s->max_background;
}

/* Every rank's background rows, from one small message. */
static void exchange_background(Step *s, int64_t mine, ContrastRows *rows) {
    int64_t *all = malloc(sizeof(int64_t) * (size_t)s->comm->size);
    if (!all)
        device_fatal(s->device, STATUS_SYSTEM, "out of memory for %d ranks", s->comm->size);
    comm_host_gather_i64(s->comm, &mine, 1, all);
    int64_t room = s->config->background.max > 0 ? s->config->background.max : INT64_MAX;
    for (int r = 0; r < s->comm->size; r++) { /* the first background.max in sample order, whatever the rank count */
        const int64_t kept = all[r] < room ? all[r] : room;
        room -= kept;
        s->rows_of[r] += 2 * kept;
        if (r < s->comm->rank)
            rows->first_background += kept;
        if (r == s->comm->rank)
            rows->background = kept;
        rows->total_background += kept;
    }
    free(all);
}

/* Rows of every rank: two views of its share of the samples, and background where this step may append some. */
static ContrastRows decide_rows(Step *s, const StepInput *input, int masked) {
    ContrastRows rows = {.real = input->rows, .first_real = input->first, .total_real = input->global_rows};
    for (int r = 0; r < s->comm->size; r++) {
        int64_t first, share;
        share_of(input->global_rows, r, s->comm->size, &first, &share);
        s->rows_of[r] = 2 * share;
    }
    if (masked && s->max_background > 0)
        exchange_background(s, background_rows(s), &rows);
    return rows;
}

/* [view 1 | view 2 | background | background] into the encoder's input. */
static void compose_input(Step *s, const StepInput *input, const StepViews *views, int64_t background, int masked,
                          char *out) {
    const Ops *ops = s->device->ops;
    const size_t row = plan_row_bytes(s->model, 0), view = row * (size_t)input->rows;
    if (masked)
        ops->select->rows(s->device, input->rows, row, s->explainer.accept, s->explainer.masked, views->backup, out);
    else
        ops->memory->copy(s->device, out, views->backup, view);
    ops->memory->copy(s->device, out + view, views->random, view);
    const void *source = s->complement ? s->complement : s->explainer.masked;
    for (int copy = 0; copy < 2 && background > 0; copy++)
        ops->convert->gather_rows(s->device, background, row, source, s->rejected,
                                  out + 2 * view + (size_t)copy * row * (size_t)background);
}

/* Cross-entropy on the first `rows` features, mean over `global` rows of all ranks: losses and the classifier's
 * gradient. This rank's share of the mean goes to `loss` (device). */
static void train_classifier(Step *s, int64_t rows, int64_t global, double *loss) {
    const Ops *ops = s->device->ops;
    const double weight = 1.0 / (double)(global > 0 ? global : 1);
    heads_classify(&s->heads, rows);
    ops->classify->loss(s->device, rows, s->model->shape.classes, s->heads.logits, s->labels_twice, (float)weight,
                        s->heads.losses, s->heads.dlogits);
    heads_classify_backward_weights(&s->heads, rows);
    ops->convert->sum(s->device, rows, s->heads.losses, weight, loss);
}

static void copy_labels(Step *s, const StepInput *input) {
    const size_t bytes = sizeof(int32_t) * (size_t)input->rows;
    s->device->ops->memory->copy_in(s->device, s->labels_twice, input->labels, bytes);
    s->device->ops->memory->copy_in(s->device, s->labels_twice + input->rows, input->labels, bytes);
}

static int classifier_is_joint(const Step *s) {
    return s->config->classifier.schedule == CLASSIFIER_JOINT;
}

/* Heads, loss and the heads' backward of a contrastive method; leaves dfeatures. */
static void contrastive_half(Step *s, const ContrastRows *rows, int groups, int64_t anchors) {
    const int64_t own = s->rows_of[s->comm->rank];
    heads_project(&s->heads, own);
    ends(s, PHASE_FORWARD);
    contrastive_run(&s->contrastive, s->heads.z, s->group_host, groups, s->rows_of, anchors, &s->scalars->loss,
                    s->heads.dz);
    ends(s, PHASE_LOSS);
    if (classifier_is_joint(s)) {
        train_classifier(s, 2 * rows->real, 2 * rows->total_real, &s->scalars->classifier_loss);
        buckets_ready(s->buckets, s->model->classifier_first);
    }
    heads_project_backward(&s->heads, own);
    buckets_ready(s->buckets, s->model->head_first);
}

void step_update(Step *s, double lr) {
    const Model *m = s->model;
    if (s->config->method == METHOD_CE) {
        optimiser_update(s->optimiser, lr, 0, m->head_first);
        optimiser_update(s->optimiser, lr, m->classifier_first, m->total);
    } else {
        optimiser_update(s->optimiser, lr, 0, classifier_is_joint(s) ? m->total : m->classifier_first);
    }
}

/* Local norms leave every rank its own running statistics: the run keeps the mean over the ranks that had rows. The
 * others saw nothing, theirs are those of the step before. */
static void average_running(Step *s, int64_t own_rows) {
    Model *m = s->model;
    if (m->bn_global || s->comm->size == 1)
        return;
    const size_t n = (size_t)m->running_total;
    float *values = malloc(n * sizeof *values);
    double *sums = malloc((n + 1) * sizeof *sums); /* and how many ranks they are of */
    if (!values || !sums)
        device_fatal(s->device, STATUS_SYSTEM, "out of memory averaging running statistics");
    s->device->ops->memory->copy_out(s->device, values, m->running, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        sums[i] = own_rows > 0 ? values[i] : 0.0;
    sums[n] = own_rows > 0;
    comm_host_sum_f64(s->comm, sums, (int)n + 1);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(sums[i] / sums[n]);
    s->device->ops->memory->copy_in(s->device, m->running, values, n * sizeof *values);
    s->device->ops->stream->sync(s->device);
    free(values);
    free(sums);
}

/* The reduced gradient is the same on every rank, and so is what is counted. */
static void count_nonfinite(Step *s, int64_t begin, int64_t end) {
    s->device->ops->optimise->nonfinite(s->device, end - begin, s->model->gradient + begin, &s->scalars->nonfinite);
}

/* Sums over ranks, and brings to the host: the one place where a step waits for the device. */
static StepScalars collect(Step *s, int masked) {
    const Collectives *collectives = s->comm->collectives;
    StepScalars got;
    collectives->all_reduce(s->comm, &s->scalars->loss, 2, DTYPE_F64);
    if (masked)
        collectives->all_reduce(s->comm, &s->scalars->rejected, 1, DTYPE_I32);
    collectives->settle(s->comm);
    s->device->ops->memory->copy_out(s->device, &got, s->scalars, sizeof got);
    return got;
}

/* From the encoder's input to the reduced gradient. */
static void forward_and_backward(Step *s, const StepInput *input, const StepViews *views, const ContrastRows *rows,
                                 int masked, int groups, int64_t anchors) {
    Model *m = s->model;
    const int ce = s->config->method == METHOD_CE;
    const int64_t own = ce ? input->rows : s->rows_of[s->comm->rank];
    Walk walk = {.model = m,
                 .plan = &s->train,
                 .base = s->arena,
                 .rows = own,
                 .conv_rows = conv_rows(s, own),
                 .global_rows = ce ? input->global_rows : 2 * (rows->total_real + rows->total_background),
                 .norm = NORM_BATCH,
                 .update_running = 1};
    if (ce)
        s->device->ops->memory->copy(s->device, walk_at(&walk, 0), views->random,
                                     plan_row_bytes(m, 0) * (size_t)input->rows);
    else
        compose_input(s, input, views, rows->background, masked, walk_at(&walk, 0));
    walk_forward(&walk, s->heads.features);
    buckets_begin(s->buckets, 0, ce || classifier_is_joint(s) ? m->total : m->classifier_first);
    if (ce) {
        ends(s, PHASE_FORWARD);
        train_classifier(s, input->rows, input->global_rows, &s->scalars->loss);
        heads_classify_backward_data(&s->heads, input->rows);
        ends(s, PHASE_LOSS);
        buckets_ready(s->buckets, m->head_first);
    } else {
        contrastive_half(s, rows, groups, anchors);
    }
    walk_backward(&walk, s->heads.dfeatures, s->buckets);
    ends(s, PHASE_BACKWARD);
    buckets_finish(s->buckets);
    count_nonfinite(s, 0, m->total);
}

/* Row counts that differ from step to step would be recorded for nothing. */
static void train(Step *s, const StepInput *input, const StepViews *views, const ContrastRows *rows, int masked) {
    const int mode = rows->total_background > 0 ? s->config->background.mode : BACKGROUND_NONE;
    const int recordable = s->recordable && rows->total_background == 0;
    const int64_t anchors = contrastive_anchors(rows, mode);
    int groups = 0;
    if (s->config->method != METHOD_CE)
        groups =
            contrastive_groups(rows, s->config->method, mode, s->model->shape.classes, input->labels, s->group_host);
    const int64_t numbers[] = {
        input->rows, input->global_rows, masked, groups, anchors, (intptr_t)views->random, (intptr_t)views->backup};
    if (!stretch_begin(s, recordable, stretch_key(STRETCH_TRAIN, numbers, sizeof numbers / sizeof *numbers)))
        return;
    forward_and_backward(s, input, views, rows, masked, groups, anchors);
    stretch_end(s, recordable);
}

void step_run(Step *s, const StepInput *input, const StepViews *views, int update, StepReport *report) {
    static const Phase phases[] = {PHASE_DATA,     PHASE_EXPLAIN, PHASE_FORWARD, PHASE_LOSS,
                                   PHASE_BACKWARD, PHASE_REDUCE,  PHASE_OPTIMISE};
    Model *m = s->model;
    const Ops *ops = s->device->ops;
    const int masked = input->mask && config_masks(s->config);
    const int joint = s->config->method != METHOD_CE && classifier_is_joint(s);
    begins(s);
    copy_labels(s, input);
    ops->memory->copy(s->device, s->running_before, m->running, sizeof(float) * (size_t)m->running_total);
    ops->memory->zero(s->device, m->gradient, sizeof(float) * (size_t)m->total);
    ops->memory->zero(s->device, s->scalars, sizeof *s->scalars);
    ends(s, PHASE_DATA);
    if (masked)
        explain(s, input, views);
    const ContrastRows rows = decide_rows(s, input, masked);
    ends(s, PHASE_EXPLAIN);
    train(s, input, views, &rows, masked);
    const StepScalars got = collect(s, masked);
    ends(s, PHASE_REDUCE);

    *report = (StepReport){.loss = got.loss,
                           .classifier_loss = joint ? got.classifier_loss : NAN,
                           .masked = masked ? input->global_rows : 0,
                           .accepted = masked ? input->global_rows - got.rejected : 0,
                           .background = rows.total_background,
                           .finite = isfinite(got.loss) && got.nonfinite == 0};
    if (!report->finite)
        ops->memory->copy(s->device, m->running, s->running_before, sizeof(float) * (size_t)m->running_total);
    else
        average_running(s, input->rows);
    if (report->finite && update)
        step_update(s, input->lr);
    ends(s, PHASE_OPTIMISE);
    charge(s, report, phases, sizeof phases / sizeof *phases);
}

void step_classifier(Step *s, const StepInput *input, const StepViews *views, StepReport *report) {
    static const Phase phases[] = {PHASE_FORWARD, PHASE_LOSS, PHASE_OPTIMISE};
    Model *m = s->model;
    const int64_t size = m->total - m->classifier_first;
    begins(s);
    copy_labels(s, input);
    s->device->ops->memory->zero(s->device, m->gradient + m->classifier_first, sizeof(float) * (size_t)size);
    s->device->ops->memory->zero(s->device, s->scalars, sizeof *s->scalars);
    Walk walk = {.model = m,
                 .plan = &s->explainer.infer,
                 .base = s->arena,
                 .rows = input->rows,
                 .global_rows = input->global_rows,
                 .norm = NORM_RUNNING};
    s->device->ops->memory->copy(s->device, walk_at(&walk, 0), views->random,
                                 plan_row_bytes(m, 0) * (size_t)input->rows);
    walk_forward(&walk, s->heads.features);
    ends(s, PHASE_FORWARD);
    train_classifier(s, input->rows, input->global_rows, &s->scalars->classifier_loss);
    s->comm->collectives->all_reduce(s->comm, m->gradient + m->classifier_first, size, DTYPE_F32);
    count_nonfinite(s, m->classifier_first, m->total);
    const StepScalars got = collect(s, 0);
    ends(s, PHASE_LOSS);
    *report = (StepReport){.loss = NAN,
                           .classifier_loss = got.classifier_loss,
                           .finite = isfinite(got.classifier_loss) && got.nonfinite == 0};
    if (report->finite)
        optimiser_update(s->optimiser, input->lr, m->classifier_first, m->total);
    ends(s, PHASE_OPTIMISE);
    charge(s, report, phases, sizeof phases / sizeof *phases);
}
