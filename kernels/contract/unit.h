/* Rows of unit length: z = x / max(|x|, 1e-12) row by row. */
#ifndef EXCON_CONTRACT_UNIT_H
#define EXCON_CONTRACT_UNIT_H

#include "kernels/device.h"

typedef struct UnitOps {
    /* z [N,D], and inv_norm [N] = 1 / max(|x|, 1e-12) for the gradient. */
    void (*forward)(Device *, int64_t N, int D, const float *x, float *z, float *inv_norm);
    /* dx = (dz - z (z.dz)) * inv_norm. */
    void (*backward)(Device *, int64_t N, int D, const float *z, const float *inv_norm, const float *dz, float *dx);
} UnitOps;

#endif
