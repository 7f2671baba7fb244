/* Elements and 16-byte vectors of f32 and bf16. Kernels are templates over the stored type T and compute in float.
 *
 * Lanes<T>::COUNT elements make 16 bytes; lanes_load and lanes_store move that many, from an address that is a multiple
 * of 16. A kernel that takes the vector path needs every row length to be a multiple of COUNT and the base aligned:
 * lanes_fit says whether they are. */
#ifndef EXCON_KERNELS_CUDA_LANES_CUH
#define EXCON_KERNELS_CUDA_LANES_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/device.h"

typedef __nv_bfloat16 bf16;

/* Runs the statements with T = float or bf16. */
#define WITH_TYPE(type, T, ...)                                                                                        \
    do {                                                                                                               \
        if ((type) == DTYPE_BF16) {                                                                                    \
            typedef bf16 T;                                                                                            \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            typedef float T;                                                                                           \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

template <typename T> struct Lanes;
template <> struct Lanes<float> {
    enum { COUNT = 4 };
};
template <> struct Lanes<bf16> {
    enum { COUNT = 8 };
};

static __device__ __forceinline__ float element_load(const float *p) {
    return *p;
}

static __device__ __forceinline__ float element_load(const bf16 *p) {
    return __bfloat162float(*p);
}

static __device__ __forceinline__ void element_store(float *p, float value) {
    *p = value;
}

static __device__ __forceinline__ void element_store(bf16 *p, float value) {
    *p = __float2bfloat16_rn(value);
}

static __device__ __forceinline__ void lanes_load(const float *p, float out[4]) {
    float4 v = *reinterpret_cast<const float4 *>(p);
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
}

static __device__ __forceinline__ void lanes_store(float *p, const float in[4]) {
    *reinterpret_cast<float4 *>(p) = make_float4(in[0], in[1], in[2], in[3]);
}

/* bf16 is the upper half of a float. */
static __device__ __forceinline__ void bf16_pair(unsigned bits, float *low, float *high) {
    *low = __uint_as_float(bits << 16);
    *high = __uint_as_float(bits & 0xFFFF0000u);
}

static __device__ __forceinline__ unsigned bf16_bits(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    unsigned bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

static __device__ __forceinline__ void lanes_load(const bf16 *p, float out[8]) {
    uint4 v = *reinterpret_cast<const uint4 *>(p);
    bf16_pair(v.x, &out[0], &out[1]);
    bf16_pair(v.y, &out[2], &out[3]);
    bf16_pair(v.z, &out[4], &out[5]);
    bf16_pair(v.w, &out[6], &out[7]);
}

static __device__ __forceinline__ void lanes_store(bf16 *p, const float in[8]) {
    *reinterpret_cast<uint4 *>(p) =
        make_uint4(bf16_bits(in[0], in[1]), bf16_bits(in[2], in[3]), bf16_bits(in[4], in[5]), bf16_bits(in[6], in[7]));
}

/* 1 when rows of `length` elements from `base` can be walked 16 bytes at a time; NULL fits. */
static inline int lanes_fit(DType type, int64_t length, const void *base) {
    return length % (type == DTYPE_BF16 ? 8 : 4) == 0 && (uintptr_t)base % 16 == 0;
}

#endif
