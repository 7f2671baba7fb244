#include "kernels/cuda/products/gemm.h"

#include <limits.h>

#include "kernels/cuda/device/cuda_device.h"

static cudaDataType_t data_type(DType type) {
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* cuBLAS is column-major: a row-major matrix is the transpose of what it sees, so it is asked for
 * c^T = op(b)^T op(a)^T, and the operands' flags stay what they are. */
void cuda_gemm(Device *device, Transposed a_is, Transposed b_is, int64_t m, int64_t n, int64_t k, DType in,
               const void *a, const void *b, float beta, DType out, void *c) {
    const float one = 1.0f;
    if (m < 1 || n < 1 || k < 1 || m > INT_MAX || n > INT_MAX || k > INT_MAX)
        device_fatal(device, STATUS_INTERNAL, "a matrix product of %lld x %lld x %lld is beyond cuBLAS's range",
                     (long long)m, (long long)n, (long long)k);
    CUBLAS_CHECK(device, cublasGemmEx(cuda_of(device)->blas, b_is == TRANSPOSED ? CUBLAS_OP_T : CUBLAS_OP_N,
                                      a_is == TRANSPOSED ? CUBLAS_OP_T : CUBLAS_OP_N, (int)n, (int)m, (int)k, &one, b,
                                      data_type(in), (int)(b_is == TRANSPOSED ? k : n), a, data_type(in),
                                      (int)(a_is == TRANSPOSED ? m : k), &beta, c, data_type(out), (int)n,
                                      CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}
