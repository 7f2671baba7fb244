/* Steps of the optimiser over one flat array of parameters, and the count that tells a diverged run. */
#ifndef EXCON_CONTRACT_OPTIMISE_H
#define EXCON_CONTRACT_OPTIMISE_H

#include "kernels/device.h"

typedef struct SgdStep {
    float lr, momentum, weight_decay;
} SgdStep;

/* A piece of a flat array that holds several named tensors. The pieces of one tensor follow each other. */
typedef struct LarsPiece {
    int64_t begin, count;   /* elements; begin is a multiple of 4 */
    int32_t before, pieces; /* of this tensor: pieces that stand before this one, and how many it has in all */
    int32_t adapted;        /* 0: momentum alone, without trust and weight decay */
    int32_t padding;
} LarsPiece;

typedef struct LarsStep {
    float lr, momentum, weight_decay, trust;
} LarsStep;

typedef struct OptimiseOps {
    /* torch.optim.SGD: v = momentum*v + (g + weight_decay*p); p -= lr*v; low (bf16, may be NULL) = bf16(p). */
    void (*sgd)(Device *, int64_t n, const SgdStep *, const float *gradient, float *velocity, float *parameter,
                void *low);
    /* LARS (You et al. 2017, algorithm 1), with g, p, v a tensor's gradient, parameters and velocity:
     *
     *     rate = lr * trust * |p| / (|g| + weight_decay * |p|)
     *     v    = momentum*v + rate*(g + weight_decay*p);  p -= v;  low (bf16, may be NULL) = bf16(p)
     *
     * where a tensor that is not adapted has rate lr and no weight decay, and one whose |p| or |g| is 0 rate lr. Over
     * `count` pieces (device), which make up whole tensors; the arrays are those that the pieces count in, from a
     * 16-byte boundary on. sums [2*count] f64 is scratch: |p|^2 and |g|^2 of every piece. Numbers outside of the pieces
     * stay. The same bits for the same pieces, whatever runs beside it. */
    void (*lars)(Device *, int count, const LarsPiece *pieces, const LarsStep *, const float *gradient, float *velocity,
                 float *parameter, void *low, double *sums);
    /* count [1] i64 += number of NaN or Inf in x. */
    void (*nonfinite)(Device *, int64_t n, const float *x, int64_t *count);
} OptimiseOps;

#endif
