/* One convolution of one row count as oneDNN compiles it: a pass, and the reorder between our weights and its own.
 *
 * Where oneDNN has no convolutions of bf16 (onednn_convolves_bf16), those are computed in f32 on widened copies:
 * products and sums are f32 in either case, so only the speed differs.
 *
 * Images are plain NHWC. Weights arrive as KRRC ("ohwi") and are packed per call into whatever layout the chosen
 * implementation wants; weight gradients come out packed and are added to dw by a reorder with accumulation. */
#ifndef EXCON_KERNELS_CPU_CONV_STEP_H
#define EXCON_KERNELS_CPU_CONV_STEP_H

#include "kernels/contract/conv.h"
#include "kernels/cpu/products/onednn.h"

typedef enum ConvPass { PASS_FORWARD, PASS_BACKWARD_DATA, PASS_BACKWARD_WEIGHT } ConvPass;

/* What follows a forward pass, added up; 0 also stands for training, the others for inference. */
enum { EPILOGUE_BIAS = 1, EPILOGUE_ADD = 2, EPILOGUE_RELU = 4, EPILOGUES = 8 };

typedef struct ConvStep ConvStep;

/* What a call reads and writes: x or dx; w or, accumulated, dw (KRRC); y or dy; bias [K] f32 with EPILOGUE_BIAS. */
typedef struct ConvCall {
    const void *image, *weights, *output;
    const float *bias;
    int64_t most_rows; /* of the calls that one operator is cut into: the scratch is cut alike for all of them */
} ConvCall;

/* The type that oneDNN computes a convolution of `type` in on this processor; another one than `type` takes copies of
 * images and outputs. */
DType conv_step_type(DType type);

/* Compiles a pass of `geometry` for N rows (at least 1). Under a millisecond; some 50 kB. STATUS_CONFIG where oneDNN
 * has no such convolution on this processor. Freed by conv_step_free, which takes NULL. */
Status conv_step_make(Device *device, const ConvGeometry *geometry, DType type, ConvPass pass, int epilogue, int64_t N,
                      ConvStep **out, Error *err);
void conv_step_free(ConvStep *step);

/* Runs it. Packed weights and oneDNN's temporaries live in the device's scratch. Ends the job when oneDNN fails. */
void conv_step_run(Device *device, const ConvStep *step, const ConvCall *call);

#endif
