/* Dense layers in f32: matrix products by cuBLAS, bias and ReLU in the pass after them. */
#include "kernels/contract/dense.h"
#include "kernels/cuda/products/epilogue.h"
#include "kernels/cuda/products/gemm.h"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"

static void dense_forward_cuda(Device *device, int64_t N, int in, int out, const float *x, const float *w,
                               const float *b, int relu, float *y) {
    if (N == 0)
        return;
    cuda_gemm(device, AS_STORED, TRANSPOSED, N, out, in, DTYPE_F32, x, w, 0.0f, DTYPE_F32, y);
    const Epilogue epilogue = {b, NULL, relu};
    if (b || relu)
        cuda_epilogue(device, N, out, &epilogue, DTYPE_F32, y, DTYPE_F32, y);
}

static void dense_backward_data_cuda(Device *device, int64_t N, int in, int out, const float *dy, const float *w,
                                     float *dx) {
    if (N)
        cuda_gemm(device, AS_STORED, AS_STORED, N, in, out, DTYPE_F32, dy, w, 0.0f, DTYPE_F32, dx);
}

/* A block sums WARP columns; thread (x, y) takes rows y, y + WARP, ... of column x, so that a warp reads 128 bytes of a
 * row at once. */
static __global__ void column_sums_kernel(int64_t N, int columns, const float *__restrict__ dy,
                                          float *__restrict__ db) {
    __shared__ double partial[WARP][WARP];
    const int column = (int)(blockIdx.x * WARP + threadIdx.x);
    double sum = 0.0;
    if (column < columns)
        for (int64_t row = threadIdx.y; row < N; row += WARP)
            sum += (double)dy[row * columns + column];
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns)
        return;
    for (int y = 1; y < WARP; y++)
        sum += partial[y][threadIdx.x];
    db[column] += (float)sum;
}

static void dense_backward_weight_cuda(Device *device, int64_t N, int in, int out, const float *x, const float *dy,
                                       float *dw, float *db) {
    if (N == 0)
        return;
    cuda_gemm(device, TRANSPOSED, AS_STORED, out, in, N, DTYPE_F32, dy, x, 1.0f, DTYPE_F32, dw);
    if (db)
        CUDA_LAUNCH(device, column_sums_kernel, (unsigned)ceil_div(out, WARP), dim3(WARP, WARP), 0, N, out, dy, db);
}

static __global__ void relu_backward_kernel(int64_t n, const float *__restrict__ y, float *__restrict__ dy) {
    for (int64_t i = grid_first(); i < n; i += grid_step())
        dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

static __global__ void relu_backward_wide_kernel(int64_t n, const float *__restrict__ y, float *__restrict__ dy) {
    for (int64_t i = grid_first() * 4; i < n; i += grid_step() * 4) {
        float kept[4], gradient[4];
        lanes_load(y + i, kept);
        lanes_load(dy + i, gradient);
        for (int j = 0; j < 4; j++)
            gradient[j] = kept[j] > 0.0f ? gradient[j] : 0.0f;
        lanes_store(dy + i, gradient);
    }
}

static void relu_backward_cuda(Device *device, int64_t n, const float *y, float *dy) {
    if (n == 0)
        return;
    if (lanes_fit(DTYPE_F32, n, y) && lanes_fit(DTYPE_F32, n, dy))
        CUDA_LAUNCH(device, relu_backward_wide_kernel, blocks_for(device, n / 4, BLOCK), BLOCK, 0, n, y, dy);
    else
        CUDA_LAUNCH(device, relu_backward_kernel, blocks_for(device, n, BLOCK), BLOCK, 0, n, y, dy);
}

extern "C" const DenseOps dense_ops_cuda = {
    .forward = dense_forward_cuda,
    .backward_data = dense_backward_data_cuda,
    .backward_weight = dense_backward_weight_cuda,
    .relu_backward = relu_backward_cuda,
};
