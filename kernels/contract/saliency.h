/* Class activation maps and the masks made of them (Selvaraju et al. 2017; the published ExCon's variant). */
#ifndef EXCON_CONTRACT_SALIENCY_H
#define EXCON_CONTRACT_SALIENCY_H

#include "kernels/device.h"

typedef struct SaliencyOps {
    /* alpha [N,C] f32 = mean over HW of dA [N,HW,C]. */
    void (*weights)(Device *, int64_t N, int HW, int C, DType, const void *dA, float *alpha);
    /* Grad-CAM++'s channel weights (Chattopadhyay et al. 2018) in their closed form for the score exp(logit), of which
     * dA [N,HW,C] are the logit's derivatives g by A [N,HW,C]: with a = the sum of A over HW,
     *     alpha [N,C] f32 = sum over HW of relu(g) * g^2 / (2 g^2 + a g^3 + 1e-6).
     * exp(logit), a positive factor of the whole image, is left out, and 1e-6 put in, as pytorch-grad-cam does. */
    void (*weights_plus)(Device *, int64_t N, int HW, int C, DType, const void *A, const void *dA, float *alpha);
    /* cam [N,HW] f32 = sum_c alpha[n,c] A[n,hw,c]; relu: negatives to 0. */
    void (*cam)(Device *, int64_t N, int HW, int C, DType, const void *A, const float *alpha, int relu, float *cam);
    /* cam [N,H,W] f32 = sum over channels of (signed) x [N,H,W,C] (* weight [N,H,W,C] if not NULL): input attributions.
     */
    void (*channel_sum)(Device *, int64_t N, int HW, int C, DType, const void *x, const void *weight, int relu,
                        float *cam);
    /* up [N,H,W]: bilinear, half-pixel centres, edges clamped (torch interpolate, align_corners=False). */
    void (*upsample)(Device *, int64_t N, int h, int w, int H, int W, const float *cam, float *up);
    /* mask [N,HW] f32 0/1: v = up - min; v / (max v + 1e-8) > threshold, strictly; per image. */
    void (*mask)(Device *, int64_t N, int HW, const float *up, float threshold, float *mask);
    /* mask [N,HW] = 1 on the `keep` largest of up (ties: lower index first), for drop/increase. */
    void (*top)(Device *, int64_t N, int HW, const float *up, int keep, float *mask);
    /* out = mask ? x : fill[c], x/out [N,HW,3] of dtype; invert: kept where the mask is 0. */
    void (*apply)(Device *, int64_t N, int HW, DType, const void *x, const float *mask, const float fill[3], int invert,
                  void *out);
    /* out = x times the image's map on 0..1, as `mask` scales it; x/out [N,HW,3] of dtype. A map with a NaN
     * gives 0. */
    void (*soften)(Device *, int64_t N, int HW, DType, const void *x, const float *up, void *out);
} SaliencyOps;

#endif
