/* Type and layout conversions, row gathering, addition and sums. */
#include "kernels/contract/convert.h"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"
#include "kernels/ops.h"

template <typename From, typename To>
static __global__ void cast_kernel(int64_t n, const From *__restrict__ src, To *__restrict__ dst) {
    for (int64_t i = grid_first(); i < n; i += grid_step())
        element_store(dst + i, element_load(src + i));
}

static void cast_cuda(Device *device, int64_t n, DType src_type, const void *src, DType dst_type, void *dst) {
    if (n == 0)
        return;
    const unsigned blocks = blocks_for(device, n, BLOCK);
    if (src_type == dst_type)
        device->ops->memory->copy(device, dst, src, (size_t)n * dtype_size(src_type));
    else if (src_type == DTYPE_F32 && dst_type == DTYPE_BF16)
        CUDA_LAUNCH(device, (cast_kernel<float, bf16>), blocks, BLOCK, 0, n, (const float *)src, (bf16 *)dst);
    else if (src_type == DTYPE_BF16 && dst_type == DTYPE_F32)
        CUDA_LAUNCH(device, (cast_kernel<bf16, float>), blocks, BLOCK, 0, n, (const bf16 *)src, (float *)dst);
    else
        device_fatal(device, STATUS_INTERNAL, "cast from type %d to type %d is not defined", (int)src_type,
                     (int)dst_type);
}

/* Unit: what a thread moves at once; a row is `units` of them. */
template <typename Unit>
static __global__ void gather_rows_kernel(int64_t n, int64_t units, const Unit *__restrict__ src,
                                          const int32_t *__restrict__ index, Unit *__restrict__ dst) {
    for (int64_t i = grid_first(); i < n * units; i += grid_step()) {
        const int64_t row = i / units, from = index[row];
        if (from >= 0)
            dst[i] = src[from * units + i % units];
    }
}

static void gather_rows_cuda(Device *device, int64_t n, size_t row_bytes, const void *src, const int32_t *index,
                             void *dst) {
    if (n == 0 || row_bytes == 0)
        return;
    const bool wide = row_bytes % 16 == 0 && (uintptr_t)src % 16 == 0 && (uintptr_t)dst % 16 == 0;
    const int64_t units = (int64_t)(wide ? row_bytes / 16 : row_bytes);
    const unsigned blocks = blocks_for(device, n * units, BLOCK);
    if (wide)
        CUDA_LAUNCH(device, gather_rows_kernel<uint4>, blocks, BLOCK, 0, n, units, (const uint4 *)src, index,
                    (uint4 *)dst);
    else
        CUDA_LAUNCH(device, gather_rows_kernel<uint8_t>, blocks, BLOCK, 0, n, units, (const uint8_t *)src, index,
                    (uint8_t *)dst);
}

static __global__ void add_kernel(int64_t n, const float *__restrict__ x, float *__restrict__ y) {
    for (int64_t i = grid_first(); i < n; i += grid_step())
        y[i] += x[i];
}

static void add_cuda(Device *device, int64_t n, const float *x, float *y) {
    if (n)
        CUDA_LAUNCH(device, add_kernel, blocks_for(device, n, BLOCK), BLOCK, 0, n, x, y);
}

/* One block: what is summed here is a number per row. */
static __global__ void sum_kernel(int64_t n, const float *__restrict__ x, double weight, double *__restrict__ out) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += (double)x[i];
    sum = block_reduce<Sum>(sum, 0.0);
    if (threadIdx.x == 0)
        *out = weight * sum;
}

static void sum_cuda(Device *device, int64_t n, const float *x, double weight, double *out) {
    CUDA_LAUNCH(device, sum_kernel, 1, BLOCK, 0, n, x, weight, out);
}

template <typename T>
static __global__ void nchw_to_nhwc_kernel(int64_t n, int c, int hw, const float *__restrict__ src,
                                           T *__restrict__ dst) {
    for (int64_t i = grid_first(); i < n * c * hw; i += grid_step()) {
        const int64_t image = i / ((int64_t)c * hw), pixel = i / c % hw, channel = i % c;
        element_store(dst + i, src[(image * c + channel) * hw + pixel]);
    }
}

static void nchw_to_nhwc_cuda(Device *device, int64_t n, int c, int hw, const float *src, DType dst_type, void *dst) {
    const int64_t total = n * c * hw;
    if (total)
        WITH_TYPE(dst_type, T,
                  CUDA_LAUNCH(device, nchw_to_nhwc_kernel<T>, blocks_for(device, total, BLOCK), BLOCK, 0, n, c, hw, src,
                              (T *)dst));
}

template <typename T>
static __global__ void nhwc_to_nchw_kernel(int64_t n, int c, int hw, const T *__restrict__ src,
                                           float *__restrict__ dst) {
    for (int64_t i = grid_first(); i < n * c * hw; i += grid_step()) {
        const int64_t image = i / ((int64_t)c * hw), channel = i / hw % c, pixel = i % hw;
        dst[i] = element_load(src + (image * hw + pixel) * c + channel);
    }
}

static void nhwc_to_nchw_cuda(Device *device, int64_t n, int c, int hw, DType src_type, const void *src, float *dst) {
    const int64_t total = n * c * hw;
    if (total)
        WITH_TYPE(src_type, T,
                  CUDA_LAUNCH(device, nhwc_to_nchw_kernel<T>, blocks_for(device, total, BLOCK), BLOCK, 0, n, c, hw,
                              (const T *)src, dst));
}

extern "C" const ConvertOps convert_ops_cuda = {
    .cast = cast_cuda,
    .gather_rows = gather_rows_cuda,
    .add = add_cuda,
    .sum = sum_cuda,
    .nchw_to_nhwc = nchw_to_nhwc_cuda,
    .nhwc_to_nchw = nhwc_to_nchw_cuda,
};
