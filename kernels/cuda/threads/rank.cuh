/* Places among flagged threads of a block, for compaction in order. */
#ifndef EXCON_KERNELS_CUDA_RANK_CUH
#define EXCON_KERNELS_CUDA_RANK_CUH

#include <cuda_runtime.h>

#include "kernels/cuda/threads/reduce.cuh"

/* How many threads before this one have a flag; *total: how many of the block have. Every thread of the block calls;
 * blockDim.x a multiple of 32, one-dimensional. Starts with a barrier, so calls may follow each other. */
static __device__ __forceinline__ int block_rank(bool flag, int *total) {
    __shared__ int counts[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const unsigned votes = __ballot_sync(ALL_LANES, flag);
    __syncthreads();
    if (lane == 0)
        counts[warp] = __popc(votes);
    __syncthreads();
    int before = 0, all = 0;
    for (unsigned w = 0; w < warps; w++) {
        before += w < warp ? counts[w] : 0;
        all += counts[w];
    }
    *total = all;
    return before + __popc(votes & ((1u << lane) - 1u));
}

#endif
