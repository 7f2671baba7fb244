#include "trainer/method/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const PHASE_NAMES[PHASE_COUNT] = {"data", "views",    "explain", "forward",
                                              "loss", "backward", "reduce",  "optimise"};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Charges the time since *mark to a phase and moves the mark. */
static void lap(const Step *step, StepReport *report, Phase phase, double *mark) {
    step->comm->collectives->settle(step->comm);
    double t = now();
    report->seconds[phase] += t - *mark;
    *mark = t;
}

static int uses_explanation(const Config *config) {
    return config->method == METHOD_EXCON || config->method == METHOD_EXCONB;
}

static size_t image_bytes(const Model *m) {
    return (size_t)m->shape.size * (size_t)m->shape.size * 3 * dtype_size(m->dtype);
}

typedef struct Part {
    void **at;
    size_t bytes;
} Part;

enum { STEP_PARTS = 10 };

static void list_parts(Step *s, Part parts[STEP_PARTS]) {
    const size_t images = (size_t)s->max_samples * image_bytes(s->model);
    const int explains = uses_explanation(s->config);
    const size_t n = (size_t)s->max_samples;
    const Part list[STEP_PARTS] = {
        {&s->standard, explains ? images : 0},
        {&s->random, images},
        {&s->backup, images},
        {&s->complement, s->max_background && s->config->background.source == BACKGROUND_COMPLEMENT ? images : 0},
        {(void **)&s->labels_twice, 2 * n * sizeof(int32_t)},
        {(void **)&s->rejected, n * sizeof(int32_t)},
        {(void **)&s->rejected_count, sizeof(int32_t)},
        {(void **)&s->nonfinite, sizeof(int64_t)},
        {(void **)&s->running_before, (size_t)s->model->running_total * sizeof(float)},
        {(void **)&s->arena, s->arena_bytes},
    };
    memcpy(parts, list, sizeof list);
}

static Status allocate(Step *s, Error *err) {
    Part parts[STEP_PARTS];
    list_parts(s, parts);
    for (int i = 0; i < STEP_PARTS; i++)
        if (parts[i].bytes)
            RETURN_IF(s->device->ops->alloc(s->device, parts[i].bytes, parts[i].at, err));
    s->labels = s->labels_twice;
    s->group_host = calloc((size_t)s->max_rows, sizeof *s->group_host);
    s->losses_host = calloc((size_t)s->max_rows, sizeof *s->losses_host);
    s->rows_of = calloc((size_t)s->comm->size, sizeof *s->rows_of);
    if (!s->group_host || !s->losses_host || !s->rows_of)
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
    RETURN_IF(plan_init(&s->train, s->model, PLAN_TRAIN, -1, 0, s->max_rows, err));
    ExplainOptions options = explain_options(config, mean, std);
    if (!uses_explanation(config)) /* the classifier's pass still needs the folded inference plan */
        options = (ExplainOptions){.method = EXPLAIN_GRADCAM, .bn = EXPLAIN_BN_RUNNING};
    RETURN_IF(explainer_init(&s->explainer, &options, s->model, &s->heads, s->max_samples, err));
    const size_t other = explainer_arena_bytes(&s->explainer);
    s->arena_bytes = s->train.bytes > other ? s->train.bytes : other;
    if (!ce) {
        const int64_t all = s->max_rows * s->comm->size;
        const int groups = config->method == METHOD_SIMCLR ? (int)(all / 2) : s->model->shape.classes + 1;
        RETURN_IF(contrastive_init(&s->contrastive, s->device, s->comm, s->max_rows, all, s->model->shape.projection,
                                   groups, config->loss.temperature, config->loss.base_temperature, err));
    }
    RETURN_IF(buckets_init(&s->buckets, s->comm, s->model->gradient, s->model->total,
                           config->comm.bucket_mb * 1024 * 1024, err));
    return allocate(s, err);
}

Status step_init(Step *step, const Config *config, Model *model, int64_t batch, const float mean[3], const float std[3],
                 Error *err) {
    *step = (Step){.config = config, .model = model, .comm = model->comm, .device = model->device};
    Status status = init_parts(step, batch, mean, std, err);
    if (status != STATUS_OK) {
        step_free(step);
        return status;
    }
    step->explainer.arena = step->arena;
    return STATUS_OK;
}

void step_free(Step *s) {
    if (!s->device)
        return;
    Part parts[STEP_PARTS];
    list_parts(s, parts);
    for (int i = 0; i < STEP_PARTS; i++)
        if (*parts[i].at)
            s->device->ops->release(s->device, *parts[i].at, parts[i].bytes);
    heads_free(&s->heads);
    explainer_free(&s->explainer);
    contrastive_free(&s->contrastive);
    buckets_free(s->buckets);
    plan_free(&s->train);
    free(s->group_host);
    free(s->losses_host);
    free(s->rows_of);
    *s = (Step){0};
}

size_t step_bytes(const Step *step) {
    Part parts[STEP_PARTS];
    Step copy = *step;
    list_parts(&copy, parts);
    size_t bytes = step->heads.bytes + step->explainer.block_bytes + step->contrastive.scratch_bytes;
    for (int i = 0; i < STEP_PARTS; i++)
        bytes += parts[i].bytes;
    return bytes;
}

/* Saliency, masking and selection of this rank's samples. Returns the background rows to append, their indices in
 * step->rejected. */
static int64_t explain(Step *s, const StepInput *input, StepReport *report) {
    const Ops *ops = s->device->ops;
    Explainer *e = &s->explainer;
    const void *source = s->config->explain.source_view == SOURCE_RANDOM ? s->backup : s->standard;
    if (e->options.bn == EXPLAIN_BN_RUNNING)
        walk_prepare_running(s->model, 1);
    explain_saliency(e, source, s->labels, input->rows, input->global_rows);
    explain_mask(e, source, input->rows);
    explain_select(e, s->labels, input->rows, input->global_rows);
    ops->select_rejected(s->device, input->rows, e->accept, s->max_background, s->rejected, s->rejected_count);
    int32_t rejected = 0;
    s->comm->collectives->settle(s->comm);
    ops->copy_out(s->device, &rejected, s->rejected_count, sizeof rejected);
    report->accepted = input->rows - rejected;
    report->masked = input->rows;
    if (s->complement) {
        static const float zero[3] = {0, 0, 0};
        const int px = s->model->shape.size * s->model->shape.size;
        ops->saliency_apply(s->device, input->rows, px, s->model->dtype, source, e->mask,
                            e->options.fill == FILL_BLACK ? e->options.black : zero, 1, s->complement);
    }
    return rejected < s->max_background ? rejected : s->max_background;
}

/* Rows of every rank from one small message. */
static void exchange_rows(Step *s, const StepInput *input, int64_t background, ContrastRows *rows) {
    *rows = (ContrastRows){
        .real = input->rows, .background = background, .first_real = input->first, .total_real = input->global_rows};
    int64_t mine[2] = {input->rows, background};
    int64_t *all = malloc(sizeof(int64_t) * 2 * (size_t)s->comm->size);
    if (!all)
        device_fatal(s->device, STATUS_SYSTEM, "out of memory for %d ranks", s->comm->size);
    comm_host_gather_i64(s->comm, mine, 2, all);
    int64_t room = s->config->background.max > 0 ? s->config->background.max : INT64_MAX;
    for (int r = 0; r < s->comm->size; r++) { /* the first background.max in sample order, whatever the rank count */
        const int64_t kept = all[2 * r + 1] < room ? all[2 * r + 1] : room;
        room -= kept;
        s->rows_of[r] = 2 * (all[2 * r] + kept);
        if (r < s->comm->rank)
            rows->first_background += kept;
        if (r == s->comm->rank)
            rows->background = kept;
        rows->total_background += kept;
    }
    free(all);
}

/* [view 1 | view 2 | background | background] into the encoder's input. */
static void compose_input(Step *s, const StepInput *input, int64_t background, int masked, char *out) {
    const Ops *ops = s->device->ops;
    const size_t row = image_bytes(s->model), views = row * (size_t)input->rows;
    if (masked)
        ops->select_rows(s->device, input->rows, row, s->explainer.accept, s->explainer.masked, s->backup, out);
    else
        ops->copy(s->device, out, s->backup, views);
    ops->copy(s->device, out + views, s->random, views);
    const void *source = s->complement ? s->complement : s->explainer.masked;
    for (int copy = 0; copy < 2 && background > 0; copy++)
        ops->gather_rows(s->device, background, row, source, s->rejected,
                         out + 2 * views + (size_t)copy * row * (size_t)background);
}

static double host_sum(Step *s, const float *losses, int64_t rows) {
    double sum = 0.0;
    s->comm->collectives->settle(s->comm);
    s->device->ops->copy_out(s->device, s->losses_host, losses, sizeof(float) * (size_t)rows);
    for (int64_t i = 0; i < rows; i++)
        sum += s->losses_host[i];
    return sum;
}

/* Cross-entropy on the first `rows` features, mean over `global` rows of all ranks: losses and the classifier's
 * gradient. Returns this rank's share of the mean. */
static double train_classifier(Step *s, int64_t rows, int64_t global) {
    const Ops *ops = s->device->ops;
    heads_classify(&s->heads, rows);
    ops->classify_loss(s->device, rows, s->model->shape.classes, s->heads.logits, s->labels_twice,
                       1.0f / (float)(global > 0 ? global : 1), s->heads.losses, s->heads.dlogits);
    heads_classify_backward_weights(&s->heads, rows);
    return host_sum(s, s->heads.losses, rows) / (double)(global > 0 ? global : 1);
}

static void copy_labels(Step *s, const StepInput *input) {
    const size_t bytes = sizeof(int32_t) * (size_t)input->rows;
    s->device->ops->copy_in(s->device, s->labels_twice, input->labels, bytes);
    s->device->ops->copy_in(s->device, s->labels_twice + input->rows, input->labels, bytes);
}

static int classifier_is_joint(const Step *s) {
    return s->config->classifier.schedule == CLASSIFIER_JOINT;
}

/* Heads, loss and the heads' backward of a contrastive method; leaves dfeatures. */
static void contrastive_half(Step *s, const ContrastRows *rows, const StepInput *input, StepReport *report,
                             double *mark) {
    const int64_t own = s->rows_of[s->comm->rank];
    const int mode = rows->total_background > 0 ? s->config->background.mode : BACKGROUND_NONE;
    heads_project(&s->heads, own);
    lap(s, report, PHASE_FORWARD, mark);
    int groups =
        contrastive_groups(rows, s->config->method, mode, s->model->shape.classes, input->labels, s->group_host);
    report->loss = contrastive_run(&s->contrastive, s->heads.z, s->group_host, groups, s->rows_of,
                                   contrastive_anchors(rows, mode), s->heads.dz);
    lap(s, report, PHASE_LOSS, mark);
    if (classifier_is_joint(s)) {
        report->classifier_loss = train_classifier(s, 2 * input->rows, 2 * input->global_rows);
        buckets_ready(s->buckets, s->model->classifier_first);
    }
    heads_project_backward(&s->heads, own);
    buckets_ready(s->buckets, s->model->head_first);
}

static void sgd_range(Step *s, double lr, int64_t begin, int64_t end) {
    Model *m = s->model;
    SgdStep sgd = {.lr = (float)lr,
                   .momentum = (float)s->config->optim.momentum,
                   .weight_decay = (float)s->config->optim.weight_decay};
    char *low = m->dtype == DTYPE_F32 ? NULL : (char *)m->low + (size_t)begin * dtype_size(m->dtype);
    s->device->ops->sgd(s->device, end - begin, &sgd, m->gradient + begin, m->velocity + begin, m->master + begin, low);
}

void step_update(Step *s, double lr) {
    const Model *m = s->model;
    if (s->config->method == METHOD_CE) {
        sgd_range(s, lr, 0, m->head_first);
        sgd_range(s, lr, m->classifier_first, m->total);
    } else {
        sgd_range(s, lr, 0, classifier_is_joint(s) ? m->total : m->classifier_first);
    }
}

/* Local norms leave every rank its own running statistics: the run keeps their mean. */
static void average_running(Step *s) {
    Model *m = s->model;
    if (m->bn_global || s->comm->size == 1)
        return;
    const size_t n = (size_t)m->running_total;
    float *values = malloc(n * sizeof *values);
    double *sums = malloc(n * sizeof *sums);
    if (!values || !sums)
        device_fatal(s->device, STATUS_SYSTEM, "out of memory averaging running statistics");
    s->device->ops->copy_out(s->device, values, m->running, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        sums[i] = values[i];
    comm_host_sum_f64(s->comm, sums, (int)n);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(sums[i] / s->comm->size);
    s->device->ops->copy_in(s->device, m->running, values, n * sizeof *values);
    s->device->ops->sync(s->device);
    free(values);
    free(sums);
}

/* The reduced gradient is the same on every rank, and so is this verdict. */
static int gradient_is_finite(Step *s, int64_t begin, int64_t end) {
    int64_t bad = 0;
    s->device->ops->zero(s->device, s->nonfinite, sizeof *s->nonfinite);
    s->device->ops->guard_nonfinite(s->device, end - begin, s->model->gradient + begin, s->nonfinite);
    s->device->ops->copy_out(s->device, &bad, s->nonfinite, sizeof bad);
    return bad == 0;
}

void step_run(Step *s, const StepInput *input, int update, StepReport *report) {
    Model *m = s->model;
    const Ops *ops = s->device->ops;
    const int ce = s->config->method == METHOD_CE;
    const int masked = input->mask && uses_explanation(s->config);
    double mark = now();
    *report = (StepReport){.classifier_loss = NAN, .finite = 1};
    copy_labels(s, input);
    ops->copy(s->device, s->running_before, m->running, sizeof(float) * (size_t)m->running_total);
    ops->zero(s->device, m->gradient, sizeof(float) * (size_t)m->total);
    lap(s, report, PHASE_DATA, &mark);

    int64_t background = masked ? explain(s, input, report) : 0;
    ContrastRows rows;
    exchange_rows(s, input, background, &rows);
    background = rows.background;
    lap(s, report, PHASE_EXPLAIN, &mark);

    Walk walk = {.model = m,
                 .plan = &s->train,
                 .base = s->arena,
                 .rows = ce ? input->rows : s->rows_of[s->comm->rank],
                 .global_rows = ce ? input->global_rows : 2 * (rows.total_real + rows.total_background),
                 .norm = NORM_BATCH,
                 .update_running = 1};
    if (ce)
        ops->copy(s->device, walk_at(&walk, 0), s->random, image_bytes(m) * (size_t)input->rows);
    else
        compose_input(s, input, background, masked, walk_at(&walk, 0));
    walk_forward(&walk, s->heads.features);
    buckets_begin(s->buckets, 0, ce || classifier_is_joint(s) ? m->total : m->classifier_first);
    if (ce) {
        lap(s, report, PHASE_FORWARD, &mark);
        report->loss = train_classifier(s, input->rows, input->global_rows);
        heads_classify_backward_data(&s->heads, input->rows);
        lap(s, report, PHASE_LOSS, &mark);
        buckets_ready(s->buckets, m->head_first);
    } else {
        contrastive_half(s, &rows, input, report, &mark);
    }
    walk_backward(&walk, s->heads.dfeatures, 1, 0, s->buckets);
    lap(s, report, PHASE_BACKWARD, &mark);
    buckets_finish(s->buckets);

    double sums[4] = {report->loss,
                      isnan(report->classifier_loss) && !classifier_is_joint(s) ? 0.0 : report->classifier_loss,
                      (double)report->accepted, (double)report->masked};
    comm_host_sum_f64(s->comm, sums, 4);
    report->loss = sums[0];
    if (!ce && classifier_is_joint(s))
        report->classifier_loss = sums[1];
    report->accepted = (int64_t)sums[2];
    report->masked = (int64_t)sums[3];
    report->background = rows.total_background;
    lap(s, report, PHASE_REDUCE, &mark);

    report->finite = isfinite(report->loss) && gradient_is_finite(s, 0, m->total);
    if (!report->finite)
        ops->copy(s->device, m->running, s->running_before, sizeof(float) * (size_t)m->running_total);
    else
        average_running(s);
    if (report->finite && update)
        step_update(s, input->lr);
    lap(s, report, PHASE_OPTIMISE, &mark);
}

void step_classifier(Step *s, const StepInput *input, StepReport *report) {
    Model *m = s->model;
    const int64_t size = m->total - m->classifier_first;
    double mark = now();
    *report = (StepReport){.loss = NAN, .finite = 1};
    copy_labels(s, input);
    s->device->ops->zero(s->device, m->gradient + m->classifier_first, sizeof(float) * (size_t)size);
    Walk walk = {.model = m,
                 .plan = &s->explainer.infer,
                 .base = s->arena,
                 .rows = input->rows,
                 .global_rows = input->global_rows,
                 .norm = NORM_RUNNING};
    s->device->ops->copy(s->device, walk_at(&walk, 0), s->random, image_bytes(m) * (size_t)input->rows);
    walk_forward(&walk, s->heads.features);
    lap(s, report, PHASE_FORWARD, &mark);
    report->classifier_loss = train_classifier(s, input->rows, input->global_rows);
    s->comm->collectives->all_reduce(s->comm, m->gradient + m->classifier_first, size, DTYPE_F32);
    comm_host_sum_f64(s->comm, &report->classifier_loss, 1);
    lap(s, report, PHASE_LOSS, &mark);
    report->finite = isfinite(report->classifier_loss) && gradient_is_finite(s, m->classifier_first, m->total);
    if (report->finite)
        sgd_range(s, input->lr, m->classifier_first, m->total);
    lap(s, report, PHASE_OPTIMISE, &mark);
}
