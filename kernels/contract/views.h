/* The random transform of contrastive training: uint8 image -> normalised NHWC view.
 *
 * Parameters of a view are a pure function of (seed, epoch, sample id, view): views_draw() inlines into both backends,
 * so ranks, threads and devices agree bit for bit. Order of operations (SupContrast's TwoCropTransform without blur):
 * resized crop (bilinear, half-pixel centres, edges clamped) -> horizontal flip -> with probability jitter_probability
 * brightness, contrast, saturation and hue in a drawn order, each clamped to [0,1] -> grey with probability
 * grey_probability -> (x - mean) / std. All in float32; images are scaled to [0,1] first.
 * Definitions of the colour operators follow torchvision.transforms.functional on float tensors. */
#ifndef EXCON_CONTRACT_VIEWS_H
#define EXCON_CONTRACT_VIEWS_H

#include <math.h>

#include "kernels/base/philox.h"
#include "kernels/device.h"

typedef enum ViewKind {
    VIEW_STANDARD = 0, /* scale and normalise only */
    VIEW_RANDOM = 1,   /* the whole random transform */
    VIEW_CROP_FLIP = 2 /* pad-4-free resized crop and flip only: the classifier's own pass on CIFAR */
} ViewKind;

typedef struct ViewSpec {
    ViewKind kind;
    uint64_t seed;
    uint32_t epoch; /* from 1 */
    uint32_t view;  /* 1 = first (the backup crop), 2 = second, 3 = the classifier's own pass */
    float scale_min, scale_max, ratio_min, ratio_max;
    float flip_probability, jitter_probability, grey_probability;
    float brightness, contrast, saturation, hue; /* strengths; hue in [0, 0.5] */
    float mean[3], std[3];
} ViewSpec;

/* What was drawn for one view. The identity for VIEW_STANDARD. */
typedef struct ViewParams {
    int32_t crop[4]; /* y, x, h, w in source pixels */
    int32_t flip;
    int32_t jittered;
    int32_t order[4]; /* a permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue */
    float jitter[4];  /* factors in the order brightness, contrast, saturation, hue */
    int32_t grey;
} ViewParams;

typedef struct ViewsOps {
    /* out [N,H,W,3] of dtype from images [N,H,W,3] u8 with global ids [N]. params (device, [N]) may be NULL; jittered
     * images before normalisation are not kept. */
    void (*make)(Device *, const ViewSpec *, int64_t N, int H, int W, const uint8_t *images, const int64_t *ids, DType,
                 void *out, ViewParams *params);
} ViewsOps;

#endif
