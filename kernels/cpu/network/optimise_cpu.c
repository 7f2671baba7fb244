/* The optimiser over one flat arena, and the count of non-finite numbers. */
#include "kernels/contract/optimise.h"
#include "kernels/cpu/device/internal.h"
#include "kernels/cpu/device/lanes.h"

BODY sgd_part(int with_low, int64_t n, const SgdStep *step, const float *restrict gradient, float *restrict velocity,
              float *restrict parameter, uint16_t *restrict low) {
    float lr = step->lr, momentum = step->momentum, decay = step->weight_decay;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float p = parameter[i];
        float v = momentum * velocity[i] + (gradient[i] + decay * p);
        p -= lr * v;
        velocity[i] = v;
        parameter[i] = p;
        if (with_low)
            low[i] = bf16_of_float(p);
    }
}

static void sgd_cpu(Device *device, int64_t n, const SgdStep *step, const float *gradient, float *velocity,
                    float *parameter, void *low) {
    int parts = threads_for(device, n);
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of(n, parts, i, 64);
        int64_t at = p.first, count = p.last - p.first;
        if (low)
            sgd_part(1, count, step, gradient + at, velocity + at, parameter + at, (uint16_t *)low + at);
        else
            sgd_part(0, count, step, gradient + at, velocity + at, parameter + at, NULL);
    }
}

static void guard_nonfinite_cpu(Device *device, int64_t n, const float *x, int64_t *count) {
    int parts = threads_for(device, n);
    int64_t found = 0;
#pragma omp parallel for simd num_threads(parts) schedule(static) reduction(+ : found) if (parallel : parts > 1)
    for (int64_t i = 0; i < n; i++)
        found += (bits_of_float(x[i]) & 0x7F800000u) == 0x7F800000u;
    *count += found;
}

const OptimiseOps optimise_ops_cpu = {
    .sgd = sgd_cpu,
    .nonfinite = guard_nonfinite_cpu,
};
