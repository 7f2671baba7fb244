#include "trainer/method/step.h"

#include <math.h>

#include "trainer/method/explainers/explainers.h"
#include "trainer/method/step_rows.h"

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

/* Key of a capture: which one, and the numbers and addresses of the caller's that its launches hold. */
static uint64_t capture_key(uint64_t capture, const int64_t *numbers, int count) {
    uint64_t key = 1469598103934665603u ^ capture; /* FNV-1a, by words */
    for (int i = 0; i < count; i++)
        key = (key ^ (uint64_t)numbers[i]) * 1099511628211u;
    return key;
}

enum { CAPTURE_EXPLAIN = 1, CAPTURE_TRAIN = 2 };

static bool capture_begin(const Step *s, bool recordable, uint64_t key) {
    return recordable ? s->device->ops->graph->begin(s->device, key) : 1;
}

static void capture_end(const Step *s, bool recordable) {
    if (recordable)
        s->device->ops->graph->end(s->device);
}

/* Saliency, masking and selection of this rank's samples; the rejected ones' indices and count. */
static void explain(Step *s, const StepInput *input, const StepViews *views) {
    const Ops *ops = s->device->ops;
    Explainer *e = &s->explainer;
    const void *source = s->config->explain.source_view == SOURCE_RANDOM ? views->backup : views->standard;
    const bool recordable = s->recordable && e->kind->recordable;
    const int64_t numbers[] = {input->rows, input->global_rows, (intptr_t)source};
    if (!capture_begin(s, recordable, capture_key(CAPTURE_EXPLAIN, numbers, 3)))
        return;
    if (e->options.bn == EXPLAIN_BN_RUNNING)
        walk_prepare_running(s->model, true);
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
    capture_end(s, recordable);
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

static bool classifier_is_joint(const Step *s) {
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
 * others saw nothing, theirs are those of the step before. Waits for the device. */
static void average_running(Step *s, int64_t own_rows) {
    Model *m = s->model;
    if (m->bn_global || s->comm->size == 1)
        return;
    const size_t n = (size_t)m->running_total;
    float *values = s->running_host;
    double *sums = s->running_sums; /* and how many ranks they are of */
    s->device->ops->memory->copy_out(s->device, values, m->running, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        sums[i] = own_rows > 0 ? values[i] : 0.0;
    sums[n] = own_rows > 0;
    comm_host_sum_f64(s->comm, sums, (int)n + 1);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(sums[i] / sums[n]);
    s->device->ops->memory->copy_in(s->device, m->running, values, n * sizeof *values);
    s->device->ops->stream->sync(s->device);
}

/* The reduced gradient is the same on every rank, and so is what is counted. */
static void count_nonfinite(Step *s, int64_t begin, int64_t end) {
    s->device->ops->optimise->nonfinite(s->device, end - begin, s->model->gradient + begin, &s->scalars->nonfinite);
}

/* Sums over ranks, and brings to the host. Waits for the device. */
static StepScalars collect(Step *s, bool masked) {
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
                                 bool masked, int groups, int64_t anchors) {
    Model *m = s->model;
    const int ce = s->config->method == METHOD_CE;
    const int64_t own = ce ? input->rows : s->rows_of[s->comm->rank];
    Walk walk = {.model = m,
                 .plan = &s->train,
                 .base = s->arena,
                 .rows = own,
                 .conv_rows = step_rows_told(s, own),
                 .global_rows = ce ? input->global_rows : 2 * (rows->total_real + rows->total_background),
                 .norm = NORM_BATCH,
                 .update_running = true};
    if (ce)
        s->device->ops->memory->copy(s->device, walk_at(&walk, 0), views->random,
                                     plan_row_bytes(m, 0) * (size_t)input->rows);
    else
        step_rows_compose(s, input, views, rows->background, masked, walk_at(&walk, 0));
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
static void train(Step *s, const StepInput *input, const StepViews *views, const ContrastRows *rows, bool masked) {
    const int mode = rows->total_background > 0 ? s->config->background.mode : BACKGROUND_NONE;
    const bool recordable = s->recordable && rows->total_background == 0;
    const int64_t anchors = contrastive_anchors(rows, mode);
    int groups = 0;
    if (s->config->method != METHOD_CE)
        groups =
            contrastive_groups(rows, s->config->method, mode, s->model->shape.classes, input->labels, s->group_host);
    const int64_t numbers[] = {
        input->rows, input->global_rows, masked, groups, anchors, (intptr_t)views->random, (intptr_t)views->backup};
    if (!capture_begin(s, recordable, capture_key(CAPTURE_TRAIN, numbers, sizeof numbers / sizeof *numbers)))
        return;
    forward_and_backward(s, input, views, rows, masked, groups, anchors);
    capture_end(s, recordable);
}

void step_run(Step *s, const StepInput *input, const StepViews *views, bool update, StepReport *report) {
    static const Phase phases[] = {PHASE_DATA,     PHASE_EXPLAIN, PHASE_FORWARD, PHASE_LOSS,
                                   PHASE_BACKWARD, PHASE_REDUCE,  PHASE_OPTIMISE};
    Model *m = s->model;
    const Ops *ops = s->device->ops;
    const bool masked = input->mask && config_masks(s->config);
    const int joint = s->config->method != METHOD_CE && classifier_is_joint(s);
    begins(s);
    copy_labels(s, input);
    ops->memory->copy(s->device, s->running_before, m->running, sizeof(float) * (size_t)m->running_total);
    ops->memory->zero(s->device, m->gradient, sizeof(float) * (size_t)m->total);
    ops->memory->zero(s->device, s->scalars, sizeof *s->scalars);
    ends(s, PHASE_DATA);
    if (masked)
        explain(s, input, views);
    const ContrastRows rows = step_rows_decide(s, input, masked);
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
    const StepScalars got = collect(s, false);
    ends(s, PHASE_LOSS);
    *report = (StepReport){.loss = NAN,
                           .classifier_loss = got.classifier_loss,
                           .finite = isfinite(got.classifier_loss) && got.nonfinite == 0};
    if (report->finite)
        optimiser_update(s->optimiser, input->lr, m->classifier_first, m->total);
    ends(s, PHASE_OPTIMISE);
    charge(s, report, phases, sizeof phases / sizeof *phases);
}
