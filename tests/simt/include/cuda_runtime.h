/* Stand-in for the CUDA language: qualifiers, built-in variables, barriers, shuffles, atomics and the launch.
 *
 * Every thread of a block is a fiber; a block runs until all its fibers wait or have ended, and blocks run one after
 * the other. The order in which the fibers of a block get their turn, between any two barriers, is a setting
 * (simt.h), so results of kernels that lack a barrier differ between orders. Shared memory is filled with NaN before
 * each block. A barrier that not all threads reach ends the program with a message. */
#ifndef SIMT_CUDA_RUNTIME_H
#define SIMT_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

/* In a section of its own, so that it can be filled with NaN before each block. Under AddressSanitizer, which watches
 * only ordinary variables, overflow is what is looked for. */
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static __attribute__((section("simt_shared")))
#endif

struct SimtThread {
    uint3 index;
    unsigned rank, lane;
};

struct SimtBlock {
    uint3 index;
    dim3 size, grid;
    void *dynamic_shared;
};

extern SimtThread *simt_thread; /* the running one */
extern SimtBlock simt_block;

#define threadIdx (simt_thread->index)
#define blockIdx (simt_block.index)
#define blockDim (simt_block.size)
#define gridDim (simt_block.grid)
static const int warpSize = 32;

/* ---- barriers ---------------------------------------------------------------------------------------------------- */

void simt_sync_block(const char *where);
void simt_sync_warp(const char *where, unsigned mask = 0xFFFFFFFFu);
/* Leaves `bits` for the lanes of mask and returns those of `source`; all lanes of mask must come. */
uint64_t simt_exchange(unsigned mask, uint64_t bits, unsigned source, const char *where);
unsigned simt_ballot(unsigned mask, int predicate, const char *where);

#define SIMT_TEXT_(x) #x
#define SIMT_TEXT(x) SIMT_TEXT_(x)
#define SIMT_HERE __FILE__ ":" SIMT_TEXT(__LINE__)

#define __syncthreads() simt_sync_block(SIMT_HERE)
#define __syncwarp(...) simt_sync_warp(SIMT_HERE __VA_OPT__(, ) __VA_ARGS__)

template <typename T> T simt_shuffle(unsigned mask, T value, unsigned source, const char *where) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = simt_exchange(mask, bits, source, where);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Widths below a warp are not used by the kernels. */
#define __shfl_sync(mask, value, source) simt_shuffle((mask), (value), (unsigned)(source)&31u, SIMT_HERE)
#define __shfl_xor_sync(mask, value, bits)                                                                             \
    simt_shuffle((mask), (value), simt_thread->lane ^ (unsigned)(bits), SIMT_HERE)
#define __shfl_down_sync(mask, value, by)                                                                              \
    simt_shuffle((mask), (value),                                                                                      \
                 simt_thread->lane + (unsigned)(by) < 32u ? simt_thread->lane + (unsigned)(by) : simt_thread->lane,    \
                 SIMT_HERE)
#define __shfl_up_sync(mask, value, by)                                                                                \
    simt_shuffle((mask), (value),                                                                                      \
                 simt_thread->lane >= (unsigned)(by) ? simt_thread->lane - (unsigned)(by) : simt_thread->lane,         \
                 SIMT_HERE)
#define __ballot_sync(mask, predicate) simt_ballot((mask), (predicate), SIMT_HERE)
#define __any_sync(mask, predicate) (simt_ballot((mask), (predicate), SIMT_HERE) != 0)
#define __all_sync(mask, predicate) (simt_ballot((mask), !(predicate), SIMT_HERE) == 0)

static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

static inline float __fdividef(float x, float y) {
    return x / y;
}
/* glibc declares functions of these names. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __float_as_int(float x) {
    return (int)__float_as_uint(x);
}
static inline float __int_as_float(int bits) {
    return __uint_as_float((unsigned)bits);
}

template <typename T> static inline T __ldg(const T *pointer) {
    return *pointer;
}
template <typename T> static inline void __stwb(T *pointer, T value) {
    *pointer = value;
}

template <typename T> static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b) {
    return a < b ? b : a;
}

/* Fibers never interrupt each other. */
template <typename T> static inline T atomicAdd(T *at, T value) {
    T old = *at;
    *at = old + value;
    return old;
}
template <typename T> static inline T atomicMax(T *at, T value) {
    T old = *at;
    if (old < value)
        *at = value;
    return old;
}
template <typename T> static inline T atomicExch(T *at, T value) {
    T old = *at;
    *at = value;
    return old;
}

/* ---- launch ------------------------------------------------------------------------------------------------------ */

void simt_enqueue_grid(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                       std::function<void()> thread);

/* Arguments are converted and copied now, as a launch does; the kernel runs when its stream does. */
template <typename... P, typename... A>
void simt_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, void (*kernel)(P...),
                 A... arguments) {
    static_assert(sizeof...(P) == sizeof...(A), "a kernel's arguments");
    std::tuple<typename std::decay<P>::type...> copies(static_cast<P>(arguments)...);
    simt_enqueue_grid(name, grid, block, shared, stream, [=]() { std::apply(kernel, copies); });
}

#endif
