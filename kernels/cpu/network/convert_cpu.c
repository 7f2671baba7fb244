/* Type and layout conversions, row gathering, addition and sums. */
#include <string.h>

#include "kernels/contract/convert.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"
#include "kernels/ops.h"

static void cast_cpu(Device *device, int64_t n, DType src_type, const void *src, DType dst_type, void *dst) {
    int parts = threads_for(device, n);
    if (src_type == dst_type) {
        device->ops->memory->copy(device, dst, src, (size_t)n * dtype_size(src_type));
    } else if (src_type == DTYPE_F32 && dst_type == DTYPE_BF16) {
        const float *from = src;
        uint16_t *to = dst;
#pragma omp parallel for simd num_threads(parts) schedule(static) if (parallel : parts > 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = bf16_of_float(from[i]);
    } else if (src_type == DTYPE_BF16 && dst_type == DTYPE_F32) {
        const uint16_t *from = src;
        float *to = dst;
#pragma omp parallel for simd num_threads(parts) schedule(static) if (parallel : parts > 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = float_of_bf16(from[i]);
    } else {
        device_fatal(device, STATUS_INTERNAL, "cast from type %d to type %d is not defined", (int)src_type,
                     (int)dst_type);
    }
}

static void gather_rows_cpu(Device *device, int64_t n, size_t row_bytes, const void *src, const int32_t *index,
                            void *dst) {
    int parts = threads_for(device, (int64_t)row_bytes * n / 4);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t i = 0; i < n; i++)
        if (index[i] >= 0)
            memcpy((char *)dst + (size_t)i * row_bytes, (const char *)src + (size_t)index[i] * row_bytes, row_bytes);
}

static void add_cpu(Device *device, int64_t n, const float *x, float *y) {
    int parts = threads_for(device, n);
#pragma omp parallel for simd num_threads(parts) schedule(static) if (parallel : parts > 1)
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void sum_cpu(Device *device, int64_t n, const float *x, double weight, double *out) {
    (void)device;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    *out = weight * sum;
}

static void nchw_to_nhwc_cpu(Device *device, int64_t n, int c, int hw, const float *src, DType dst_type, void *dst) {
    int parts = threads_for(device, n * c * hw);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t image = 0; image < n; image++)
        for (int p = 0; p < hw; p++)
            for (int k = 0; k < c; k++)
                lane_store(dst_type, dst, (image * hw + p) * c + k, src[(image * c + k) * hw + p]);
}

static void nhwc_to_nchw_cpu(Device *device, int64_t n, int c, int hw, DType src_type, const void *src, float *dst) {
    int parts = threads_for(device, n * c * hw);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t image = 0; image < n; image++)
        for (int p = 0; p < hw; p++)
            for (int k = 0; k < c; k++)
                dst[(image * c + k) * hw + p] = lane_load(src_type, src, (image * hw + p) * c + k);
}

const ConvertOps convert_ops_cpu = {
    .cast = cast_cpu,
    .gather_rows = gather_rows_cpu,
    .add = add_cpu,
    .sum = sum_cpu,
    .nchw_to_nhwc = nchw_to_nhwc_cpu,
    .nhwc_to_nchw = nhwc_to_nchw_cpu,
};
