/* Distributed evaluation of a model on a set of images: accuracy, likelihood, and how faithful its explanations are. */
#ifndef EXCON_TRAINER_EVALUATOR_H
#define EXCON_TRAINER_EVALUATOR_H

#include "io/loader/loader.h"
#include "trainer/method/explain.h"
#include "trainer/run/feed.h"

typedef struct EvalResult {
    int64_t count;
    double top1, top5; /* fractions */
    double nll;        /* mean, nats */
    /* With o and p the softmax probability of the predicted class before and after keeping the top 15 % of pixels: */
    int explained;
    double drop;     /* mean max(0, o-p)/o */
    double increase; /* share of p > o */
    double gain;     /* mean max(0, p-o)/o */
    double decrease; /* share of o > p */
} EvalResult;

typedef struct Evaluator {
    const Config *config;
    Model *model;
    Comm *comm;
    Heads heads;
    Explainer explainer;
    Feed feed;
    int64_t batch, max_rows; /* global, of this rank */
    void *arena;
    size_t arena_bytes;
    void *images;                       /* [max_rows,S,S,3] of dtype */
    int32_t *labels, *predicted, *rank; /* device [max_rows] */
    float *before, *after;              /* device [max_rows] */
    void *block;
    size_t block_bytes;
    float *host_f; /* [max_rows] each, host */
    float *host_g;
    int32_t *host_i;
} Evaluator;

/* Pixels kept by drop and increase: int(0.15 * H * W): the published code's share. */
#define EVAL_KEEP_SHARE 0.15

Status evaluator_init(Evaluator *e, const Config *config, Model *model, const float mean[3], const float std[3],
                      Error *err);
void evaluator_free(Evaluator *e);

/* Evaluates `ids` of a split; every rank returns the same numbers. `explain` also computes drop and increase. */
Status evaluator_run(Evaluator *e, const Dataset *dataset, Split split, const int64_t *ids, int64_t n, int explain,
                     EvalResult *result, Error *err);

#endif
