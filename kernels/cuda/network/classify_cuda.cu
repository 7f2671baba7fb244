/* Softmax cross-entropy, argmax and ranks over logits [N,C]; a warp per row.
 *
 * As on the CPU: exponentials are summed in double after subtracting the row's maximum, a NaN logit makes its row's
 * loss and probability NaN, its argmax no class, and stands before every number in ranks, and a label outside [0, C)
 * gives NaN instead of an access outside the row. */
#include <limits.h>

#include "kernels/contract/classify.h"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"

static __device__ __forceinline__ bool label_valid(int32_t label, int C) {
    return label >= 0 && label < C;
}

/* A row's maximum, NaN apart, and sum of exp(logit - maximum), which a NaN makes NaN. */
struct Softmax {
    float max;
    double sum;

    __device__ __forceinline__ Softmax(const float *row, int C, int lane) {
        float largest = -INFINITY;
        for (int c = lane; c < C; c += WARP)
            largest = Max::of(row[c], largest);
        max = warp_reduce<Max>(largest);
        double part = 0.0;
        for (int c = lane; c < C; c += WARP)
            part += (double)expf(row[c] - max);
        sum = warp_reduce<Sum>(part);
    }
};

static __global__ void classify_loss_kernel(int64_t N, int C, const float *__restrict__ logits,
                                            const int32_t *__restrict__ labels, float weight,
                                            float *__restrict__ losses, float *__restrict__ dlogits) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *row = logits + n * C;
        const int32_t label = labels[n];
        const bool known = label_valid(label, C);
        const Softmax softmax(row, C, lane);
        if (lane == 0)
            losses[n] = known ? (float)(log(softmax.sum) - ((double)row[label] - (double)softmax.max)) : NAN;
        if (!dlogits)
            continue;
        const float inverse = (float)(1.0 / softmax.sum);
        for (int c = lane; c < C; c += WARP) {
            const float power = expf(row[c] - softmax.max);
            dlogits[n * C + c] = weight * (c == label ? (float)((double)power / softmax.sum - 1.0) : power * inverse);
        }
    }
}

static void classify_loss_cuda(Device *device, int64_t N, int C, const float *logits, const int32_t *labels,
                               float weight, float *losses, float *dlogits) {
    if (N)
        CUDA_LAUNCH(device, classify_loss_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, C, logits, labels,
                    weight, losses, dlogits);
}

static __global__ void classify_predict_kernel(int64_t N, int C, const float *__restrict__ logits,
                                               int32_t *__restrict__ predicted) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *row = logits + n * C;
        float best = -INFINITY;
        int at = INT_MAX, nans = 0;
        for (int c = lane; c < C; c += WARP) {
            nans += isnan(row[c]);
            if (row[c] > best) {
                best = row[c];
                at = c;
            }
        }
        nans = warp_reduce<Sum>(nans);
        for (int by = WARP / 2; by > 0; by /= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, best, by);
            const int other_at = __shfl_xor_sync(ALL_LANES, at, by);
            if (other > best || (other == best && other_at < at)) {
                best = other;
                at = other_at;
            }
        }
        if (lane == 0)
            predicted[n] = nans ? -1 : at == INT_MAX ? 0 : at;
    }
}

static void classify_predict_cuda(Device *device, int64_t N, int C, const float *logits, int32_t *predicted) {
    if (N)
        CUDA_LAUNCH(device, classify_predict_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, C, logits,
                    predicted);
}

static __global__ void classify_rank_kernel(int64_t N, int C, const float *__restrict__ logits,
                                            const int32_t *__restrict__ labels, int32_t *__restrict__ rank) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *row = logits + n * C;
        const int32_t label = labels[n];
        const float own = label_valid(label, C) ? row[label] : NAN;
        int before = 0;
        for (int c = lane; c < C; c += WARP)
            before += !(row[c] <= own) || (row[c] == own && c < label);
        before = warp_reduce<Sum>(before);
        if (lane == 0)
            rank[n] = isnan(own) ? C : before;
    }
}

static void classify_rank_cuda(Device *device, int64_t N, int C, const float *logits, const int32_t *labels,
                               int32_t *rank) {
    if (N)
        CUDA_LAUNCH(device, classify_rank_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, C, logits, labels,
                    rank);
}

static __global__ void classify_probability_kernel(int64_t N, int C, const float *__restrict__ logits,
                                                   const int32_t *__restrict__ target, float *__restrict__ p) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t n = grid_first() / WARP; n < N; n += grid_step() / WARP) {
        const float *row = logits + n * C;
        const int32_t label = target[n];
        const Softmax softmax(row, C, lane);
        if (lane == 0)
            p[n] = label_valid(label, C) ? (float)((double)expf(row[label] - softmax.max) / softmax.sum) : NAN;
    }
}

static void classify_probability_cuda(Device *device, int64_t N, int C, const float *logits, const int32_t *target,
                                      float *p) {
    if (N)
        CUDA_LAUNCH(device, classify_probability_kernel, blocks_for(device, N, BLOCK / WARP), BLOCK, 0, N, C, logits,
                    target, p);
}

static __global__ void classify_onehot_kernel(int64_t N, int C, const int32_t *__restrict__ target,
                                              float *__restrict__ dlogits) {
    for (int64_t i = grid_first(); i < N * C; i += grid_step())
        dlogits[i] = i % C == target[i / C] ? 1.0f : 0.0f;
}

static void classify_onehot_cuda(Device *device, int64_t N, int C, const int32_t *target, float *dlogits) {
    if (N)
        CUDA_LAUNCH(device, classify_onehot_kernel, blocks_for(device, N * C, BLOCK), BLOCK, 0, N, C, target, dlogits);
}

static __global__ void classify_equal_kernel(int64_t N, const int32_t *__restrict__ a, const int32_t *__restrict__ b,
                                             int32_t *__restrict__ equal) {
    for (int64_t n = grid_first(); n < N; n += grid_step())
        equal[n] = a[n] == b[n];
}

static void classify_equal_cuda(Device *device, int64_t N, const int32_t *a, const int32_t *b, int32_t *equal) {
    if (N)
        CUDA_LAUNCH(device, classify_equal_kernel, blocks_for(device, N, BLOCK), BLOCK, 0, N, a, b, equal);
}

extern "C" const ClassifyOps classify_ops_cuda = {
    .loss = classify_loss_cuda,
    .predict = classify_predict_cuda,
    .rank = classify_rank_cuda,
    .probability = classify_probability_cuda,
    .onehot = classify_onehot_cuda,
    .equal = classify_equal_cuda,
};
