/* Types, layouts, rows by index, and sums of arrays. */
#ifndef EXCON_CONTRACT_CONVERT_H
#define EXCON_CONTRACT_CONVERT_H

#include "kernels/device.h"

typedef struct ConvertOps {
    /* dst[i] = src[i], f32 <-> bf16 (round to nearest even) or same type. */
    void (*cast)(Device *, int64_t n, DType src_type, const void *src, DType dst_type, void *dst);
    /* dst row i = src row index[i]; rows are row_bytes long. index[i] < 0 leaves dst row i untouched. */
    void (*gather_rows)(Device *, int64_t n, size_t row_bytes, const void *src, const int32_t *index, void *dst);
    /* y[i] += x[i], f32. */
    void (*add)(Device *, int64_t n, const float *x, float *y);
    /* out [1] f64 = weight * sum x[i]. */
    void (*sum)(Device *, int64_t n, const float *x, double weight, double *out);
    /* dst[n*hw*c] NHWC of dtype <- src [n,c,hw] f32 NCHW, and back; for probes and checks, not the step. */
    void (*nchw_to_nhwc)(Device *, int64_t n, int c, int hw, const float *src, DType dst_type, void *dst);
    void (*nhwc_to_nchw)(Device *, int64_t n, int c, int hw, DType src_type, const void *src, float *dst);
} ConvertOps;

#endif
