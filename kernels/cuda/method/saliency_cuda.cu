/* Class activation maps and the masks made of them.
 *
 * Decisions (masks, the most salient pixels) are made on the same bits as on the CPU: upsampling is one shared
 * definition with every rounding fixed (contract/upsample.h), and the mask's expression has nothing to contract. A map
 * with a NaN anywhere gives an empty mask; saliency_top orders NaN below every number. */
#include "kernels/contract/saliency.h"
#include "kernels/contract/upsample.h"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/rank.cuh"
#include "kernels/cuda/threads/reduce.cuh"
#include "kernels/cuda/threads/runs.cuh"
#include "kernels/ops.h"

static const int WARPS = BLOCK / WARP; /* of a block */

/* Runs the statements with T = float or bf16 and LANES = Lanes<T>::COUNT if `fits`, else 1. */
#define WITH_LANES(type, fits, T, LANES, ...)                                                                          \
    WITH_TYPE(                                                                                                         \
        type, T,                                                                                                       \
        if (fits) {                                                                                                    \
            constexpr int LANES = Lanes<T>::COUNT;                                                                     \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            constexpr int LANES = 1;                                                                                   \
            __VA_ARGS__;                                                                                               \
        })

/* ---- channel weights and activation maps ------------------------------------------------------------------------- */

/* blockIdx.x is the image, blockIdx.y a chunk of 32 * LANES channels. Each warp sums every WARPS-th position; the sums
 * of the warps are then added in their order. */
template <typename T, int LANES>
static __global__ void weights_kernel(int HW, int C, const T *__restrict__ dA, float *__restrict__ alpha) {
    __align__(16) __shared__ float partial[WARPS][WARP * LANES];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int chunk = (int)blockIdx.y * WARP * LANES, c = chunk + lane * LANES;
    const int64_t n = blockIdx.x;
    float sum[LANES] = {};
    if (c < C)
        for (int p = warp; p < HW; p += WARPS) {
            float value[LANES];
            run_load<LANES>(dA + (n * HW + p) * C + c, value);
            for (int l = 0; l < LANES; l++)
                sum[l] += value[l];
        }
    run_store<LANES>(&partial[warp][lane * LANES], sum);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < WARP * LANES && chunk + i < C; i += BLOCK) {
        float total = 0.0f;
        for (int w = 0; w < WARPS; w++)
            total += partial[w][i];
        alpha[n * C + chunk + i] = total / (float)HW;
    }
}

static void saliency_weights_cuda(Device *device, int64_t N, int HW, int C, DType type, const void *dA, float *alpha) {
    if (N == 0)
        return;
    WITH_LANES(type, lanes_fit(type, C, dA), T, LANES,
               const dim3 grid((unsigned)N, (unsigned)ceil_div(C, WARP * LANES));
               CUDA_LAUNCH(device, (weights_kernel<T, LANES>), grid, BLOCK, 0, HW, C, (const T *)dA, alpha));
}

/* Sum over the positions p of an image of value(p), a channel's of LANES values, for the 32 * LANES channels of the
 * block: left in total [WARP * LANES] shared, by all threads. Each warp takes every WARPS-th position; their sums are
 * added in their order. `active`: this lane's channels exist. */
template <int LANES, typename Value>
static __device__ void sum_positions(int HW, bool active, Value value, float partial[][WARP * LANES], float *total) {
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    float sum[LANES] = {};
    if (active)
        for (int p = warp; p < HW; p += WARPS) {
            float values[LANES];
            value(p, values);
            for (int l = 0; l < LANES; l++)
                sum[l] += values[l];
        }
    run_store<LANES>(&partial[warp][lane * LANES], sum);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < WARP * LANES; i += BLOCK) {
        total[i] = 0.0f;
        for (int w = 0; w < WARPS; w++)
            total[i] += partial[w][i];
    }
    __syncthreads();
}

/* One position's part of a Grad-CAM++ weight; g is the derivative, mass the channel's sum of activations. */
static __device__ __forceinline__ float plus_part(float g, float mass) {
    const float square = g * g;
    return g <= 0.0f ? 0.0f : g * square / (2.0f * square + mass * square * g + 1e-6f);
}

/* blockIdx.x is the image, blockIdx.y a chunk of 32 * LANES channels: first their sums of A, then their weights. */
template <typename T, int LANES>
static __global__ void weights_plus_kernel(int HW, int C, const T *__restrict__ A, const T *__restrict__ dA,
                                           float *__restrict__ alpha) {
    __align__(16) __shared__ float partial[WARPS][WARP * LANES];
    __shared__ float mass[WARP * LANES], total[WARP * LANES];
    const int lane = (int)threadIdx.x % WARP, chunk = (int)blockIdx.y * WARP * LANES, c = chunk + lane * LANES;
    const int64_t image = (int64_t)blockIdx.x * HW * C;
    sum_positions<LANES>(
        HW, c < C, [&](int p, float *value) { run_load<LANES>(A + image + (int64_t)p * C + c, value); }, partial, mass);
    sum_positions<LANES>(
        HW, c < C,
        [&](int p, float *value) {
            run_load<LANES>(dA + image + (int64_t)p * C + c, value);
            for (int l = 0; l < LANES; l++)
                value[l] = plus_part(value[l], mass[lane * LANES + l]);
        },
        partial, total);
    for (int i = (int)threadIdx.x; i < WARP * LANES && chunk + i < C; i += BLOCK)
        alpha[(int64_t)blockIdx.x * C + chunk + i] = total[i];
}

static void saliency_weights_plus_cuda(Device *device, int64_t N, int HW, int C, DType type, const void *A,
                                       const void *dA, float *alpha) {
    if (N == 0)
        return;
    WITH_LANES(type, lanes_fit(type, C, A) && lanes_fit(type, C, dA), T, LANES,
               const dim3 grid((unsigned)N, (unsigned)ceil_div(C, WARP * LANES));
               CUDA_LAUNCH(device, (weights_plus_kernel<T, LANES>), grid, BLOCK, 0, HW, C, (const T *)A, (const T *)dA,
                           alpha));
}

/* Negative values become 0; NaN stays. */
static __device__ __forceinline__ float rectify(float value) {
    return value < 0.0f ? 0.0f : value;
}

static const int POSITIONS = 4; /* that a warp works on at once, so that it reads the weights a fourth as often */

/* blockIdx.x is the image; each warp takes POSITIONS positions, its lanes share their channels. */
template <typename T, int LANES>
static __global__ void cam_kernel(int HW, int C, const T *__restrict__ A, const float *__restrict__ alpha, int relu,
                                  float *__restrict__ cam) {
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int first = ((int)blockIdx.y * WARPS + warp) * POSITIONS, count = min(HW - first, POSITIONS);
    const int64_t n = blockIdx.x;
    if (count <= 0)
        return;
    const T *positions = A + (n * HW + first) * C;
    float sum[POSITIONS] = {};
    for (int c = lane * LANES; c < C; c += WARP * LANES) {
        float weight[LANES];
        run_load<LANES>(alpha + n * C + c, weight);
        for (int p = 0; p < POSITIONS; p++) {
            float value[LANES];
            run_load<LANES>(positions + (int64_t)min(p, count - 1) * C + c, value);
            for (int l = 0; l < LANES; l++)
                sum[p] += weight[l] * value[l];
        }
    }
    float mine = 0.0f;
    for (int p = 0; p < POSITIONS; p++) {
        const float total = warp_reduce<Sum>(sum[p]);
        mine = lane == p ? total : mine;
    }
    if (lane < count)
        cam[n * HW + first + lane] = relu ? rectify(mine) : mine;
}

static void saliency_cam_cuda(Device *device, int64_t N, int HW, int C, DType type, const void *A, const float *alpha,
                              int relu, float *cam) {
    if (N == 0)
        return;
    const dim3 grid((unsigned)N, (unsigned)ceil_div(HW, WARPS * POSITIONS));
    WITH_LANES(type, lanes_fit(type, C, A) && (uintptr_t)alpha % 16 == 0, T, LANES,
               CUDA_LAUNCH(device, (cam_kernel<T, LANES>), grid, BLOCK, 0, HW, C, (const T *)A, alpha, relu, cam));
}

/* A thread per position: attributions have three channels, and neighbours share their cache lines. */
template <typename T>
static __global__ void channel_sum_kernel(int64_t positions, int C, const T *__restrict__ x,
                                          const T *__restrict__ weight, int relu, float *__restrict__ cam) {
    for (int64_t i = grid_first(); i < positions; i += grid_step()) {
        float sum = 0.0f;
        for (int64_t e = i * C; e < (i + 1) * C; e++)
            sum += weight ? element_load(x + e) * element_load(weight + e) : element_load(x + e);
        cam[i] = relu ? rectify(sum) : sum;
    }
}

static void saliency_channel_sum_cuda(Device *device, int64_t N, int HW, int C, DType type, const void *x,
                                      const void *weight, int relu, float *cam) {
    const int64_t positions = N * HW;
    if (positions)
        WITH_TYPE(type, T,
                  CUDA_LAUNCH(device, channel_sum_kernel<T>, blocks_for(device, positions, BLOCK), BLOCK, 0, positions,
                              C, (const T *)x, (const T *)weight, relu, cam));
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

/* LANES consecutive pixels per thread; blockIdx.x is the image. */
template <int LANES>
static __global__ void upsample_kernel(int h, int w, int H, int W, const float *__restrict__ cam,
                                       float *__restrict__ up) {
    const float ratio_y = (float)h / (float)H, ratio_x = (float)w / (float)W;
    const int first = ((int)blockIdx.y * BLOCK + (int)threadIdx.x) * LANES;
    const int64_t n = blockIdx.x;
    if (first >= H * W)
        return;
    const float *map = cam + n * h * w;
    float out[LANES];
    for (int l = 0; l < LANES; l++) {
        const int y = (first + l) / W, x = (first + l) % W;
        const UpsampleAt row = upsample_at(y, h, ratio_y), column = upsample_at(x, w, ratio_x);
        const float *upper = map + row.first * w, *lower = map + row.second * w;
        const float top = upsample_mix(upper[column.first], upper[column.second], column.share);
        const float bottom = upsample_mix(lower[column.first], lower[column.second], column.share);
        out[l] = upsample_mix(top, bottom, row.share);
    }
    run_store<LANES>(up + n * H * W + first, out);
}

static void saliency_upsample_cuda(Device *device, int64_t N, int h, int w, int H, int W, const float *cam, float *up) {
    if (N == 0)
        return;
    const bool fits = lanes_fit(DTYPE_F32, H * W, up);
    const dim3 grid((unsigned)N, (unsigned)ceil_div(H * W, fits ? BLOCK * 4 : BLOCK));
    if (fits)
        CUDA_LAUNCH(device, upsample_kernel<4>, grid, BLOCK, 0, h, w, H, W, cam, up);
    else
        CUDA_LAUNCH(device, upsample_kernel<1>, grid, BLOCK, 0, h, w, H, W, cam, up);
}

typedef struct Range {
    float low, divisor; /* v -> (v - low) / divisor brings the map into 0..1 */
} Range;

/* Of one image's map, by its whole block. A NaN makes both infinite, and every quotient NaN. */
template <int LANES> static __device__ Range range_of(int HW, const float *__restrict__ map) {
    float low = INFINITY, high = -INFINITY;
    for (int p = (int)threadIdx.x * LANES; p < HW; p += BLOCK * LANES) {
        float value[LANES];
        run_load<LANES>(map + p, value);
        for (int l = 0; l < LANES; l++) {
            low = value[l] == value[l] ? Min::of(value[l], low) : -INFINITY;
            high = Max::of(value[l], high);
        }
    }
    low = block_reduce<Min>(low, INFINITY);
    high = block_reduce<Max>(high, -INFINITY);
    return {low, high - low + 1e-8f};
}

/* One block per image. */
template <int LANES>
static __global__ void mask_kernel(int HW, const float *__restrict__ up, float threshold, float *__restrict__ mask) {
    const int64_t image = (int64_t)blockIdx.x * HW;
    const Range range = range_of<LANES>(HW, up + image);
    for (int p = (int)threadIdx.x * LANES; p < HW; p += BLOCK * LANES) {
        float value[LANES];
        run_load<LANES>(up + image + p, value);
        for (int l = 0; l < LANES; l++)
            value[l] = (value[l] - range.low) / range.divisor > threshold ? 1.0f : 0.0f;
        run_store<LANES>(mask + image + p, value);
    }
}

static void saliency_mask_cuda(Device *device, int64_t N, int HW, const float *up, float threshold, float *mask) {
    if (N == 0)
        return;
    if (lanes_fit(DTYPE_F32, HW, up) && lanes_fit(DTYPE_F32, HW, mask))
        CUDA_LAUNCH(device, mask_kernel<4>, (unsigned)N, BLOCK, 0, HW, up, threshold, mask);
    else
        CUDA_LAUNCH(device, mask_kernel<1>, (unsigned)N, BLOCK, 0, HW, up, threshold, mask);
}

/* Unsigned key in the order of the numbers; NaN is 0, both zeros are equal. */
static __device__ __forceinline__ uint32_t order_key(float value) {
    const uint32_t bits = __float_as_uint(value + 0.0f);
    const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return value == value ? key : 0u;
}

/* One step of the radix selection. */
typedef struct Narrowed {
    uint32_t byte; /* of the key that is looked for */
    int wanted;    /* how many of the values with that byte are to be kept */
} Narrowed;

/* Where, counted from the highest byte down, the `wanted`-th value lies. Warp 0 calls. */
static __device__ __forceinline__ void narrow_down(const int histogram[256], int wanted, Narrowed *out) {
    const int lane = (int)threadIdx.x % WARP, top = 255 - 8 * lane;
    int own = 0;
    for (int k = 0; k < 8; k++)
        own += histogram[top - k];
    int through = own; /* values in this lane's bytes and all above */
    for (int by = 1; by < WARP; by <<= 1) {
        const int above = __shfl_up_sync(ALL_LANES, through, by);
        through += lane >= by ? above : 0;
    }
    int left = wanted - (through - own);
    if (left <= 0 || left > own)
        return;
    int byte = top;
    while (histogram[byte] < left)
        left -= histogram[byte--];
    out->byte = (uint32_t)byte;
    out->wanted = left;
}

/* One block per image: four passes narrow down the key of the `keep`-th largest value byte by byte, 0 < keep <= HW;
 * then the values above it are kept, and of those equal to it the first ones. */
static __global__ void top_kernel(int HW, const float *__restrict__ up, int keep, float *__restrict__ mask) {
    __shared__ int histogram[256];
    __shared__ Narrowed narrowed;
    const float *map = up + (int64_t)blockIdx.x * HW;
    float *kept = mask + (int64_t)blockIdx.x * HW;
    uint32_t prefix = 0, known = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = (int)threadIdx.x; i < 256; i += BLOCK)
            histogram[i] = 0;
        __syncthreads();
        for (int p = (int)threadIdx.x; p < HW; p += BLOCK) {
            const uint32_t key = order_key(map[p]);
            if ((key & known) == prefix)
                atomicAdd(&histogram[(key >> shift) & 255u], 1);
        }
        __syncthreads();
        if (threadIdx.x < WARP)
            narrow_down(histogram, keep, &narrowed);
        __syncthreads();
        prefix |= narrowed.byte << shift;
        known |= 255u << shift;
        keep = narrowed.wanted;
    }
    int ties = 0;
    for (int first = 0; first < HW; first += BLOCK) {
        const int p = first + (int)threadIdx.x;
        const uint32_t key = p < HW ? order_key(map[p]) : 0u;
        const bool tie = p < HW && key == prefix;
        int found;
        const int place = ties + block_rank(tie, &found);
        if (p < HW)
            kept[p] = key > prefix || (tie && place < keep) ? 1.0f : 0.0f;
        ties += found;
    }
}

static void saliency_top_cuda(Device *device, int64_t N, int HW, const float *up, int keep, float *mask) {
    if (N == 0 || keep <= 0)
        device->ops->memory->zero(device, mask, (size_t)(N * HW) * sizeof *mask);
    else
        CUDA_LAUNCH(device, top_kernel, (unsigned)N, BLOCK, 0, HW, up, keep < HW ? keep : HW, mask);
}

/* ---- masked images ----------------------------------------------------------------------------------------------- */

typedef struct Colour {
    float value[3];
} Colour;

/* A thread takes LANES pixels at a time. out may be x. */
template <typename T, int LANES>
static __global__ void apply_kernel(int64_t pixels, const T *x, const float *__restrict__ mask, Colour fill,
                                    bool invert, T *out) {
    for (int64_t p = grid_first() * LANES; p < pixels; p += grid_step() * LANES) {
        float value[3 * LANES], keep[LANES];
        run_load<3 * LANES>(x + p * 3, value);
        run_load<LANES>(mask + p, keep);
        for (int l = 0; l < LANES; l++)
            for (int c = 0; c < 3; c++)
                value[l * 3 + c] = (keep[l] != 0.0f) != invert ? value[l * 3 + c] : fill.value[c];
        run_store<3 * LANES>(out + p * 3, value);
    }
}

static void saliency_apply_cuda(Device *device, int64_t N, int HW, DType type, const void *x, const float *mask,
                                const float fill[3], int invert, void *out) {
    const int64_t pixels = N * HW;
    const Colour colour = {{fill[0], fill[1], fill[2]}};
    const bool fits = lanes_fit(type, pixels, x) && lanes_fit(type, pixels, mask) && lanes_fit(type, pixels, out);
    if (pixels)
        WITH_LANES(type, fits, T, LANES,
                   CUDA_LAUNCH(device, (apply_kernel<T, LANES>), blocks_for(device, pixels / LANES, BLOCK), BLOCK, 0,
                               pixels, (const T *)x, mask, colour, invert != 0, (T *)out));
}

/* One block per image; for evaluation, where speed is not what counts. */
template <typename T>
static __global__ void soften_kernel(int HW, const T *__restrict__ x, const float *__restrict__ up,
                                     T *__restrict__ out) {
    const int64_t image = (int64_t)blockIdx.x * HW;
    const Range range = range_of<1>(HW, up + image);
    for (int p = (int)threadIdx.x; p < HW; p += BLOCK) {
        const float scaled = (up[image + p] - range.low) / range.divisor, share = scaled > 0.0f ? scaled : 0.0f;
        for (int c = 0; c < 3; c++)
            element_store(out + (image + p) * 3 + c, share * element_load(x + (image + p) * 3 + c));
    }
}

static void saliency_soften_cuda(Device *device, int64_t N, int HW, DType type, const void *x, const float *up,
                                 void *out) {
    if (N)
        WITH_TYPE(type, T,
                  CUDA_LAUNCH(device, soften_kernel<T>, (unsigned)N, BLOCK, 0, HW, (const T *)x, up, (T *)out));
}

extern "C" const SaliencyOps saliency_ops_cuda = {
    .weights = saliency_weights_cuda,
    .weights_plus = saliency_weights_plus_cuda,
    .cam = saliency_cam_cuda,
    .channel_sum = saliency_channel_sum_cuda,
    .upsample = saliency_upsample_cuda,
    .mask = saliency_mask_cuda,
    .top = saliency_top_cuda,
    .apply = saliency_apply_cuda,
    .soften = saliency_soften_cuda,
};
