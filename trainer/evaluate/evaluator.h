/* Distributed evaluation of a model on a set of images: accuracy, likelihood, and how faithful its explanations are. */
#ifndef EXCON_TRAINER_EVALUATOR_H
#define EXCON_TRAINER_EVALUATOR_H

#include "io/loader/loader.h"
#include "trainer/data/feed.h"
#include "trainer/evaluate/sheet.h"
#include "trainer/method/explain.h"

/* With o and p the softmax probability of the predicted class before and after an image was reduced to its explanation:
 */
typedef struct Faithfulness {
    double drop;     /* mean max(0, o-p)/o */
    double increase; /* share of p > o */
    double gain;     /* mean max(0, p-o)/o */
    double decrease; /* share of o > p */
} Faithfulness;

/* How an image is reduced: the top 15 % of pixels stay (the published ExCon), or the whole normalised image is
 * multiplied by its map on 0..1 (Grad-CAM++, Chattopadhyay et al. 2018). The numbers do not compare. */
enum { EVAL_TOP = 1, EVAL_SOFT = 2 };

typedef struct EvalResult {
    int64_t count;
    int64_t nonfinite;      /* images whose outputs are NaN or infinite: no hits; they make the numbers below NaN */
    double top1, top5;      /* fractions */
    double nll;             /* mean, nats */
    int reductions;         /* EVAL_TOP, EVAL_SOFT: which of the two below were measured */
    Faithfulness top, soft; /* else 0 */
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
    Sheet *sheet; /* borrowed, may be NULL: rank 0 fills it from the first batch */
} Evaluator;

/* Pixels kept by drop and increase: int(0.15 * H * W): the published code's share. */
#define EVAL_KEEP_SHARE 0.15

/* For evaluations of up to `images` images: a larger eval.batch takes no memory for rows that cannot come. */
Status evaluator_init(Evaluator *e, const Config *config, Model *model, int64_t images, const float mean[3],
                      const float std[3], Error *err);
void evaluator_free(Evaluator *e);

/* Evaluates `ids` [n] of a split, n at most the `images` of evaluator_init; every rank returns the same numbers.
 * `reductions` (0, or EVAL_TOP | EVAL_SOFT) also computes drop and increase. */
Status evaluator_run(Evaluator *e, const Dataset *dataset, Split split, const int64_t *ids, int64_t n, int reductions,
                     EvalResult *result, Error *err);

#endif
