/* Launching kernels, and the sizes of grids.
 *
 * CUDA_LAUNCH is the one way a kernel starts: on the device's stream, under an NVTX range, with the launch checked. In
 * tests the same sources compile for the CPU (tests/simt), where it queues the grid for the emulator. Kernels are
 * `static`, so that their shared variables are too. */
#ifndef EXCON_KERNELS_CUDA_LAUNCH_CUH
#define EXCON_KERNELS_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/device/cuda_device.h"

/* kernel: parenthesise when it has template arguments. grid, block: dim3 or numbers; shared: bytes of dynamic shared
 * memory. */
#ifdef __CUDACC__
#define CUDA_LAUNCH(device, kernel, grid, block, shared, ...)                                                          \
    do {                                                                                                               \
        nvtxRangePushA(#kernel);                                                                                       \
        (kernel)<<<(grid), (block), (shared), cuda_stream(device)>>>(__VA_ARGS__);                                     \
        nvtxRangePop();                                                                                                \
        cuda_check((device), cudaGetLastError(), #kernel, __FILE__, __LINE__);                                         \
    } while (0)
/* Names the dynamic shared memory of a kernel as an array of `type`, 16-byte aligned. */
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                                             \
    type *name = reinterpret_cast<type *>(dynamic_shared_memory)
#else
#define CUDA_LAUNCH(device, kernel, grid, block, shared, ...)                                                          \
    simt_launch(#kernel, (grid), (block), (shared), cuda_stream(device), (kernel), __VA_ARGS__)
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(simt_block.dynamic_shared)
#endif

/* A kernel's dynamic shared memory beyond 48 KiB must be asked for once. */
#ifdef __CUDACC__
#define CUDA_ALLOW_SHARED(device, kernel, bytes)                                                                       \
    CUDA_CHECK((device), cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)))
#else
#define CUDA_ALLOW_SHARED(device, kernel, bytes) ((void)(device), (void)(bytes))
#endif

enum { WARP = 32, BLOCK = 256 };

static inline int64_t ceil_div(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

/* Blocks of a grid-stride loop over n items, `per_block` at a time: enough to fill the device a few times over. n > 0.
 */
static inline unsigned blocks_for(const Device *device, int64_t n, int64_t per_block) {
    int64_t blocks = ceil_div(n, per_block), most = (int64_t)cuda_of(device)->multiprocessors * 16;
    return (unsigned)(blocks < most ? blocks : most);
}

/* The item a thread of a grid-stride loop begins with, and how far it steps. */
static __device__ __forceinline__ int64_t grid_first() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t grid_step() {
    return (int64_t)gridDim.x * blockDim.x;
}

#endif
