/* The operators of ContrastOps (contract/contrast.h) that need sums per group only, no similarities: implemented in
 * contrast_groups_cuda.cu, entered in the family's table by contrast_cuda.cu. */
#ifndef EXCON_KERNELS_CUDA_CONTRAST_GROUPS_H
#define EXCON_KERNELS_CUDA_CONTRAST_GROUPS_H

#include "kernels/contract/contrast.h"

void contrast_groups_cuda(Device *, const ContrastShape *, const float *z, const int32_t *group, float *sums,
                          int32_t *counts);
void contrast_loss_cuda(Device *, const ContrastShape *, const float *z, const int32_t *group, const float *sums,
                        const int32_t *counts, const float *lse, double *loss, float *lse_out);

#endif
