/* What follows a matrix product or a convolution: bias, residual and ReLU in one pass, or addition to what was there.
 */
#ifndef EXCON_KERNELS_CUDA_EPILOGUE_H
#define EXCON_KERNELS_CUDA_EPILOGUE_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Epilogue {
    const float *bias;    /* [columns], or NULL */
    const void *residual; /* [rows, columns] of y's type, or NULL; may be y */
    int relu;
} Epilogue;

/* y [rows, columns] = relu?(product + bias + residual). The product is f32 or of y's type, and may be y itself. */
void cuda_epilogue(Device *, int64_t rows, int columns, const Epilogue *, DType product_type, const void *product,
                   DType type, void *y);

/* y[i] += x[i], n of them; x is f32 or bf16. */
void cuda_accumulate(Device *, int64_t n, DType x_type, const void *x, float *y);

#ifdef __cplusplus
}
#endif
#endif
