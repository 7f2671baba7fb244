/* Bilinear upsampling of saliency maps; inlined by every backend.
 *
 * A mask hangs on whether an upsampled value exceeds a threshold, and maps have plateaus where many do or do not at
 * once. So every rounding is fixed here: fmaf where one is wanted, products that are nobody's addend elsewhere, and
 * nothing left for a compiler to contract. The same map gives the same bits on every backend. */
#ifndef EXCON_CONTRACT_UPSAMPLE_H
#define EXCON_CONTRACT_UPSAMPLE_H

#include <math.h>

#include "kernels/base/philox.h" /* PHILOX_FN */

/* Where an output position falls among source positions: between `first` and `second`, the same at the edge. */
typedef struct UpsampleAt {
    int first, second;
    float share; /* weight of `second` */
} UpsampleAt;

/* Half-pixel centres, edges clamped; ratio = (float)in / (float)out. */
PHILOX_FN UpsampleAt upsample_at(int index, int in, float ratio) {
    float at = fmaf((float)index + 0.5f, ratio, -0.5f);
    at = at > 0.0f ? at : 0.0f;
    UpsampleAt result;
    result.first = (int)at < in - 1 ? (int)at : in - 1;
    result.second = result.first < in - 1 ? result.first + 1 : result.first;
    result.share = at - (float)result.first;
    return result;
}

/* (1 - share) * first + share * second. */
PHILOX_FN float upsample_mix(float first, float second, float share) {
    return fmaf(share, second, (1.0f - share) * first);
}

#endif
