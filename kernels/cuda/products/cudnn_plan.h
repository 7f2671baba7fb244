/* Chooses how cuDNN computes one convolution: describes it as a graph of operations, asks the heuristics, and takes the
 * first engine that keeps our promises. Host work only; the plan is executed by conv_cudnn.c.
 *
 * Engines are refused that are not deterministic, that sum or multiply in less than f32 (bf16 products are exact in
 * f32; for f32 tensors this rules out tensor cores, which would round to TF32), or that need too much workspace. Those
 * compiled at run time come last: each costs up to seconds, for every row count anew. */
#ifndef EXCON_KERNELS_CUDA_CUDNN_PLAN_H
#define EXCON_KERNELS_CUDA_CUDNN_PLAN_H

#include <cudnn.h>

#include "kernels/cuda/products/conv_plan.h"

/* For whom plans are made: an open handle, or, where no device is needed, a finalized descriptor of device properties
 * (cuDNN 9.8 and newer). The other is NULL. */
typedef struct CudnnTarget {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} CudnnTarget;

/* What follows the convolution inside the graph. */
enum { EPILOGUE_BIAS = 1, EPILOGUE_ADD = 2, EPILOGUE_RELU = 4 };

/* The tensors of a graph; what x, w and y stand for depends on the pass: x or dx, w or dw, y or dy. */
typedef enum CudnnTensor { TENSOR_X = 1, TENSOR_W, TENSOR_Y, TENSOR_RESIDUAL, TENSOR_BIAS } CudnnTensor;

/* One way to write a convolution as a graph. */
typedef struct CudnnVariant {
    int epilogue;    /* EPILOGUE_BIAS | EPILOGUE_ADD | EPILOGUE_RELU; y = relu(conv(x, w) + residual + bias) */
    DType w_type;    /* of w or dw */
    DType bias_type; /* of the bias [K] */
} CudnnVariant;

typedef struct CudnnPlan {
    cudnnBackendDescriptor_t descriptor; /* NULL: none */
    cudnnBackendDescriptor_t config;     /* what it was made of, kept as long as it */
    CudnnVariant variant;
    size_t workspace; /* bytes */
    int tensor_cores; /* 1: used */
    int compiled;     /* 1: its kernel is compiled at run time */
} CudnnPlan;

enum { CUDNN_WHY = 512 };

/* The ways to write `pass`, best first; returns how many (at most 2). `epilogue` is what the caller wants; a variant
 * with less leaves the rest to the caller. */
int cudnn_variants(ConvPass pass, DType type, int epilogue, CudnnVariant out[2]);

/* A plan for N rows with at most workspace_limit bytes of workspace, the first that one of the variants offers. 0 with
 * the reason when there is none. */
int cudnn_plan_find(const CudnnTarget *target, const ConvPlan *conv, ConvPass pass, int64_t N,
                    const CudnnVariant *variants, int count, size_t workspace_limit, CudnnPlan *out,
                    char why[CUDNN_WHY]);
void cudnn_plan_free(CudnnPlan *plan);

#endif
