/* The optimiser over one flat arena, and the count of non-finite numbers.
 *
 * Four numbers at a time from the first 16-byte boundary on; the few before and behind it one by one. Arrays whose
 * boundaries lie at different elements are walked one by one throughout. */
#include "kernels/contract/optimise.h"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"

/* Items of a walk over n numbers: `fours` groups of four from element `head` on, then the single ones. */
typedef struct Cut {
    int64_t n, head, fours;
} Cut;

static Cut cut_singly(int64_t n) {
    return Cut{n, 0, 0};
}

static Cut cut_of(int64_t n, const float *x) {
    if ((uintptr_t)x % 4 != 0)
        return cut_singly(n);
    const int64_t before = (int64_t)(-(uintptr_t)x / 4 % 4), head = before < n ? before : n;
    return Cut{n, head, (n - head) / 4};
}

static int64_t cut_items(const Cut &cut) {
    return cut.n - 3 * cut.fours;
}

static __device__ __forceinline__ int64_t cut_four(const Cut &cut, int64_t item) {
    return cut.head + 4 * item;
}

/* Item `item` >= fours: the element it is. */
static __device__ __forceinline__ int64_t cut_single(const Cut &cut, int64_t item) {
    const int64_t at = item - cut.fours;
    return at < cut.head ? at : at + 4 * cut.fours;
}

static __device__ __forceinline__ void sgd_one(const SgdStep &step, float gradient, float *velocity, float *parameter) {
    *velocity = step.momentum * *velocity + (gradient + step.weight_decay * *parameter);
    *parameter -= step.lr * *velocity;
}

static __device__ __forceinline__ void sgd_four(const SgdStep &step, const float *gradient, float *velocity,
                                                float *parameter, bf16 *low) {
    float g[4], v[4], p[4];
    lanes_load(gradient, g);
    lanes_load(velocity, v);
    lanes_load(parameter, p);
    for (int i = 0; i < 4; i++)
        sgd_one(step, g[i], &v[i], &p[i]);
    lanes_store(velocity, v);
    lanes_store(parameter, p);
    if (low)
        *reinterpret_cast<uint2 *>(low) = make_uint2(bf16_bits(p[0], p[1]), bf16_bits(p[2], p[3]));
}

static __global__ void sgd_kernel(Cut cut, int64_t items, SgdStep step, const float *__restrict__ gradient,
                                  float *__restrict__ velocity, float *__restrict__ parameter, bf16 *__restrict__ low) {
    for (int64_t item = grid_first(); item < items; item += grid_step()) {
        if (item < cut.fours) {
            const int64_t at = cut_four(cut, item);
            sgd_four(step, gradient + at, velocity + at, parameter + at, low ? low + at : NULL);
        } else {
            const int64_t at = cut_single(cut, item);
            sgd_one(step, gradient[at], velocity + at, parameter + at);
            if (low)
                element_store(low + at, parameter[at]);
        }
    }
}

static void sgd_cuda(Device *device, int64_t n, const SgdStep *step, const float *gradient, float *velocity,
                     float *parameter, void *low) {
    if (n == 0)
        return;
    Cut cut = cut_of(n, parameter);
    const uintptr_t at = (uintptr_t)parameter % 16, low_at = low ? (uintptr_t)((bf16 *)low + cut.head) % 8 : 0;
    if ((uintptr_t)gradient % 16 != at || (uintptr_t)velocity % 16 != at || low_at != 0)
        cut = cut_singly(n);
    const int64_t items = cut_items(cut);
    CUDA_LAUNCH(device, sgd_kernel, blocks_for(device, items, BLOCK), BLOCK, 0, cut, items, *step, gradient, velocity,
                parameter, (bf16 *)low);
}

/* ---- LARS: a block per piece, twice: its sums of squares, then its update with those of its tensor's pieces ------ */

static __global__ void lars_sums_kernel(const LarsPiece *__restrict__ pieces, const float *__restrict__ gradient,
                                        const float *__restrict__ parameter, double *__restrict__ sums) {
    const LarsPiece piece = pieces[blockIdx.x];
    const int64_t fours = piece.count / 4;
    double p2 = 0, g2 = 0;
    for (int64_t four = threadIdx.x; four < fours; four += blockDim.x) {
        float p[4], g[4];
        lanes_load(parameter + piece.begin + 4 * four, p);
        lanes_load(gradient + piece.begin + 4 * four, g);
        p2 += (double)(p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + p[3] * p[3]);
        g2 += (double)(g[0] * g[0] + g[1] * g[1] + g[2] * g[2] + g[3] * g[3]);
    }
    for (int64_t i = piece.begin + 4 * fours + threadIdx.x; i < piece.begin + piece.count; i += blockDim.x) {
        p2 += (double)parameter[i] * (double)parameter[i];
        g2 += (double)gradient[i] * (double)gradient[i];
    }
    p2 = block_reduce<Sum>(p2, 0.0);
    g2 = block_reduce<Sum>(g2, 0.0);
    if (threadIdx.x == 0) {
        sums[2 * (int64_t)blockIdx.x] = p2;
        sums[2 * (int64_t)blockIdx.x + 1] = g2;
    }
}

/* The rate of the tensor that this block's piece is of. Every thread of the block calls. */
static __device__ __forceinline__ float lars_rate(const LarsStep &step, const LarsPiece &piece,
                                                  const double *__restrict__ sums) {
    const double *first = sums + 2 * ((int64_t)blockIdx.x - piece.before);
    double p2 = 0, g2 = 0;
    for (int i = threadIdx.x; i < piece.pieces; i += blockDim.x) {
        p2 += first[2 * i];
        g2 += first[2 * i + 1];
    }
    p2 = block_reduce<Sum>(p2, 0.0);
    g2 = block_reduce<Sum>(g2, 0.0);
    if (!piece.adapted || !(p2 > 0) || !(g2 > 0))
        return step.lr;
    const double p = sqrt(p2), g = sqrt(g2);
    return (float)((double)step.lr * (double)step.trust * p / (g + (double)step.weight_decay * p));
}

static __device__ __forceinline__ void lars_one(float momentum, float rate, float decay, float gradient,
                                                float *velocity, float *parameter) {
    *velocity = momentum * *velocity + rate * (gradient + decay * *parameter);
    *parameter -= *velocity;
}

static __global__ void lars_kernel(const LarsPiece *__restrict__ pieces, LarsStep step,
                                   const float *__restrict__ gradient, float *__restrict__ velocity,
                                   float *__restrict__ parameter, bf16 *__restrict__ low,
                                   const double *__restrict__ sums) {
    const LarsPiece piece = pieces[blockIdx.x];
    const float rate = lars_rate(step, piece, sums), decay = piece.adapted ? step.weight_decay : 0.0f;
    const int64_t fours = piece.count / 4;
    for (int64_t four = threadIdx.x; four < fours; four += blockDim.x) {
        const int64_t at = piece.begin + 4 * four;
        float g[4], v[4], p[4];
        lanes_load(gradient + at, g);
        lanes_load(velocity + at, v);
        lanes_load(parameter + at, p);
        for (int i = 0; i < 4; i++)
            lars_one(step.momentum, rate, decay, g[i], &v[i], &p[i]);
        lanes_store(velocity + at, v);
        lanes_store(parameter + at, p);
        if (low)
            *reinterpret_cast<uint2 *>(low + at) = make_uint2(bf16_bits(p[0], p[1]), bf16_bits(p[2], p[3]));
    }
    for (int64_t i = piece.begin + 4 * fours + threadIdx.x; i < piece.begin + piece.count; i += blockDim.x) {
        lars_one(step.momentum, rate, decay, gradient[i], velocity + i, parameter + i);
        if (low)
            element_store(low + i, parameter[i]);
    }
}

static void lars_cuda(Device *device, int count, const LarsPiece *pieces, const LarsStep *step, const float *gradient,
                      float *velocity, float *parameter, void *low, double *sums) {
    if (count == 0)
        return;
    CUDA_LAUNCH(device, lars_sums_kernel, count, BLOCK, 0, pieces, gradient, parameter, sums);
    CUDA_LAUNCH(device, lars_kernel, count, BLOCK, 0, pieces, *step, gradient, velocity, parameter, (bf16 *)low, sums);
}

static __device__ __forceinline__ int is_nonfinite(float x) {
    return (__float_as_uint(x) & 0x7F800000u) == 0x7F800000u;
}

/* Counts are integers, so the order of the blocks' additions does not matter. */
static __global__ void guard_kernel(Cut cut, int64_t items, const float *__restrict__ x, unsigned long long *count) {
    int found = 0;
    for (int64_t item = grid_first(); item < items; item += grid_step()) {
        if (item < cut.fours) {
            float v[4];
            lanes_load(x + cut_four(cut, item), v);
            for (int i = 0; i < 4; i++)
                found += is_nonfinite(v[i]);
        } else {
            found += is_nonfinite(x[cut_single(cut, item)]);
        }
    }
    found = block_reduce<Sum>(found, 0);
    if (threadIdx.x == 0 && found)
        atomicAdd(count, (unsigned long long)found);
}

static void guard_nonfinite_cuda(Device *device, int64_t n, const float *x, int64_t *count) {
    if (n == 0)
        return;
    const Cut cut = cut_of(n, x);
    const int64_t items = cut_items(cut);
    CUDA_LAUNCH(device, guard_kernel, blocks_for(device, items, BLOCK), BLOCK, 0, cut, items, x,
                (unsigned long long *)count);
}

extern "C" const OptimiseOps optimise_ops_cuda = {
    .sgd = sgd_cuda,
    .lars = lars_cuda,
    .nonfinite = guard_nonfinite_cuda,
};
