/* Explainers: what turns a model and an image into a saliency map.
 *
 * An explainer is a file of this folder, which fills an ExplainerKind, and a line of the list in
 * trainer/config/keys/explain_methods.h, from which the table in explainers.c and the values of explain.method are
 * made. The passes that explainers are composed of stand below the table. */
#ifndef EXCON_TRAINER_EXPLAINERS_H
#define EXCON_TRAINER_EXPLAINERS_H

#include "trainer/method/explain.h"

struct ExplainerKind {
    bool at_layer; /* the map is of a convolution's output, explain.layer: e->tensor, h, w, channels; else of the image
                    */
    bool recordable; /* its launches wait for nothing, and a device may record and replay them */
    size_t (*own_bytes)(const Explainer *e); /* device memory of its own, e->own; NULL: none */
    /* Fills e->cam [rows,h,w] f32 (device): the map of `images` [rows,H,W,3] of dtype (device) for the class that
     * explainer_targets gives, negative values cut off when e->options.relu. `walk` is of the plan e->explain. How
     * often batch statistics move the running ones: see explain_saliency. */
    void (*saliency)(Explainer *e, const Walk *walk, const void *images, const int32_t *labels);
};

/* The table's entry of a value of explain.method. */
const ExplainerKind *explainer_kind(int method);

/* ---- the passes -------------------------------------------------------------------------------------------------- */

/* Forward of the images themselves, to heads->features; their batch statistics are kept for explain_select. */
void explainer_forward(Explainer *e, const Walk *walk, const void *images);

/* The classes [rows] (device) that are explained: `labels`, or with explain.target predicted what the model made of the
 * images in the last forward. */
const int32_t *explainer_targets(Explainer *e, int64_t rows, const int32_t *labels);

/* Derivatives of each row's target logit by its features, to heads->dfeatures. */
void explainer_seed(Explainer *e, int64_t rows, const int32_t *target);

#endif
