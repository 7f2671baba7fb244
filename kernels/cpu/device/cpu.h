/* The CPU backend's functions: one per entry of the operator table (kernels/ops.h), same name with `_cpu`.
 *
 * Shapes, units and what accumulates are documented at the table's entries. Every operator runs with OpenMP on
 * device->threads threads, returns when its work is done, and gives the same bits again for the same inputs and thread
 * count: reductions over rows are cut into parts by the thread count alone and added in part order. */
#ifndef EXCON_KERNELS_CPU_CPU_H
#define EXCON_KERNELS_CPU_CPU_H

#include "kernels/ops.h"

/* ---- memory ---- */
Status alloc_cpu(Device *, size_t bytes, void **out, Error *);
void release_cpu(Device *, void *pointer, size_t bytes);
void copy_in_cpu(Device *, void *dst, const void *host_src, size_t bytes);
void copy_out_cpu(Device *, void *host_dst, const void *src, size_t bytes);
void copy_cpu(Device *, void *dst, const void *src, size_t bytes);
void zero_cpu(Device *, void *dst, size_t bytes);
void sync_cpu(Device *);
Status host_alloc_cpu(Device *, size_t bytes, void **out, Error *);
void host_release_cpu(Device *, void *pointer, size_t bytes);
void close_cpu(Device *);

/* ---- copies in that overlap the work ---- */
void upload_start_cpu(Device *, int slot, void *dst, const void *host_src, size_t bytes);
void upload_wait_cpu(Device *, int slot);
void upload_release_cpu(Device *, int slot);
void upload_finish_cpu(Device *, int slot);

/* ---- time and graphs ---- */
void stamp_cpu(Device *, int slot);
double stamp_seconds_cpu(Device *, int from, int to);
int graph_begin_cpu(Device *, uint64_t key);
void graph_end_cpu(Device *);

/* ---- convert ---- */
void cast_cpu(Device *, int64_t n, DType src_type, const void *src, DType dst_type, void *dst);
void gather_rows_cpu(Device *, int64_t n, size_t row_bytes, const void *src, const int32_t *index, void *dst);
void add_cpu(Device *, int64_t n, const float *x, float *y);
void sum_cpu(Device *, int64_t n, const float *x, double weight, double *out);
void nchw_to_nhwc_cpu(Device *, int64_t n, int c, int hw, const float *src, DType dst_type, void *dst);
void nhwc_to_nchw_cpu(Device *, int64_t n, int c, int hw, DType src_type, const void *src, float *dst);

/* ---- conv ---- */
Status conv_create_cpu(Device *, const ConvGeometry *, DType, ConvPlan **out, Error *);
void conv_destroy_cpu(Device *, ConvPlan *);
void conv_forward_cpu(Device *, ConvPlan *, int64_t N, const void *x, const void *w, const ConvEpilogue *, void *y);
void conv_backward_data_cpu(Device *, ConvPlan *, int64_t N, const void *dy, const void *w, void *dx);
void conv_backward_weight_cpu(Device *, ConvPlan *, int64_t N, const void *x, const void *dy, float *dw);

/* ---- norm ---- */
void norm_sums_cpu(Device *, int64_t M, int C, DType, const void *x, double *sums);
void norm_finalize_cpu(Device *, int C, const double *sums, double count, float eps, float momentum, const float *gamma,
                       const float *beta, float *mean, float *invstd, float *scale, float *shift, float *running_mean,
                       float *running_var);
void norm_from_running_cpu(Device *, int C, float eps, const float *running_mean, const float *running_var,
                           const float *gamma, const float *beta, float *mean, float *invstd, float *scale,
                           float *shift);
void norm_apply_cpu(Device *, int64_t M, int C, DType, const void *x, const float *scale, const float *shift,
                    const void *residual, int relu, void *y);
void norm_backward_sums_cpu(Device *, int64_t M, int C, DType, void *dy, const void *dy2, const void *y, const void *x,
                            const float *mean, const float *invstd, const float *scale, const float *shift, int relu,
                            double *sums);
void norm_backward_params_cpu(Device *, int C, const double *sums, float *dgamma, float *dbeta);
void norm_backward_apply_cpu(Device *, int64_t M, int C, DType, const void *dz, const void *x, const float *mean,
                             const float *invstd, const float *scale, const double *sums, double count, void *dx);
void norm_fold_cpu(Device *, int K, int64_t n, const float *w, const float *scale, DType, void *w_out);

/* ---- pool ---- */
void pool_forward_cpu(Device *, int64_t N, int HW, int C, DType, const void *x, float *features);
void pool_backward_cpu(Device *, int64_t N, int HW, int C, DType, const float *dfeatures, void *dx);

/* ---- dense ---- */
void dense_forward_cpu(Device *, int64_t N, int in, int out, const float *x, const float *w, const float *b, int relu,
                       float *y);
void dense_backward_data_cpu(Device *, int64_t N, int in, int out, const float *dy, const float *w, float *dx);
void dense_backward_weight_cpu(Device *, int64_t N, int in, int out, const float *x, const float *dy, float *dw,
                               float *db);
void relu_backward_cpu(Device *, int64_t n, const float *y, float *dy);
void unit_forward_cpu(Device *, int64_t N, int D, const float *x, float *z, float *inv_norm);
void unit_backward_cpu(Device *, int64_t N, int D, const float *z, const float *inv_norm, const float *dz, float *dx);

/* ---- views ---- */
void views_make_cpu(Device *, const ViewSpec *, int64_t N, int H, int W, const uint8_t *images, const int64_t *ids,
                    DType, void *out, ViewParams *params);

/* ---- saliency ---- */
void saliency_weights_cpu(Device *, int64_t N, int HW, int C, DType, const void *dA, float *alpha);
void saliency_cam_cpu(Device *, int64_t N, int HW, int C, DType, const void *A, const float *alpha, int relu,
                      float *cam);
void saliency_channel_sum_cpu(Device *, int64_t N, int HW, int C, DType, const void *x, const void *weight, int relu,
                              float *cam);
void saliency_upsample_cpu(Device *, int64_t N, int h, int w, int H, int W, const float *cam, float *up);
void saliency_mask_cpu(Device *, int64_t N, int HW, const float *up, float threshold, float *mask);
void saliency_top_cpu(Device *, int64_t N, int HW, const float *up, int keep, float *mask);
void saliency_apply_cpu(Device *, int64_t N, int HW, DType, const void *x, const float *mask, const float fill[3],
                        int invert, void *out);
void saliency_soften_cpu(Device *, int64_t N, int HW, DType, const void *x, const float *up, void *out);

/* ---- select ---- */
void select_rows_cpu(Device *, int64_t N, size_t row_bytes, const int32_t *accept, const void *a, const void *b,
                     void *out);
void select_rejected_cpu(Device *, int64_t N, const int32_t *accept, int64_t max, int32_t *index, int32_t *count);

/* ---- classify ---- */
void classify_loss_cpu(Device *, int64_t N, int C, const float *logits, const int32_t *labels, float weight,
                       float *losses, float *dlogits);
void classify_predict_cpu(Device *, int64_t N, int C, const float *logits, int32_t *predicted);
void classify_rank_cpu(Device *, int64_t N, int C, const float *logits, const int32_t *labels, int32_t *rank);
void classify_probability_cpu(Device *, int64_t N, int C, const float *logits, const int32_t *target, float *p);
void classify_onehot_cpu(Device *, int64_t N, int C, const int32_t *target, float *dlogits);
void classify_equal_cpu(Device *, int64_t N, const int32_t *a, const int32_t *b, int32_t *equal);

/* ---- contrast ---- */
size_t contrast_scratch_cpu(Device *, int64_t rows, int groups, int dim);
void contrast_groups_cpu(Device *, const ContrastShape *, const float *z, const int32_t *group, float *sums,
                         int32_t *counts);
void contrast_lse_cpu(Device *, const ContrastShape *, const float *z, float *lse, void *scratch);
void contrast_loss_cpu(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                       const int32_t *counts, const float *lse, double *loss, float *lse_out);
void contrast_gradient_cpu(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                           const int32_t *counts, const float *lse, float *dz, void *scratch);

/* ---- optimise ---- */
void sgd_cpu(Device *, int64_t n, const SgdStep *, const float *gradient, float *velocity, float *parameter, void *low);

/* ---- guard ---- */
void guard_nonfinite_cpu(Device *, int64_t n, const float *x, int64_t *count);

#endif
