/* Batch norm over M = N*H*W positions of C channels (Ioffe & Szegedy 2015). */
#ifndef EXCON_CONTRACT_NORM_H
#define EXCON_CONTRACT_NORM_H

#include "kernels/device.h"

/* What a layer is normalised with, on the device, all [C] f32. Operators read only what their formula names; the rest
 * may be NULL. */
typedef struct NormStatistics {
    float *mean, *invstd; /* invstd = 1/sqrt(biased var + eps) */
    float *scale, *shift; /* gamma*invstd, beta - mean*scale: x*scale + shift is the normalised x */
} NormStatistics;

/* What a layer keeps between steps, on the device, all [C] f32, and its constants. */
typedef struct NormParameters {
    const float *gamma, *beta;
    float *running_mean, *running_var; /* var unbiased */
    float eps;
    float momentum; /* running += momentum*(batch - running) */
} NormParameters;

typedef struct NormOps {
    /* sums [2C] f64 = {sum_m x[m,c], sum_m x[m,c]^2}: the part a SyncBN all-reduce adds over ranks. */
    void (*sums)(Device *, int64_t M, int C, DType, const void *x, double *sums);
    /* All four of `out` from (all-reduced) sums over `count` positions. running_* may be NULL; else they take a step
     * towards the batch's, the unbiased variance's (count 1: biased). count 0 leaves everything untouched. */
    void (*finalize)(Device *, int C, const double *sums, double count, const NormParameters *,
                     const NormStatistics *out);
    /* The same four from running statistics. */
    void (*from_running)(Device *, int C, const NormParameters *, const NormStatistics *out);
    /* y = relu?(x*scale + shift (+ residual)); residual may be NULL. y may be x or residual. */
    void (*apply)(Device *, int64_t M, int C, DType, const void *x, const NormStatistics *, const void *residual,
                  int relu, void *y);
    /* First backward pass. g = dy (+ dy2); dz = relu ? g*(y > 0) : g, written over dy; sums [2C] f64 =
     * {sum_m dz, sum_m dz * xhat}, xhat = (x - mean)*invstd. y NULL with relu: y > 0 is recomputed as x*scale + shift >
     * 0 (only valid without residual). dy2 may be NULL. sums NULL: only dz is made. */
    void (*backward_sums)(Device *, int64_t M, int C, DType, void *dy, const void *dy2, const void *y, const void *x,
                          const NormStatistics *, int relu, double *sums);
    /* dgamma += sums[C..2C), dbeta += sums[0..C): from this rank's own sums, before they are all-reduced. */
    void (*backward_params)(Device *, int C, const double *sums, float *dgamma, float *dbeta);
    /* Second pass, batch statistics: dx = scale * (dz - sums0/count - xhat*sums1/count); sums NULL (running
     * statistics): dx = scale * dz. dx may be dz. */
    void (*backward_apply)(Device *, int64_t M, int C, DType, const void *dz, const void *x, const NormStatistics *,
                           const double *sums, double count, void *dx);
    /* Folds a norm into the convolution before it: w_out[k,:] = w[k,:]*scale[k] (w_out of dtype), n = R*R*C per k. */
    void (*fold)(Device *, int K, int64_t n, const float *w, const float *scale, DType, void *w_out);
} NormOps;

#endif
