/* Products of dense row-major matrices by cuBLAS, on the device's stream. */
#ifndef EXCON_KERNELS_CUDA_GEMM_H
#define EXCON_KERNELS_CUDA_GEMM_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum Transposed { AS_STORED = 0, TRANSPOSED = 1 } Transposed;

/* c [m,n] = op(a) [m,k] op(b) [k,n] + beta c. A transposed operand is stored as [k,m] or [n,k]. a and b are of type
 * `in`, c of type `out`: f32 from f32, f32 or bf16 from bf16. Products are exact or f32 (never TF32), sums f32. m, n, k
 * are at least 1 and fit an int. */
void cuda_gemm(Device *, Transposed a_is, Transposed b_is, int64_t m, int64_t n, int64_t k, DType in, const void *a,
               const void *b, float beta, DType out, void *c);

#ifdef __cplusplus
}
#endif
#endif
