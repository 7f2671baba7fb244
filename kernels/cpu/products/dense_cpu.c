/* Dense layers: single-threaded BLAS calls on row or column blocks, one per thread part, so results repeat bit for bit.
 */
#include <string.h>

#include "kernels/contract/dense.h"
#include "kernels/cpu/device/cpu_device.h"

enum { BLOCK = 16 };

static int dense_parts(const Device *device, int64_t N, int in, int out) {
    return N * in * out < 65536 ? 1 : device->threads;
}

static void finish_relu(int64_t rows, int columns, int stride, float *y) {
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < columns; j++) {
            float v = y[r * stride + j];
            y[r * stride + j] = v < 0.0f ? 0.0f : v;
        }
}

static void dense_forward_cpu(Device *device, int64_t N, int in, int out, const float *x, const float *w,
                              const float *b, int relu, float *y) {
    if (N == 0)
        return;
    int parts = dense_parts(device, N, in, out), by_rows = N >= out;
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of(by_rows ? N : out, parts, i, BLOCK);
        if (p.first == p.last)
            continue;
        int64_t row = by_rows ? p.first : 0, rows = by_rows ? p.last - p.first : N;
        int64_t column = by_rows ? 0 : p.first, columns = by_rows ? out : p.last - p.first;
        float *block = y + row * out + column;
        if (b)
            for (int64_t r = 0; r < rows; r++)
                memcpy(block + r * out, b + column, (size_t)columns * sizeof *b);
        cpu_gemm(device, 'N', 'T', rows, columns, in, x + row * in, in, w + column * in, in, b ? 1.0f : 0.0f, block,
                 out);
        if (relu)
            finish_relu(rows, (int)columns, out, block);
    }
}

static void dense_backward_data_cpu(Device *device, int64_t N, int in, int out, const float *dy, const float *w,
                                    float *dx) {
    if (N == 0)
        return;
    int parts = dense_parts(device, N, in, out), by_rows = N >= in;
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of(by_rows ? N : in, parts, i, BLOCK);
        if (p.first == p.last)
            continue;
        int64_t row = by_rows ? p.first : 0, rows = by_rows ? p.last - p.first : N;
        int64_t column = by_rows ? 0 : p.first, columns = by_rows ? in : p.last - p.first;
        cpu_gemm(device, 'N', 'N', rows, columns, out, dy + row * out, out, w + column, in, 0.0f,
                 dx + row * in + column, in);
    }
}

static void dense_backward_weight_cpu(Device *device, int64_t N, int in, int out, const float *x, const float *dy,
                                      float *dw, float *db) {
    if (N == 0)
        return;
    int parts = dense_parts(device, N, in, out), by_out = out >= in;
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of(by_out ? out : in, parts, i, BLOCK);
        if (p.first == p.last)
            continue;
        int64_t row = by_out ? p.first : 0, rows = by_out ? p.last - p.first : out;
        int64_t column = by_out ? 0 : p.first, columns = by_out ? in : p.last - p.first;
        cpu_gemm(device, 'T', 'N', rows, columns, N, dy + row, out, x + column, in, 1.0f, dw + row * in + column, in);
    }
    if (db)
        for (int j = 0; j < out; j++) {
            double sum = 0;
            for (int64_t r = 0; r < N; r++)
                sum += (double)dy[r * out + j];
            db[j] += (float)sum;
        }
}

static void relu_backward_cpu(Device *device, int64_t n, const float *y, float *dy) {
    int parts = threads_for(device, n);
#pragma omp parallel for simd num_threads(parts) schedule(static) if (parallel : parts > 1)
    for (int64_t i = 0; i < n; i++)
        dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

const DenseOps dense_ops_cpu = {
    .forward = dense_forward_cpu,
    .backward_data = dense_backward_data_cpu,
    .backward_weight = dense_backward_weight_cpu,
    .relu_backward = relu_backward_cpu,
};
