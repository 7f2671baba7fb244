/* Classification from logits [N,C]: loss, prediction, rank, probability. */
#ifndef EXCON_CONTRACT_CLASSIFY_H
#define EXCON_CONTRACT_CLASSIFY_H

#include "kernels/device.h"

typedef struct ClassifyOps {
    /* losses [N] f32 = -log softmax(logits)[label]; dlogits [N,C] (may be NULL) = weight * (softmax - onehot). */
    void (*loss)(Device *, int64_t N, int C, const float *logits, const int32_t *labels, float weight, float *losses,
                 float *dlogits);
    /* predicted [N] = argmax (lowest index on ties); -1 for a row with a NaN, which is of no class. */
    void (*predict)(Device *, int64_t N, int C, const float *logits, int32_t *predicted);
    /* rank [N] = number of classes placed before the label (larger logit, equal with lower index, or NaN): top-k = rank
     * < k for k up to C. A label with a NaN logit ranks C. */
    void (*rank)(Device *, int64_t N, int C, const float *logits, const int32_t *labels, int32_t *rank);
    /* p [N] = softmax(logits)[target]. */
    void (*probability)(Device *, int64_t N, int C, const float *logits, const int32_t *target, float *p);
    /* dlogits [N,C] = onehot(target): the seed of Grad-CAM's backward. */
    void (*onehot)(Device *, int64_t N, int C, const int32_t *target, float *dlogits);
    /* equal [N] = a[i] == b[i]. */
    void (*equal)(Device *, int64_t N, const int32_t *a, const int32_t *b, int32_t *equal);
} ClassifyOps;

#endif
