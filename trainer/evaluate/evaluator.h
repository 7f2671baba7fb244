/* Distributed evaluation of a model on a set of images: the metrics of metrics/, over all ranks. */
#ifndef EXCON_TRAINER_EVALUATOR_H
#define EXCON_TRAINER_EVALUATOR_H

#include "io/loader/loader.h"
#include "trainer/data/feed.h"
#include "trainer/evaluate/metrics/metric.h"
#include "trainer/evaluate/sheet.h"

typedef struct EvalResult {
    int64_t count;
    int64_t nonfinite; /* images whose outputs are NaN or infinite: no hits; they make the numbers below NaN */
    MetricSet metrics; /* what was measured */
    double values[METRIC_COUNT][METRIC_NUMBERS]; /* as the table's entry names them and in its units; else 0 */
} EvalResult;

typedef struct Evaluator {
    const Config *config;
    Model *model;
    Comm *comm;
    Heads heads;
    Explainer explainer;
    Feed feed;
    int64_t batch, max_rows; /* global, of this rank */
    char *arena;
    size_t arena_bytes;
    void *images;    /* device [max_rows,S,S,3] of dtype */
    float *logits;   /* device [max_rows,C] */
    int32_t *labels; /* device [max_rows] */
    int32_t *rank;   /* device [max_rows] */
    int32_t *host_rank;
    float *host_likelihood; /* [max_rows] each */
    MetricSet metrics;
    bool needs_saliency; /* one of them does */
    MetricRun runs[METRIC_COUNT];
    Sheet *sheet; /* borrowed, may be NULL: rank 0 fills it from the first batch */
} Evaluator;

/* How the published evaluation explains: the predicted class by the signed Grad-CAM with running statistics; the layer
 * is the configuration's. */
ExplainOptions evaluator_explanation(const Config *config, const float mean[3], const float std[3]);

/* For evaluations of up to `images` images by `metrics`, of maps that `explanation` says how to make; its passes must
 * be of running statistics. A larger eval.batch takes no memory for rows that cannot come. On failure nothing is left
 * to free. */
Status evaluator_init(Evaluator *e, const Config *config, Model *model, int64_t images, MetricSet metrics,
                      const ExplainOptions *explanation, const float mean[3], const float std[3], Error *err);
/* Fine when not initialised. */
void evaluator_free(Evaluator *e);

/* Evaluates `ids` [n] of a split, n at most the `images` of evaluator_init; every rank returns the same numbers. */
Status evaluator_run(Evaluator *e, const Dataset *dataset, Split split, const int64_t *ids, int64_t n,
                     EvalResult *result, Error *err);

#endif
