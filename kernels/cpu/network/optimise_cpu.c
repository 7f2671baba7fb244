/* The optimiser over one flat arena, and the count of non-finite numbers. */
#include "kernels/contract/optimise.h"

#include <math.h>

#include "kernels/cpu/device/cpu_device.h"
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

BODY lars_sums(const LarsPiece *piece, const float *restrict gradient, const float *restrict parameter,
               double sums[2]) {
    double p2 = 0, g2 = 0;
#pragma omp simd reduction(+ : p2, g2)
    for (int64_t i = piece->begin; i < piece->begin + piece->count; i++) {
        p2 += (double)parameter[i] * (double)parameter[i];
        g2 += (double)gradient[i] * (double)gradient[i];
    }
    sums[0] = p2;
    sums[1] = g2;
}

/* The rate of the tensor that a piece is of; sums: of the piece. */
static float lars_rate(const LarsStep *step, const LarsPiece *piece, const double *sums) {
    double p2 = 0, g2 = 0;
    const double *first = sums - 2 * piece->before;
    for (int i = 0; i < piece->pieces; i++) {
        p2 += first[2 * i];
        g2 += first[2 * i + 1];
    }
    if (!piece->adapted || !(p2 > 0) || !(g2 > 0))
        return step->lr;
    const double p = sqrt(p2), g = sqrt(g2);
    return (float)((double)step->lr * (double)step->trust * p / (g + (double)step->weight_decay * p));
}

BODY lars_part(int with_low, const LarsPiece *piece, float rate, float momentum, float decay,
               const float *restrict gradient, float *restrict velocity, float *restrict parameter,
               uint16_t *restrict low) {
#pragma omp simd
    for (int64_t i = piece->begin; i < piece->begin + piece->count; i++) {
        float p = parameter[i];
        float v = momentum * velocity[i] + rate * (gradient[i] + decay * p);
        p -= v;
        velocity[i] = v;
        parameter[i] = p;
        if (with_low)
            low[i] = bf16_of_float(p);
    }
}

static void lars_cpu(Device *device, int count, const LarsPiece *pieces, const LarsStep *step, const float *gradient,
                     float *velocity, float *parameter, void *low, double *sums) {
    int threads = device->threads;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < count; i++)
            lars_sums(&pieces[i], gradient, parameter, sums + 2 * i);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < count; i++) {
            const float rate = lars_rate(step, &pieces[i], sums + 2 * i);
            const float decay = pieces[i].adapted ? step->weight_decay : 0.0f;
            if (low)
                lars_part(1, &pieces[i], rate, step->momentum, decay, gradient, velocity, parameter, (uint16_t *)low);
            else
                lars_part(0, &pieces[i], rate, step->momentum, decay, gradient, velocity, parameter, NULL);
        }
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
    .lars = lars_cpu,
    .nonfinite = guard_nonfinite_cpu,
};
