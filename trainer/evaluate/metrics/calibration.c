/* Calibration: do the probabilities say how often the model is right? Sums over batches do not say it: the measures
 * sort and bin all images. So every rank gathers the logits of all, in the order of the set, which no number of ranks
 * changes, and computes the same. That is host memory of images * classes * 4 bytes: 8 MB for 10,000 images of 200
 * classes. */
#include "trainer/evaluate/calibration/calibration.h"

#include <stdlib.h>

#include "trainer/evaluate/metrics/metric.h"

enum { BINS = 10 }; /* what the published code used */

typedef struct Gathered {
    float *logits;   /* [images,C] */
    int32_t *labels; /* [images] */
    int64_t *counts; /* [ranks] rows of the batch at hand */
} Gathered;

static void close_calibration(MetricRun *run) {
    Gathered *all = run->own;
    if (!all)
        return;
    free(all->logits);
    free(all->labels);
    free(all->counts);
    free(all);
    run->own = NULL;
}

static Status open_calibration(MetricRun *run, Error *err) {
    const Model *m = run->explainer->model;
    const size_t images = (size_t)run->images, C = (size_t)m->shape.classes;
    Gathered *all = run->own = calloc(1, sizeof *all);
    if (all)
        *all = (Gathered){.logits = malloc(sizeof *all->logits * (images * C + 1)),
                          .labels = malloc(sizeof *all->labels * (images + 1)),
                          .counts = malloc(sizeof *all->counts * (size_t)m->comm->size)};
    if (all && all->logits && all->labels && all->counts)
        return STATUS_OK;
    close_calibration(run);
    return error_set(err, STATUS_SYSTEM, "out of memory for the logits of %zu images, %zu classes each", images, C);
}

static void add(MetricRun *run, const MetricBatch *batch) {
    const Model *m = run->explainer->model;
    const MemoryOps *memory = m->device->ops->memory;
    const size_t row_bytes = sizeof(float) * (size_t)m->shape.classes;
    Gathered *all = run->own;
    float *logits = all->logits + batch->global_first * m->shape.classes;
    int32_t *labels = all->labels + batch->global_first;
    int64_t first = 0;
    comm_host_gather_i64(m->comm, &batch->rows, 1, all->counts);
    for (int rank = 0; rank < m->comm->rank; rank++)
        first += all->counts[rank];
    memory->copy_out(m->device, logits + first * m->shape.classes, batch->logits, row_bytes * (size_t)batch->rows);
    memory->copy_out(m->device, labels + first, batch->labels, sizeof *labels * (size_t)batch->rows);
    comm_host_gather_rows(m->comm, logits + first * m->shape.classes, all->counts, row_bytes, logits);
    comm_host_gather_rows(m->comm, labels + first, all->counts, sizeof *labels, labels);
    run->sums[0] += (double)batch->rows;
}

/* In the order of the table below. */
static Status measure(const ClassifierOutput *output, const Forecasts *f, double values[METRIC_NUMBERS], Error *err) {
    values[0] = calibration_brier(output);
    values[1] = calibration_ece(f, BINS_EQUAL_WIDTH, BINS);
    values[2] = calibration_ece(f, BINS_EQUAL_MASS, BINS);
    values[3] = calibration_debiased(f, BINS);
    values[4] = calibration_sweep(f, NULL);
    RETURN_IF(calibration_classwise(output, BINS, &values[5], err));
    RETURN_IF(calibration_smooth(f, &values[6], err));
    values[7] = calibration_mce(f, BINS);
    return STATUS_OK;
}

static Status finish(MetricRun *run, double count, double values[METRIC_NUMBERS], Error *err) {
    const Gathered *all = run->own;
    const ClassifierOutput output = {.n = (int64_t)run->sums[0],
                                     .classes = run->explainer->model->shape.classes,
                                     .logits = all->logits,
                                     .labels = all->labels};
    Forecasts f;
    (void)count; /* at least 1, also of no images, whose calibration is NaN */
    Status status = forecasts_top_label(&f, &output, err);
    if (status == STATUS_OK)
        status = measure(&output, &f, values, err);
    forecasts_free(&f);
    return status;
}

const Metric metric_calibration = {
    .suite = "calibration",
    .suite_help = "ece and its kin, brier",
    .title = "calibration: do the probabilities say how often it is right (10 bins)",
    .numbers = {{.name = "brier", .label = "brier", .unit = UNIT_SCORE, .help = "squared error of all probabilities"},
                {.name = "ece", .label = "ece", .help = "mean gap between confidence and accuracy"},
                {.name = "adaptive_ece", .label = "adaptive", .help = "the same in bins of equal mass"},
                {.name = "debiased_ece", .label = "debiased", .help = "root mean square, less the bias of bins"},
                {.name = "sweep_ece", .label = "sweep", .help = "as many bins as keep the accuracy from falling"},
                {.name = "classwise_ece", .label = "classwise", .help = "mean ece of each class's probability"},
                {.name = "smooth_ece", .label = "smooth", .help = "gaps smoothed by a kernel instead of bins"},
                {.name = "mce", .label = "mce", .help = "largest gap of a bin"}},
    .open = open_calibration,
    .close = close_calibration,
    .add = add,
    .finish = finish};
