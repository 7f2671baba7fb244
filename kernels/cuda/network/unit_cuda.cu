/* Unit-norm rows and their gradient; a warp per row, sums in double. */
#include "kernels/contract/unit.h"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"

static __global__ void unit_forward_kernel(int64_t N, int D, const float *__restrict__ x, float *__restrict__ z,
                                           float *__restrict__ inv_norm) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *row = x + n * D;
        double square = 0.0;
        for (int d = lane; d < D; d += WARP)
            square += (double)row[d] * (double)row[d];
        const double norm = sqrt(warp_reduce<Sum>(square));
        const float inverse = (float)(1.0 / (norm < 1e-12 ? 1e-12 : norm)); /* NaN stays */
        for (int d = lane; d < D; d += WARP)
            z[n * D + d] = row[d] * inverse;
        if (lane == 0)
            inv_norm[n] = inverse;
    }
}

static void unit_forward_cuda(Device *device, int64_t N, int D, const float *x, float *z, float *inv_norm) {
    if (N)
        CUDA_LAUNCH(device, unit_forward_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, D, x, z, inv_norm);
}

static __global__ void unit_backward_kernel(int64_t N, int D, const float *__restrict__ z,
                                            const float *__restrict__ inv_norm, const float *__restrict__ dz,
                                            float *__restrict__ dx) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *zs = z + n * D, *dzs = dz + n * D;
        double dot = 0.0;
        for (int d = lane; d < D; d += WARP)
            dot += (double)zs[d] * (double)dzs[d];
        const float along = (float)warp_reduce<Sum>(dot), inverse = inv_norm[n];
        for (int d = lane; d < D; d += WARP)
            dx[n * D + d] = (dzs[d] - zs[d] * along) * inverse;
    }
}

static void unit_backward_cuda(Device *device, int64_t N, int D, const float *z, const float *inv_norm, const float *dz,
                               float *dx) {
    if (N)
        CUDA_LAUNCH(device, unit_backward_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, D, z, inv_norm, dz,
                    dx);
}

extern "C" const UnitOps unit_ops_cuda = {
    .forward = unit_forward_cuda,
    .backward = unit_backward_cuda,
};
