/* Between conv.c and norm.c alone: a norm right after a convolution is folded into it in passes with running
 * statistics. The convolution then has the norm's scale in its weights, adds the norm's shift and residual and applies
 * its ReLU, and leaves the norm's output; the norm has nothing to do. */
#ifndef EXCON_TRAINER_FOLDING_H
#define EXCON_TRAINER_FOLDING_H

#include "trainer/model/build.h"

/* What a folded convolution needs of its norm. */
typedef struct FoldedNorm {
    const float *shift; /* [K] */
    int residual, out;  /* tensors */
    bool relu;
} FoldedNorm;

/* Makes the pair if `norm` is the only reader of what a convolution makes: that convolution, or NULL. */
const Layer *conv_pair(const Model *model, Layer *norm);
/* Folded weights of the convolution: its weights times scale [K]. */
void conv_fold(Model *model, const Layer *conv, const float *scale);

/* Of a norm that has a pair. */
FoldedNorm norm_folded(const Model *model, const Layer *norm);

/* Whether the plan runs a convolution and the norm it is paired with as one. */
static inline bool is_folded(const Plan *plan, const Layer *conv) {
    return conv && conv->out < plan->fold_before;
}

#endif
