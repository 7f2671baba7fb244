/* Global average pooling. */
#include "kernels/contract/pool.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"

BODY pool_image(DType type, int HW, int C, const void *x, float *restrict features) {
    for (int c = 0; c < C; c++)
        features[c] = 0.0f;
    for (int p = 0; p < HW; p++)
#pragma omp simd
        for (int c = 0; c < C; c++)
            features[c] += lane_load(type, x, (int64_t)p * C + c);
    for (int c = 0; c < C; c++)
        features[c] /= (float)HW;
}

static void pool_forward_cpu(Device *device, int64_t N, int HW, int C, DType type, const void *x, float *features) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        if (type == DTYPE_BF16)
            pool_image(DTYPE_BF16, HW, C, lane_at(type, x, n * image), features + n * C);
        else
            pool_image(DTYPE_F32, HW, C, lane_at(type, x, n * image), features + n * C);
    }
}

BODY spread_image(DType type, int HW, int C, const float *restrict dfeatures, void *restrict dx) {
    for (int p = 0; p < HW; p++)
#pragma omp simd
        for (int c = 0; c < C; c++)
            lane_store(type, dx, (int64_t)p * C + c, dfeatures[c] / (float)HW);
}

static void pool_backward_cpu(Device *device, int64_t N, int HW, int C, DType type, const float *dfeatures, void *dx) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        if (type == DTYPE_BF16)
            spread_image(DTYPE_BF16, HW, C, dfeatures + n * C, lane_at_out(type, dx, n * image));
        else
            spread_image(DTYPE_F32, HW, C, dfeatures + n * C, lane_at_out(type, dx, n * image));
    }
}

const PoolOps pool_ops_cpu = {
    .forward = pool_forward_cpu,
    .backward = pool_backward_cpu,
};
