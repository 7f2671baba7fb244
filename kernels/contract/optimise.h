/* Steps of the optimiser over one flat array of parameters, and the count that tells a diverged run. */
#ifndef EXCON_CONTRACT_OPTIMISE_H
#define EXCON_CONTRACT_OPTIMISE_H

#include "kernels/device.h"

typedef struct SgdStep {
    float lr, momentum, weight_decay;
} SgdStep;

typedef struct OptimiseOps {
    /* torch.optim.SGD: v = momentum*v + (g + weight_decay*p); p -= lr*v; low (bf16, may be NULL) = bf16(p). */
    void (*sgd)(Device *, int64_t n, const SgdStep *, const float *gradient, float *velocity, float *parameter,
                void *low);
    /* count [1] i64 += number of NaN or Inf in x. */
    void (*nonfinite)(Device *, int64_t n, const float *x, int64_t *count);
} OptimiseOps;

#endif
