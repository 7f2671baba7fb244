/* Convolutions, NHWC, square kernels, symmetric padding, no bias except through the epilogue.
 *
 * x [N,H,W,C], w [K,R,R,C], y [N,P,Q,K] with P = (H + 2 pad - R) / stride + 1. x, w, y share one dtype (f32 or bf16);
 * accumulation is f32; weight gradients are always f32. A ConvPlan is created once per layer; plans for each row count
 * met are cached inside it (ragged batches), and scratch memory is shared by all plans of a device. Row count 0 is
 * valid everywhere: nothing is read or written.
 *
 * Images are independent of each other in forward and backward data, so a caller may pass more rows than it has data
 * for, where its tensors have room: results of its own rows are the same, those of the others are nobody's. For a
 * weight gradient the rows without data are zero in x and dy. Where Device.slow_to_plan says so, this is how callers
 * whose row counts vary keep to few of them. */
#ifndef EXCON_CONTRACT_CONV_H
#define EXCON_CONTRACT_CONV_H

#include "kernels/device.h"

typedef struct ConvGeometry {
    int H, W, C, K, R, stride, pad;
} ConvGeometry;

static inline int conv_out(int in, int r, int stride, int pad) {
    return (in + 2 * pad - r) / stride + 1;
}

/* What follows the convolution in inference with batch norm folded into w: y = relu?(conv + bias (+ y)).
 * `bias` [K] f32; `add`: y holds the residual on entry and is overwritten. */
typedef struct ConvEpilogue {
    const float *bias;
    int add, relu;
} ConvEpilogue;

typedef struct ConvPlan ConvPlan; /* opaque, per backend */

typedef struct ConvOps {
    /* STATUS_CONFIG for a geometry that no convolution has, or that the backend cannot compute; then *out is NULL. */
    Status (*create)(Device *, const ConvGeometry *, DType, ConvPlan **out, Error *);
    /* NULL is allowed. */
    void (*destroy)(Device *, ConvPlan *);
    /* y = conv(x, w), then the epilogue if not NULL. */
    void (*forward)(Device *, ConvPlan *, int64_t N, const void *x, const void *w, const ConvEpilogue *, void *y);
    /* dx = conv^T(dy, w). */
    void (*backward_data)(Device *, ConvPlan *, int64_t N, const void *dy, const void *w, void *dx);
    /* dw [K,R,R,C] f32 += x (*) dy. */
    void (*backward_weight)(Device *, ConvPlan *, int64_t N, const void *x, const void *dy, float *dw);
} ConvOps;

#endif
