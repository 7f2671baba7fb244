/* The tiled contrastive loss over the gathered rows of all ranks (docs/design.md, "The mathematics"; Khosla et al. 2020
 * eq. 2). Nothing of size rows x rows is stored. */
#ifndef EXCON_CONTRACT_CONTRAST_H
#define EXCON_CONTRACT_CONTRAST_H

#include "kernels/device.h"

/* Row bookkeeping of the contrastive loss. */
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

typedef struct ContrastOps {
    /* Bytes of scratch the three operators below share for this many rows, G and D. */
    size_t (*scratch)(Device *, int64_t rows, int groups, int dim);
    /* sums [G,D] f32 and counts [G] i32 over ALL gathered rows, group -1 skipped. */
    void (*groups)(Device *, const ContrastShape *, const float *z, const int32_t *group, float *sums, int32_t *counts);
    /* Pass 1: lse [own_rows] = log sum_{j != i} exp(z_i.z_j / T) over every row. One row alone gives -inf. */
    void (*lse)(Device *, const ContrastShape *, const float *z, float *lse, void *scratch);
    /* Own anchors' share of the loss, loss [1] f64: (T/T0)/A * sum_i a_i (lse_i - mean_{p in P_i} s_ip); also sets
     * lse_out [own_rows] = a_i ? lse_i : +inf, the form pass 2 wants after gathering. */
    void (*loss)(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                 const int32_t *counts, const float *lse, double *loss, float *lse_out);
    /* Pass 2: dz [own_rows, D] of the global mean; lse [rows] gathered (+inf where a = 0). */
    void (*gradient)(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                     const int32_t *counts, const float *lse, float *dz, void *scratch);
} ContrastOps;

#endif
