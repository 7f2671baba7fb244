/* Kinds of layers. A kind is one file of this folder that fills a LayerKind, and its line among the declarations below,
 * by which encoders add such a layer.
 *
 * Forward, backward and the plan of the memory are loops over a model's layers that call their kinds (walk.c, plan.c).
 * A kind says twice what it reads and writes, side by side in its file: to the plan (touch_forward, touch_backward) and
 * by doing it (forward, backward). */
#ifndef EXCON_TRAINER_LAYERS_H
#define EXCON_TRAINER_LAYERS_H

#include "trainer/model/plan.h"
#include "trainer/model/walk.h"

typedef struct LayerKind {
    const char *name;
    /* Gradient buffers: dy and dy2 are given, `own` says that dy may be changed; chooses dx (model_add_gradient) if the
     * layer was added without one. dx == dy is allowed. STATUS_INTERNAL when it cannot work so. */
    Status (*wire)(Model *, Layer *, bool own, Error *);
    /* What must be made on the device, and its end; either may be NULL. The model's arenas stand. */
    Status (*create)(Model *, Layer *, Error *);
    void (*destroy)(Model *, Layer *);

    /* Marks what forward and backward read or write at their step, by the plan's kind (plan.h: plan_touch). */
    void (*touch_forward)(Trace *, const Layer *);
    void (*touch_backward)(Trace *, const Layer *);
    /* in (, residual) -> out. */
    void (*forward)(const Walk *, const Layer *);
    /* dy (+ dy2) -> dx, and the gradient of `residual` in dy; in a PLAN_TRAIN walk also adds the parameters' gradients
     * to the model's arena. */
    void (*backward)(const Walk *, const Layer *);

    /* What running statistics decide, see walk.h; NULL where they decide nothing. */
    void (*prepare_running)(Model *, const Layer *, bool fold);
    void (*update_running)(Model *, const Layer *, const double *saved, int64_t rows);
} LayerKind;

/* ---- one line a kind: adds a layer that reads tensor `in`, returns the tensor it makes ---- */

/* Convolution without bias, R x R, padded by R/2; parameter NAME.weight. (conv.c) */
int model_add_conv(Model *model, const char *name, int in, int K, int R, int stride);
/* Batch norm, then adds `residual` (-1: none), then ReLU if asked for; parameters NAME.weight and NAME.bias. (norm.c)
 */
int model_add_norm(Model *model, const char *name, int in, int residual, bool relu);

/* Adds `residual` to `in`. (add.c) */
int model_add_sum(Model *model, int in, int residual);

/* ---- further ---- */

/* The norm that made tensor `first` also computes the moments of the one that made `second`, the next norm added: both
 * inputs are there, and one message carries both. (norm.c) */
void model_join_moments(Model *model, int first, int second);
/* Of a convolution; NULL for other kinds. (conv.c) */
const ConvGeometry *layer_conv_geometry(const Layer *layer);

#endif
