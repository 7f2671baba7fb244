/* Batch norm over M = N*H*W positions of C channels (Ioffe & Szegedy 2015). */
#ifndef EXCON_CONTRACT_NORM_H
#define EXCON_CONTRACT_NORM_H

#include "kernels/device.h"

typedef struct NormOps {
    /* sums [2C] f64 = {sum_m x[m,c], sum_m x[m,c]^2}: the part a SyncBN all-reduce adds over ranks. */
    void (*sums)(Device *, int64_t M, int C, DType, const void *x, double *sums);
    /* From (all-reduced) sums over `count` positions: mean, invstd = 1/sqrt(biased var + eps), scale = gamma*invstd,
     * shift = beta - mean*scale; all [C] f32. running_* may be NULL; else r += momentum*(batch - r) with the unbiased
     * variance (count 1: biased). count 0 leaves everything untouched. */
    void (*finalize)(Device *, int C, const double *sums, double count, float eps, float momentum, const float *gamma,
                     const float *beta, float *mean, float *invstd, float *scale, float *shift, float *running_mean,
                     float *running_var);
    /* The same four from running statistics. */
    void (*from_running)(Device *, int C, float eps, const float *running_mean, const float *running_var,
                         const float *gamma, const float *beta, float *mean, float *invstd, float *scale, float *shift);
    /* y = relu?(x*scale + shift (+ residual)); residual may be NULL. y may be x or residual. */
    void (*apply)(Device *, int64_t M, int C, DType, const void *x, const float *scale, const float *shift,
                  const void *residual, int relu, void *y);
    /* First backward pass. g = dy (+ dy2); dz = relu ? g*(y > 0) : g, written over dy; sums [2C] f64 =
     * {sum_m dz, sum_m dz * xhat}, xhat = (x - mean)*invstd. y NULL with relu: y > 0 is recomputed as x*scale + shift >
     * 0 (only valid without residual). dy2 may be NULL. sums NULL: only dz is made. */
    void (*backward_sums)(Device *, int64_t M, int C, DType, void *dy, const void *dy2, const void *y, const void *x,
                          const float *mean, const float *invstd, const float *scale, const float *shift, int relu,
                          double *sums);
    /* dgamma += sums[C..2C), dbeta += sums[0..C): from this rank's own sums, before they are all-reduced. */
    void (*backward_params)(Device *, int C, const double *sums, float *dgamma, float *dbeta);
    /* Second pass, batch statistics: dx = scale * (dz - sums0/count - xhat*sums1/count); sums NULL (running
     * statistics): dx = scale * dz. dx may be dz. */
    void (*backward_apply)(Device *, int64_t M, int C, DType, const void *dz, const void *x, const float *mean,
                           const float *invstd, const float *scale, const double *sums, double count, void *dx);
    /* Folds a norm into the convolution before it: w_out[k,:] = w[k,:]*scale[k] (w_out of dtype), n = R*R*C per k. */
    void (*fold)(Device *, int K, int64_t n, const float *w, const float *scale, DType, void *w_out);
} NormOps;

#endif
