#include "kernels/cuda/products/epilogue.h"

#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/ops.h"

/* COUNT neighbouring elements as floats: 1, or as many as make 16 bytes of bf16 or f32. */
template <int COUNT, typename T> static __device__ __forceinline__ void load(const T *from, float out[COUNT]) {
    if constexpr (COUNT == 1) {
        out[0] = element_load(from);
    } else {
        for (int i = 0; i < COUNT; i += Lanes<T>::COUNT)
            lanes_load(from + i, out + i);
    }
}

/* A thread owns COUNT neighbouring columns of a row; columns is a multiple of COUNT. Pointers may be equal. */
template <typename Product, typename T, int COUNT>
static __global__ void epilogue_kernel(int64_t groups, int groups_per_row, Epilogue e, const Product *product, T *y) {
    for (int64_t i = grid_first(); i < groups; i += grid_step()) {
        float v[COUNT], other[COUNT];
        load<COUNT>(product + i * COUNT, v);
        if (e.residual) {
            load<COUNT>(static_cast<const T *>(e.residual) + i * COUNT, other);
            for (int j = 0; j < COUNT; j++)
                v[j] += other[j];
        }
        if (e.bias) {
            load<COUNT>(e.bias + i % groups_per_row * COUNT, other);
            for (int j = 0; j < COUNT; j++)
                v[j] += other[j];
        }
        if (e.relu)
            for (int j = 0; j < COUNT; j++)
                v[j] = v[j] < 0.0f ? 0.0f : v[j];
        if constexpr (COUNT == 1)
            element_store(y + i, v[0]);
        else
            lanes_store(y + i * COUNT, v);
    }
}

template <typename Product, typename T>
static void launch(Device *device, int64_t rows, int columns, const Epilogue *e, bool wide, const void *product,
                   void *y) {
    const int count = wide ? (int)Lanes<T>::COUNT : 1, groups_per_row = columns / count;
    const int64_t groups = rows * groups_per_row;
    const unsigned blocks = blocks_for(device, groups, BLOCK);
    if (wide)
        CUDA_LAUNCH(device, (epilogue_kernel<Product, T, Lanes<T>::COUNT>), blocks, BLOCK, 0, groups, groups_per_row,
                    *e, (const Product *)product, (T *)y);
    else
        CUDA_LAUNCH(device, (epilogue_kernel<Product, T, 1>), blocks, BLOCK, 0, groups, groups_per_row, *e,
                    (const Product *)product, (T *)y);
}

void cuda_epilogue(Device *device, int64_t rows, int columns, const Epilogue *e, DType product_type,
                   const void *product, DType type, void *y) {
    if (rows == 0)
        return;
    const bool wide = lanes_fit(type, columns, product) && lanes_fit(type, columns, e->residual) &&
                      lanes_fit(type, columns, e->bias) && lanes_fit(type, columns, y);
    if (type == DTYPE_F32)
        launch<float, float>(device, rows, columns, e, wide, product, y);
    else if (product_type == DTYPE_F32)
        launch<float, bf16>(device, rows, columns, e, wide, product, y);
    else
        launch<bf16, bf16>(device, rows, columns, e, wide, product, y);
}

static __global__ void accumulate_kernel(int64_t n, const bf16 *__restrict__ x, float *__restrict__ y) {
    for (int64_t i = grid_first(); i < n; i += grid_step())
        y[i] += element_load(x + i);
}

static __global__ void accumulate_wide_kernel(int64_t n, const bf16 *__restrict__ x, float *__restrict__ y) {
    for (int64_t i = grid_first() * 8; i < n; i += grid_step() * 8) {
        float added[8], sum[8];
        lanes_load(x + i, added);
        load<8>(y + i, sum);
        for (int j = 0; j < 8; j++)
            sum[j] += added[j];
        lanes_store(y + i, sum);
        lanes_store(y + i + 4, sum + 4);
    }
}

void cuda_accumulate(Device *device, int64_t n, DType x_type, const void *x, float *y) {
    if (x_type == DTYPE_F32)
        device->ops->convert->add(device, n, (const float *)x, y);
    else if (n > 0 && lanes_fit(DTYPE_BF16, n, x) && lanes_fit(DTYPE_F32, n, y))
        CUDA_LAUNCH(device, accumulate_wide_kernel, blocks_for(device, n / 8, BLOCK), BLOCK, 0, n, (const bf16 *)x, y);
    else if (n > 0)
        CUDA_LAUNCH(device, accumulate_kernel, blocks_for(device, n, BLOCK), BLOCK, 0, n, (const bf16 *)x, y);
}
