/* A linear classifier fitted on fixed embeddings: how much of the classes is linearly there. */
#ifndef EXCON_TRAINER_LINEAR_PROBE_H
#define EXCON_TRAINER_LINEAR_PROBE_H

#include "trainer/evaluate/embedding/embedding.h"
#include "trainer/evaluate/embedding/lbfgs.h"

typedef struct LinearProbeOptions {
    double l2; /* at least 0; scikit-learn's C is 1 / (n l2) */
    LbfgsOptions fit;
} LinearProbeOptions;

typedef struct LinearProbe {
    int dim, classes;
    double *weights; /* [C,D], then biases [C] */
    LbfgsReport report;
} LinearProbe;

/* Multinomial logistic regression: minimises mean nll + l2/2 sum of the weights' squares (biases are free), from zeros
 * by L-BFGS, over all rows at once; embeddings are taken as they are, not standardised. Labels lie in 0..classes-1. The
 * same bits for any number of threads. STATUS_DATA for a row that is not finite or for n = 0, STATUS_SYSTEM without
 * memory; free with linear_probe_free in any case. */
Status linear_probe_fit(LinearProbe *probe, const EmbeddingSet *train, int classes, const LinearProbeOptions *options,
                        Error *err);
void linear_probe_free(LinearProbe *probe);

/* logits [n,C] of the set's rows. */
void linear_probe_logits(const LinearProbe *probe, const EmbeddingSet *set, float *logits);

#endif
