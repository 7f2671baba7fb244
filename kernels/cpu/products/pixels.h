/* The pixels that a 1x1 convolution with a stride reads, packed: it is then a convolution without stride on P x Q
 * pixels, which is one matrix product. (oneDNN 2.6 does such packing inside its AVX-512 1x1 convolutions, and writes
 * past its own temporaries there when C is below 16; its strided ones are slower, too.) */
#ifndef EXCON_KERNELS_CPU_PIXELS_H
#define EXCON_KERNELS_CPU_PIXELS_H

#include "kernels/contract/conv.h"

/* 1 for 1x1 convolutions with a stride and without padding. */
int pixels_strided(const ConvGeometry *g);

/* packed [N,P,Q,C] = every stride-th pixel of every stride-th line of x [N,H,W,C]. */
void pixels_gather(Device *device, const ConvGeometry *g, DType type, int64_t N, const void *x, void *packed);

/* The reverse: dx [N,H,W,C] gets the packed pixels where they came from, and zeros elsewhere. */
void pixels_scatter(Device *device, const ConvGeometry *g, DType type, int64_t N, const void *packed, void *dx);

#endif
