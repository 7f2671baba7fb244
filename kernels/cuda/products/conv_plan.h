/* The CUDA backend's convolution plan, shared by its two ways: cuDNN (conv_cudnn.c, where it was found when excon was
 * built) and im2col + cuBLAS (conv_cuda.cu), which takes what cuDNN does not. Names no CUDA type, so that tests can
 * set a plan's scratch_limit. */
#ifndef EXCON_KERNELS_CUDA_CONV_PLAN_H
#define EXCON_KERNELS_CUDA_CONV_PLAN_H

#include "kernels/contract/conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ConvCudnn ConvCudnn;

struct ConvPlan {
    ConvGeometry geometry;
    DType type;
    int P, Q;
    size_t scratch_limit; /* bytes that im2col's temporaries may take; those of one image are always allowed */
    ConvCudnn *cudnn;     /* NULL: im2col + cuBLAS */
};

typedef enum ConvPass { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT } ConvPass;

/* "cuDNN 9.1.0 (header 9.1.0)" or "convolutions by cuBLAS", for the banner. */
const char *conv_library_cuda(void);

/* "convolution 3x3, 64 -> 128 channels, 32x32 pixels, stride 2, pad 1, bf16", for messages. */
enum { CONV_TEXT = 128 };
void conv_describe(const ConvPlan *plan, char text[CONV_TEXT]);
const char *conv_pass_name(ConvPass pass);

/* ---- conv_cudnn.c, compiled when EXCON_CUDNN is defined ----
 * NULL when cuDNN does not work on this device, which was said on stderr. */
ConvCudnn *conv_cudnn_new(Device *device);
void conv_cudnn_free(Device *device, ConvCudnn *cudnn);

/* The operators of ConvOps for N > 0. 0: cuDNN offers nothing for this call, which was said on stderr the first
 * time, and nothing was done. */
int conv_cudnn_forward(Device *, ConvPlan *, int64_t N, const void *x, const void *w, const ConvEpilogue *, void *y);
int conv_cudnn_backward_data(Device *, ConvPlan *, int64_t N, const void *dy, const void *w, void *dx);
int conv_cudnn_backward_weight(Device *, ConvPlan *, int64_t N, const void *x, const void *dy, float *dw);

/* Its name and versions: "cuDNN 9.1.0 (header 9.1.0)". */
const char *conv_cudnn_library(void);

#ifdef __cplusplus
}
#endif
#endif
