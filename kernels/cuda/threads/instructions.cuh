/* Instructions of Ampere and later GPUs that CUDA C++ has no portable name for. tests/simt/include has a stand-in of
 * the same path, which the CPU build finds first.
 *
 * Products of matrices are a warp's common work: all 32 lanes call, each holds a part. With g = lane / 4, t = lane % 4:
 *
 *   sums    16 x 8, float     c[0], c[1]: row g, columns 2t, 2t + 1      c[2], c[3]: row g + 8, the same columns
 *   left    16 x 16, bf16     a[0]: row g, k = 2t, 2t + 1                a[1]: row g + 8, the same k
 *                             a[2], a[3]: as a[0], a[1], k + 8
 *   right   16 x 8, bf16      b[0]: k = 2t, 2t + 1, column g             b[1]: k + 8
 *   left    16 x 8, tf32      a[0]: row g, k = t   a[1]: row g + 8   a[2], a[3]: as a[0], a[1], k + 4
 *   right   8 x 8, tf32       b[0]: k = t, column g                      b[1]: k + 4
 *
 * (the PTX manual's mma.m16n8k16 and m16n8k8; the lower index is in the lower half of a register). */
#ifndef EXCON_KERNELS_CUDA_INSTRUCTIONS_CUH
#define EXCON_KERNELS_CUDA_INSTRUCTIONS_CUH

#include <cuda_runtime.h>

/* Four 8 x 8 matrices of 16-bit elements from shared memory; lane i gives the address of row i % 8 (16 bytes, aligned)
 * of matrix i / 8. r[j] gets elements 2t, 2t + 1 of row g of matrix j. */
static __device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The same, transposed: r[j] gets rows 2t, 2t + 1 of column g of matrix j. */
static __device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

/* c += left [16,16] right [16,8]; products are exact, sums float, truncated. */
static __device__ __forceinline__ void multiply_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* c += left [16,8] right [8,8] of tf32: floats of which the lower 13 bits do not count. */
static __device__ __forceinline__ void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 2^x to about 2^-22; results below the normal range are 0. */
static __device__ __forceinline__ float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
