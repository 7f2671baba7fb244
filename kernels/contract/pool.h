/* Global average pooling. */
#ifndef EXCON_CONTRACT_POOL_H
#define EXCON_CONTRACT_POOL_H

#include "kernels/device.h"

typedef struct PoolOps {
    /* features [N,C] f32 = mean over HW of x [N,HW,C]; and dx [N,HW,C] = dfeatures / HW. */
    void (*forward)(Device *, int64_t N, int HW, int C, DType, const void *x, float *features);
    void (*backward)(Device *, int64_t N, int HW, int C, DType, const float *dfeatures, void *dx);
} PoolOps;

#endif
