/* Global average pooling: a block takes an image's positions for a tile of its channels (channels.cuh). */
#include "kernels/contract/pool.h"
#include "kernels/cuda/threads/channels.cuh"

/* A span of rows is an image. */
static Tiling tiling_of_images(int64_t N, int HW, int C, DType type, bool wide) {
    Tiling t = tiling_across(N * HW, C, pack_count(type, wide));
    t.span = HW;
    return t;
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(BLOCK)
    pool_forward_kernel(Tiling t, const T *__restrict__ x, float *__restrict__ features) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    __align__(16) __shared__ float runs[BLOCK * COUNT]; /* [rows, channels of the tile], as threads are numbered */
    const ChannelWalk w = channel_walk(t);
    float sum[COUNT] = {0};
    walk_rows<4>(w, [&](auto rows, int64_t at) {
        constexpr int ROWS = decltype(rows)::COUNT;
        typename Pack<T, WIDE>::Raw inputs[ROWS];
        for (int r = 0; r < ROWS; r++)
            inputs[r] = pack_load<T, WIDE>(x, at + (int64_t)r * w.stride);
        for (int r = 0; r < ROWS; r++) {
            float v[COUNT];
            pack_floats<T, WIDE>(inputs[r], v);
            for (int i = 0; i < COUNT; i++)
                sum[i] += v[i];
        }
    });
    for (int i = 0; i < COUNT; i++)
        runs[threadIdx.x * COUNT + i] = sum[i];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < w.wide && w.tile_channel + i < t.C; i += BLOCK) {
        float total = 0.0f;
        for (unsigned row = 0; row < t.rows; row++)
            total += runs[(int)row * w.wide + i];
        features[w.span * t.C + w.tile_channel + i] = total / (float)t.span;
    }
}

static void pool_forward_cuda(Device *device, int64_t N, int HW, int C, DType type, const void *x, float *features) {
    if (N == 0)
        return;
    const bool wide = lanes_fit(type, C, x);
    const Tiling t = tiling_of_images(N, HW, C, type, wide);
    WITH_TYPE(type, T,
              WITH_FLAG(wide, WIDE,
                        CUDA_LAUNCH(device, (pool_forward_kernel<T, WIDE>), tiling_blocks(&t), BLOCK, 0, t,
                                    (const T *)x, features)));
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(BLOCK)
    pool_backward_kernel(Tiling t, const float *__restrict__ dfeatures, T *__restrict__ dx) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    const ChannelWalk w = channel_walk(t);
    if (!w.active)
        return;
    float share[COUNT];
    channels_load<COUNT>(dfeatures + w.span * t.C + w.channel, share);
    for (int i = 0; i < COUNT; i++)
        share[i] /= (float)t.span;
    walk_rows<1>(w, [&](auto, int64_t at) { pack_store<T, WIDE>(dx + at, share); });
}

static void pool_backward_cuda(Device *device, int64_t N, int HW, int C, DType type, const float *dfeatures, void *dx) {
    if (N == 0)
        return;
    const bool wide = lanes_fit(type, C, dx) && lanes_fit(DTYPE_F32, C, dfeatures);
    const Tiling t = tiling_of_images(N, HW, C, type, wide);
    WITH_TYPE(type, T,
              WITH_FLAG(wide, WIDE,
                        CUDA_LAUNCH(device, (pool_backward_kernel<T, WIDE>), tiling_blocks(&t), BLOCK, 0, t, dfeatures,
                                    (T *)dx)));
}

extern "C" const PoolOps pool_ops_cuda = {
    .forward = pool_forward_cuda,
    .backward = pool_backward_cuda,
};
