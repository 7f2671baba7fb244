/* Sums and maxima over a warp and a block. Every thread of the block calls; every thread gets the result. The order of
 * additions depends on the block's size alone, so results repeat bit for bit. */
#ifndef EXCON_KERNELS_CUDA_REDUCE_CUH
#define EXCON_KERNELS_CUDA_REDUCE_CUH

#include <cuda_runtime.h>

static const unsigned ALL_LANES = 0xFFFFFFFFu;

struct Sum {
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a + b;
    }
};

/* Neither says anything of NaN: lanes may end with different results. Keep NaN out. */
struct Max {
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a > b ? a : b;
    }
};

struct Min {
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a < b ? a : b;
    }
};

/* All 32 lanes must call. */
template <typename Op, typename T> static __device__ __forceinline__ T warp_reduce(T value) {
    for (int by = 16; by > 0; by >>= 1)
        value = Op::of(value, __shfl_xor_sync(ALL_LANES, value, by));
    return value;
}

/* blockDim.x a multiple of 32, up to 1024, one-dimensional. `neutral` leaves other values as they are. Starts and ends
 * with a barrier, so calls may follow each other. */
template <typename Op, typename T> static __device__ T block_reduce(T value, T neutral) {
    __shared__ T partial[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = warp_reduce<Op>(value);
    __syncthreads();
    if (lane == 0)
        partial[warp] = value;
    __syncthreads();
    return warp_reduce<Op>(lane < warps ? partial[lane] : neutral);
}

#endif
