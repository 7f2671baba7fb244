/* Dense layers, f32. */
#ifndef EXCON_CONTRACT_DENSE_H
#define EXCON_CONTRACT_DENSE_H

#include "kernels/device.h"

typedef struct DenseOps {
    /* y [N,out] = relu?(x [N,in] w^T [out,in] + b). b may be NULL. */
    void (*forward)(Device *, int64_t N, int in, int out, const float *x, const float *w, const float *b, int relu,
                    float *y);
    /* dx [N,in] = dy [N,out] w. */
    void (*backward_data)(Device *, int64_t N, int in, int out, const float *dy, const float *w, float *dx);
    /* dw += dy^T x, db += column sums of dy (db may be NULL). */
    void (*backward_weight)(Device *, int64_t N, int in, int out, const float *x, const float *dy, float *dw,
                            float *db);
    /* dy[i] = y[i] > 0 ? dy[i] : 0. */
    void (*relu_backward)(Device *, int64_t n, const float *y, float *dy);
} DenseOps;

#endif
