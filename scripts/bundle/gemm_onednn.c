/* The BLAS that excon calls, answered by oneDNN: a bundle does without OpenBLAS, half of its size, and loses no speed,
 * for oneDNN generates its products for the processor it meets just as it does the convolutions.
 * Linked into the bundle's program in OpenBLAS's place (scripts/bundle.sh); same declarations, same meaning. */
#include <cblas.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

static char letter(CBLAS_TRANSPOSE transpose) {
    return transpose == CblasNoTrans ? 'N' : 'T';
}

void cblas_sgemm(OPENBLAS_CONST enum CBLAS_ORDER order, OPENBLAS_CONST enum CBLAS_TRANSPOSE transpose_a,
                 OPENBLAS_CONST enum CBLAS_TRANSPOSE transpose_b, OPENBLAS_CONST blasint m, OPENBLAS_CONST blasint n,
                 OPENBLAS_CONST blasint k, OPENBLAS_CONST float alpha, OPENBLAS_CONST float *a,
                 OPENBLAS_CONST blasint lda, OPENBLAS_CONST float *b, OPENBLAS_CONST blasint ldb,
                 OPENBLAS_CONST float beta, float *c, OPENBLAS_CONST blasint ldc) {
    dnnl_status_t status;
    if (order == CblasRowMajor)
        status = dnnl_sgemm(letter(transpose_a), letter(transpose_b), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else /* the same product, transposed */
        status = dnnl_sgemm(letter(transpose_b), letter(transpose_a), n, m, k, alpha, b, ldb, a, lda, beta, c, ldc);
    if (status != dnnl_success) {
        fprintf(stderr, "excon: dnnl_sgemm says %d for a product of %d x %d x %d\n", (int)status, (int)m, (int)n,
                (int)k);
        abort();
    }
}

void openblas_set_num_threads(int threads) {
    (void)threads; /* inside a parallel region oneDNN uses the calling thread alone */
}

char *openblas_get_config(void) {
    return "sgemm by oneDNN, no OpenBLAS";
}
