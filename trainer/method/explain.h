/* Explanation: what in an image the current model relies on, and whether the rest can go.
 *
 * A saliency map by one of the explainers (explainers/), upsampled, normalised and thresholded into a mask; the masked
 * image is classified, and its acceptance decided. The published variant: raw convolution output, signed CAM, strict
 * threshold, batch statistics; see the switches under `explain` in the configuration. Logits come from pooled features,
 * the projection head plays no part. */
#ifndef EXCON_TRAINER_EXPLAIN_H
#define EXCON_TRAINER_EXPLAIN_H

#include "trainer/config/config.h"
#include "trainer/model/heads.h"
#include "trainer/model/walk.h"

typedef struct ExplainOptions {
    int method, bn, target, fill, rule;
    bool relu, update_running_stats;
    int stage; /* 0 auto, 1..4 */
    int steps; /* integrated gradients */
    float threshold;
    float black[3]; /* value of a black pixel after normalisation */
} ExplainOptions;

typedef struct ExplainerKind ExplainerKind; /* explainers/explainers.h */

typedef struct Explainer {
    ExplainOptions options;
    const ExplainerKind *kind;
    Model *model;       /* borrowed */
    Heads *heads;       /* borrowed; rows [0, rows) of its buffers are overwritten */
    int tensor;         /* that is explained: of model_explain_tensor, or 0, the image itself */
    int h, w, channels; /* its shape */
    bool updates;       /* the passes move the running statistics */
    Plan explain, infer;
    char *arena; /* borrowed: at least explainer_arena_bytes() */
    int64_t max_rows;
    void *masked;         /* [rows,H,W,3] of dtype */
    void *own;            /* the explainer's own, or NULL */
    float *cam;           /* [rows,h,w] raw */
    float *up;            /* [rows,H,W] */
    float *mask;          /* [rows,H,W] 0/1 */
    float *masked_logits; /* [rows,C] */
    int32_t *target;      /* [rows] */
    int32_t *accept;      /* [rows] */
    double *moments;      /* [sums_total], the images' own batch statistics */
} Explainer;

/* Options as the configuration says, for training. */
ExplainOptions explain_options(const Config *config, const float mean[3], const float std[3]);

/* For up to `max_rows` images; the caller gives it its arena before the first use. STATUS_CONFIG when the encoder has
 * no such stage, STATUS_SYSTEM when memory is short; then nothing is left to free. */
Status explainer_init(Explainer *e, const ExplainOptions *options, Model *model, Heads *heads, int64_t max_rows,
                      Error *err);
/* Fine when not initialised. */
void explainer_free(Explainer *e);
/* Bytes of activations that it needs (e->arena). */
size_t explainer_arena_bytes(const Explainer *e);

/* Saliency of `images` [rows,H,W,3] (device, dtype): fills cam, up. `labels` [rows] (device) are the targets unless the
 * options say predicted: then the classes that the model predicts for the images, once, whatever the method. With
 * running statistics walk_prepare_running(model, true) must have been called.
 *
 * How often running statistics move, with batch statistics and updates on, as in the published code, where every pass
 * runs in training mode: once for each pass that makes the map (one, or one for each of integrated's `steps` points),
 * once for the masked images and once for the originals (explain_select); then the training pass moves them, too. The
 * forward by which integrated learns about the images themselves moves nothing: the pass over the originals is it. */
void explain_saliency(Explainer *e, const void *images, const int32_t *labels, int64_t rows, int64_t global_rows);

/* After explain_saliency: mask and masked image. */
void explain_mask(Explainer *e, const void *images, int64_t rows);

/* After explain_mask: classifies the masked image: masked_logits, accept. With batch statistics and updates on, the
 * published code's third pass (over the originals) updates the running statistics once more. */
void explain_select(Explainer *e, const int32_t *labels, int64_t rows, int64_t global_rows);

/* features and logits (heads->features, heads->logits) of `images` in inference. */
void explain_classify(Explainer *e, const void *images, int64_t rows, int64_t global_rows);

#endif
