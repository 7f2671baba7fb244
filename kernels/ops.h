/* The operator table: every computation of a training step, one function pointer per operator.
 *
 * A backend fills one `const Ops`. All pointers are device pointers unless a name says `host`. Launchers never allocate
 * per call (plans and scratch are created once) and, copy_out and sync aside, never wait. "+=" marks outputs that are
 * accumulated; all others are overwritten. Reductions accumulate in f32 or wider. A count of 0 rows is always valid.
 * Failures no caller could handle end the job through device_fatal(). */
#ifndef EXCON_KERNELS_OPS_H
#define EXCON_KERNELS_OPS_H

#include "kernels/contract/conv.h"
#include "kernels/contract/views.h"
#include "kernels/device.h"

/* Row bookkeeping of the contrastive loss; see contrast_* below. */
typedef struct ContrastShape {
    int64_t rows;      /* gathered rows of all ranks */
    int64_t own_first; /* this rank's rows are [own_first, own_first + own_rows) of the gathered order */
    int64_t own_rows;
    int dim;                /* D */
    int groups;             /* G; group ids are 0..G-1, or -1 for rows without a group */
    int64_t anchors;        /* A: the mean's denominator */
    float temperature;      /* T */
    float base_temperature; /* T0 */
    DType products;         /* precision of what enters a product of rows: f32, or bf16 where the backend has a faster
                               unit for it (CUDA). Sums are f32 or wider either way */
} ContrastShape;

typedef struct SgdStep {
    float lr, momentum, weight_decay;
} SgdStep;

typedef struct Ops {
    /* ---- memory ------------------------------------------------------------------------------------------------- */
    /* Zero-filled, 64-byte aligned. STATUS_SYSTEM with the size in the message when there is not enough. */
    Status (*alloc)(Device *, size_t bytes, void **out, Error *);
    void (*release)(Device *, void *pointer, size_t bytes);
    /* The copy happens in the order of the stream: the source must stay as it is until sync or copy_out, whatever
     * memory it is. (CUDA may have read a source that is not host_alloc's when the call returns, and does not promise
     * it.) */
    void (*copy_in)(Device *, void *dst, const void *host_src, size_t bytes);
    void (*copy_out)(Device *, void *host_dst, const void *src, size_t bytes); /* waits */
    void (*copy)(Device *, void *dst, const void *src, size_t bytes);
    void (*zero)(Device *, void *dst, size_t bytes);
    void (*sync)(Device *);
    /* Host memory that copies reach without a detour (pinned, for CUDA), zero-filled. */
    Status (*host_alloc)(Device *, size_t bytes, void **out, Error *);
    void (*host_release)(Device *, void *pointer, size_t bytes);
    void (*close)(Device *);

    /* ---- copies in that overlap the work --------------------------------------------------------------------------
     */
    /* A slot, in [0, DEVICE_UPLOADS), names what is copied in together. Its copies run beside the stream's work:
     *   start    copies from host_alloc's memory into dst, after the work before the slot's last release; one or more
     *   wait     work issued from now on comes after the slot's copies
     *   release  work issued so far was the last to use the slot's destinations: later copies come after it. Needed
     *            after alloc too, which zeroes in the order of the stream
     *   finish   the host waits for the slot's copies: their sources may be changed
     * Users of one slot may wait longer than they must, never shorter. Not within a recorded stretch. CPU: start
     * copies, the others have nothing to do. */
    void (*upload_start)(Device *, int slot, void *dst, const void *host_src, size_t bytes);
    void (*upload_wait)(Device *, int slot);
    void (*upload_release)(Device *, int slot);
    void (*upload_finish)(Device *, int slot);

    /* ---- time and graphs ----------------------------------------------------------------------------------------- */
    /* Marks a moment in the device's order of work; and the seconds between two marks, valid after sync. A slot is in
     * [0, DEVICE_STAMPS). */
    void (*stamp)(Device *, int slot);
    double (*stamp_seconds)(Device *, int from, int to);
    /* A stretch of launches that is the same every time: same calls, same addresses, same numbers. `key` says which.
     * begin: 0 when a recording of `key` was started instead, then the caller issues nothing; 1 when the caller issues
     * the stretch and calls graph_end. Inside a stretch nothing waits for the device, nothing is allocated, and copies
     * to and from the host use host_alloc's memory. A stretch is recorded when its key is met the second time; a few
     * recordings are kept. CPU: always 1. */
    int (*graph_begin)(Device *, uint64_t key);
    void (*graph_end)(Device *);

    /* ---- convert ------------------------------------------------------------------------------------------------ */
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

    /* ---- conv (contract/conv.h) ------------------------------------------------------------------------------------
     */
    Status (*conv_create)(Device *, const ConvGeometry *, DType, ConvPlan **out, Error *);
    void (*conv_destroy)(Device *, ConvPlan *);
    /* y = conv(x, w), then the epilogue if not NULL. */
    void (*conv_forward)(Device *, ConvPlan *, int64_t N, const void *x, const void *w, const ConvEpilogue *, void *y);
    /* dx = conv^T(dy, w). */
    void (*conv_backward_data)(Device *, ConvPlan *, int64_t N, const void *dy, const void *w, void *dx);
    /* dw [K,R,R,C] f32 += x (*) dy. */
    void (*conv_backward_weight)(Device *, ConvPlan *, int64_t N, const void *x, const void *dy, float *dw);

    /* ---- norm: batch norm over M = N*H*W positions of C channels (Ioffe & Szegedy 2015)
     * ------------------------------- */
    /* sums [2C] f64 = {sum_m x[m,c], sum_m x[m,c]^2}: the part a SyncBN all-reduce adds over ranks. */
    void (*norm_sums)(Device *, int64_t M, int C, DType, const void *x, double *sums);
    /* From (all-reduced) sums over `count` positions: mean, invstd = 1/sqrt(biased var + eps), scale = gamma*invstd,
     * shift = beta - mean*scale; all [C] f32. running_* may be NULL; else r += momentum*(batch - r) with the unbiased
     * variance (count 1: biased). count 0 leaves everything untouched. */
    void (*norm_finalize)(Device *, int C, const double *sums, double count, float eps, float momentum,
                          const float *gamma, const float *beta, float *mean, float *invstd, float *scale, float *shift,
                          float *running_mean, float *running_var);
    /* The same four from running statistics. */
    void (*norm_from_running)(Device *, int C, float eps, const float *running_mean, const float *running_var,
                              const float *gamma, const float *beta, float *mean, float *invstd, float *scale,
                              float *shift);
    /* y = relu?(x*scale + shift (+ residual)); residual may be NULL. y may be x or residual. */
    void (*norm_apply)(Device *, int64_t M, int C, DType, const void *x, const float *scale, const float *shift,
                       const void *residual, int relu, void *y);
    /* First backward pass. g = dy (+ dy2); dz = relu ? g*(y > 0) : g, written over dy; sums [2C] f64 =
     * {sum_m dz, sum_m dz * xhat}, xhat = (x - mean)*invstd. y NULL with relu: y > 0 is recomputed as x*scale + shift >
     * 0 (only valid without residual). dy2 may be NULL. sums NULL: only dz is made. */
    void (*norm_backward_sums)(Device *, int64_t M, int C, DType, void *dy, const void *dy2, const void *y,
                               const void *x, const float *mean, const float *invstd, const float *scale,
                               const float *shift, int relu, double *sums);
    /* dgamma += sums[C..2C), dbeta += sums[0..C): from this rank's own sums, before they are all-reduced. */
    void (*norm_backward_params)(Device *, int C, const double *sums, float *dgamma, float *dbeta);
    /* Second pass, batch statistics: dx = scale * (dz - sums0/count - xhat*sums1/count); sums NULL (running
     * statistics): dx = scale * dz. dx may be dz. */
    void (*norm_backward_apply)(Device *, int64_t M, int C, DType, const void *dz, const void *x, const float *mean,
                                const float *invstd, const float *scale, const double *sums, double count, void *dx);
    /* Folds a norm into the convolution before it: w_out[k,:] = w[k,:]*scale[k] (w_out of dtype), n = R*R*C per k. */
    void (*norm_fold)(Device *, int K, int64_t n, const float *w, const float *scale, DType, void *w_out);

    /* ---- pool --------------------------------------------------------------------------------------------------- */
    /* features [N,C] f32 = mean over HW of x [N,HW,C]; and dx [N,HW,C] = dfeatures / HW. */
    void (*pool_forward)(Device *, int64_t N, int HW, int C, DType, const void *x, float *features);
    void (*pool_backward)(Device *, int64_t N, int HW, int C, DType, const float *dfeatures, void *dx);

    /* ---- dense, f32 -----------------------------------------------------------------------------------------------
     */
    /* y [N,out] = relu?(x [N,in] w^T [out,in] + b). b may be NULL. */
    void (*dense_forward)(Device *, int64_t N, int in, int out, const float *x, const float *w, const float *b,
                          int relu, float *y);
    void (*dense_backward_data)(Device *, int64_t N, int in, int out, const float *dy, const float *w, float *dx);
    /* dw += dy^T x, db += column sums of dy (db may be NULL). */
    void (*dense_backward_weight)(Device *, int64_t N, int in, int out, const float *x, const float *dy, float *dw,
                                  float *db);
    /* dy[i] = y[i] > 0 ? dy[i] : 0. */
    void (*relu_backward)(Device *, int64_t n, const float *y, float *dy);

    /* ---- unit: z = x / max(|x|, 1e-12) row by row -------------------------------------------------------------------
     */
    void (*unit_forward)(Device *, int64_t N, int D, const float *x, float *z, float *inv_norm);
    /* dx = (dz - z (z.dz)) * inv_norm. */
    void (*unit_backward)(Device *, int64_t N, int D, const float *z, const float *inv_norm, const float *dz,
                          float *dx);

    /* ---- views (contract/views.h)
     * ------------------------------------------------------------------------------------ */
    /* out [N,H,W,3] of dtype from images [N,H,W,3] u8 with global ids [N]. params (device, [N]) may be NULL; jittered
     * images before normalisation are not kept. */
    void (*views_make)(Device *, const ViewSpec *, int64_t N, int H, int W, const uint8_t *images, const int64_t *ids,
                       DType, void *out, ViewParams *params);

    /* ---- saliency (Selvaraju et al. 2017; the published ExCon's variant)
     * ------------------------------------------------ */
    /* alpha [N,C] f32 = mean over HW of dA [N,HW,C]. */
    void (*saliency_weights)(Device *, int64_t N, int HW, int C, DType, const void *dA, float *alpha);
    /* cam [N,HW] f32 = sum_c alpha[n,c] A[n,hw,c]; relu: negatives to 0. */
    void (*saliency_cam)(Device *, int64_t N, int HW, int C, DType, const void *A, const float *alpha, int relu,
                         float *cam);
    /* cam [N,H,W] f32 = sum over channels of (signed) x [N,H,W,C] (* weight [N,H,W,C] if not NULL): input attributions.
     */
    void (*saliency_channel_sum)(Device *, int64_t N, int HW, int C, DType, const void *x, const void *weight, int relu,
                                 float *cam);
    /* up [N,H,W]: bilinear, half-pixel centres, edges clamped (torch interpolate, align_corners=False). */
    void (*saliency_upsample)(Device *, int64_t N, int h, int w, int H, int W, const float *cam, float *up);
    /* mask [N,HW] f32 0/1: v = up - min; v / (max v + 1e-8) > threshold, strictly; per image. */
    void (*saliency_mask)(Device *, int64_t N, int HW, const float *up, float threshold, float *mask);
    /* mask [N,HW] = 1 on the `keep` largest of up (ties: lower index first), for drop/increase. */
    void (*saliency_top)(Device *, int64_t N, int HW, const float *up, int keep, float *mask);
    /* out = mask ? x : fill[c], x/out [N,HW,3] of dtype; invert: kept where the mask is 0. */
    void (*saliency_apply)(Device *, int64_t N, int HW, DType, const void *x, const float *mask, const float fill[3],
                           int invert, void *out);
    /* out = x times the image's map on 0..1, as saliency_mask scales it; x/out [N,HW,3] of dtype. A map with a NaN
     * gives 0. */
    void (*saliency_soften)(Device *, int64_t N, int HW, DType, const void *x, const float *up, void *out);

    /* ---- select -------------------------------------------------------------------------------------------------- */
    /* out row i = accept[i] ? a row i : b row i. */
    void (*select_rows)(Device *, int64_t N, size_t row_bytes, const int32_t *accept, const void *a, const void *b,
                        void *out);
    /* index [N] = the first min(count, max) positions with accept == 0 in order, then -1; count [1] = how many there
     * are (not capped). */
    void (*select_rejected)(Device *, int64_t N, const int32_t *accept, int64_t max, int32_t *index, int32_t *count);

    /* ---- classify ------------------------------------------------------------------------------------------------ */
    /* losses [N] f32 = -log softmax(logits)[label]; dlogits [N,C] (may be NULL) = weight * (softmax - onehot). */
    void (*classify_loss)(Device *, int64_t N, int C, const float *logits, const int32_t *labels, float weight,
                          float *losses, float *dlogits);
    /* predicted [N] = argmax (lowest index on ties); -1 for a row with a NaN, which is of no class. */
    void (*classify_predict)(Device *, int64_t N, int C, const float *logits, int32_t *predicted);
    /* rank [N] = number of classes placed before the label (larger logit, equal with lower index, or NaN): top-k = rank
     * < k for k up to C. A label with a NaN logit ranks C. */
    void (*classify_rank)(Device *, int64_t N, int C, const float *logits, const int32_t *labels, int32_t *rank);
    /* p [N] = softmax(logits)[target]. */
    void (*classify_probability)(Device *, int64_t N, int C, const float *logits, const int32_t *target, float *p);
    /* dlogits [N,C] = onehot(target): the seed of Grad-CAM's backward. */
    void (*classify_onehot)(Device *, int64_t N, int C, const int32_t *target, float *dlogits);
    /* equal [N] = a[i] == b[i]. */
    void (*classify_equal)(Device *, int64_t N, const int32_t *a, const int32_t *b, int32_t *equal);

    /* ---- contrast: the tiled global loss (DESIGN 3; Khosla et al. 2020 eq. 2)
     * -------------------------------------------- */
    /* Bytes of scratch the three operators below share for this many rows, G and D. */
    size_t (*contrast_scratch)(Device *, int64_t rows, int groups, int dim);
    /* sums [G,D] f32 and counts [G] i32 over ALL gathered rows, group -1 skipped. */
    void (*contrast_groups)(Device *, const ContrastShape *, const float *z, const int32_t *group, float *sums,
                            int32_t *counts);
    /* Pass 1: lse [own_rows] = log sum_{j != i} exp(z_i.z_j / T) over every row. One row alone gives -inf. */
    void (*contrast_lse)(Device *, const ContrastShape *, const float *z, float *lse, void *scratch);
    /* Own anchors' share of the loss, loss [1] f64: (T/T0)/A * sum_i a_i (lse_i - mean_{p in P_i} s_ip); also sets
     * lse_out [own_rows] = a_i ? lse_i : +inf, the form pass 2 wants after gathering. */
    void (*contrast_loss)(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                          const int32_t *counts, const float *lse, double *loss, float *lse_out);
    /* Pass 2: dz [own_rows, D] of the global mean; lse [rows] gathered (+inf where a = 0). */
    void (*contrast_gradient)(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                              const int32_t *counts, const float *lse, float *dz, void *scratch);

    /* ---- optimise ---------------------------------------------------------------------------------------------------
     */
    /* torch.optim.SGD: v = momentum*v + (g + weight_decay*p); p -= lr*v; low (bf16, may be NULL) = bf16(p). */
    void (*sgd)(Device *, int64_t n, const SgdStep *, const float *gradient, float *velocity, float *parameter,
                void *low);

    /* ---- guard ------------------------------------------------------------------------------------------------------
     */
    /* count [1] i64 += number of NaN or Inf in x. */
    void (*guard_nonfinite)(Device *, int64_t n, const float *x, int64_t *count);
} Ops;

#endif
