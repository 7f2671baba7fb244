/* Matrix products of the CPU backend: oneDNN generates them for the processor it meets, as it does convolutions. */
#include "kernels/cpu/device/cpu_device.h"

void cpu_gemm(Device *device, char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    dnnl_status_t status = dnnl_sgemm(transpose_a, transpose_b, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
    if (status != dnnl_success)
        device_fatal(device, STATUS_INTERNAL, "oneDNN says %d for a product of %lld x %lld x %lld", (int)status,
                     (long long)m, (long long)n, (long long)k);
}
