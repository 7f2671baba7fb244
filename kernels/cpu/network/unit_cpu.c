/* Unit-norm rows and their gradient. */
#include <math.h>

#include "kernels/contract/unit.h"
#include "kernels/cpu/device/cpu_device.h"

static void unit_forward_cpu(Device *device, int64_t N, int D, const float *x, float *z, float *inv_norm) {
    int parts = threads_for(device, N * D);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *row = x + n * D;
        double square = 0;
#pragma omp simd reduction(+ : square)
        for (int d = 0; d < D; d++)
            square += (double)row[d] * (double)row[d];
        double norm = sqrt(square);
        float inverse = (float)(1.0 / (norm < 1e-12 ? 1e-12 : norm));
        for (int d = 0; d < D; d++)
            z[n * D + d] = row[d] * inverse;
        inv_norm[n] = inverse;
    }
}

static void unit_backward_cpu(Device *device, int64_t N, int D, const float *z, const float *inv_norm, const float *dz,
                              float *dx) {
    int parts = threads_for(device, N * D);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *zs = z + n * D, *dzs = dz + n * D;
        double dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int d = 0; d < D; d++)
            dot += (double)zs[d] * (double)dzs[d];
        float along = (float)dot, inverse = inv_norm[n];
        for (int d = 0; d < D; d++)
            dx[n * D + d] = (dzs[d] - zs[d] * along) * inverse;
    }
}

const UnitOps unit_ops_cpu = {
    .forward = unit_forward_cpu,
    .backward = unit_backward_cpu,
};
