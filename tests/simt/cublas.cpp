/* cuBLAS by oneDNN, on the stream of the handle. bf16 operands are widened, products and sums are float, results are
 * rounded once. */
#include <dnnl.h>

#include <vector>

#include "include/cublas_v2.h"
#include "include/cuda_bf16.h"
#include "internal.h"

struct SimtBlas {
    cudaStream_t stream;
};

namespace {

/* Column-major [rows, columns] with leading dimension ld, as floats. */
std::vector<float> widen(const void *from, cudaDataType_t type, int rows, int columns, int ld) {
    std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < rows; r++) {
            size_t at = static_cast<size_t>(c) * static_cast<size_t>(ld) + static_cast<size_t>(r);
            out[static_cast<size_t>(c) * static_cast<size_t>(rows) + static_cast<size_t>(r)] =
                type == CUDA_R_16BF ? __bfloat162float(static_cast<const __nv_bfloat16 *>(from)[at])
                                    : static_cast<const float *>(from)[at];
        }
    return out;
}

} // namespace

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = new SimtBlas{nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version) {
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void *alpha, const void *A, cudaDataType_t Atype, int lda, const void *B,
                            cudaDataType_t Btype, int ldb, const void *beta, void *C, cudaDataType_t Ctype, int ldc,
                            cublasComputeType_t, cublasGemmAlgo_t) {
    const float scale = *static_cast<const float *>(alpha), keep = *static_cast<const float *>(beta);
    const bool ta = transa == CUBLAS_OP_T, tb = transb == CUBLAS_OP_T;
    if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1 || ldc < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (Atype != Btype || (Atype == CUDA_R_32F && Ctype != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (m == 0 || n == 0)
        return CUBLAS_STATUS_SUCCESS;
    simt_enqueue(handle->stream, [=]() {
        std::vector<float> a = widen(A, Atype, ta ? k : m, ta ? m : k, lda);
        std::vector<float> b = widen(B, Btype, tb ? n : k, tb ? k : n, ldb);
        std::vector<float> c(static_cast<size_t>(m) * static_cast<size_t>(n));
        if (keep != 0.0f)
            c = widen(C, Ctype, m, n, ldc);
        /* column-major: the same product of row-major matrices, transposed */
        dnnl_sgemm(tb ? 'T' : 'N', ta ? 'T' : 'N', n, m, k, scale, b.data(), tb ? n : k, a.data(), ta ? k : m, keep,
                   c.data(), m);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                size_t at = static_cast<size_t>(j) * static_cast<size_t>(ldc) + static_cast<size_t>(i);
                float value = c[static_cast<size_t>(j) * static_cast<size_t>(m) + static_cast<size_t>(i)];
                if (Ctype == CUDA_R_16BF)
                    static_cast<__nv_bfloat16 *>(C)[at] = __float2bfloat16_rn(value);
                else
                    static_cast<float *>(C)[at] = value;
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
