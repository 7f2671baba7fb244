/* Runs of consecutive elements in registers: moved 16 bytes at a time where a run is that long and one by one where it
 * is not. So a kernel over runs serves aligned rows (COUNT a multiple of Lanes<T>::COUNT) and any others (COUNT 1). */
#ifndef EXCON_KERNELS_CUDA_RUNS_CUH
#define EXCON_KERNELS_CUDA_RUNS_CUH

#include "kernels/cuda/threads/lanes.cuh"

template <int COUNT, typename T> static __device__ __forceinline__ void run_load(const T *from, float *out) {
    if constexpr (COUNT % Lanes<T>::COUNT == 0)
        for (int i = 0; i < COUNT; i += Lanes<T>::COUNT)
            lanes_load(from + i, out + i);
    else
        for (int i = 0; i < COUNT; i++)
            out[i] = element_load(from + i);
}

template <int COUNT, typename T> static __device__ __forceinline__ void run_store(T *to, const float *in) {
    if constexpr (COUNT % Lanes<T>::COUNT == 0)
        for (int i = 0; i < COUNT; i += Lanes<T>::COUNT)
            lanes_store(to + i, in + i);
    else
        for (int i = 0; i < COUNT; i++)
            element_store(to + i, in[i]);
}

#endif
