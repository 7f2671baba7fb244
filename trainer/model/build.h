/* Making a model's lists: what encoders, layer kinds and heads add to. Lists grow as needed; the program ends when
 * memory for them is short, they are small. */
#ifndef EXCON_TRAINER_BUILD_H
#define EXCON_TRAINER_BUILD_H

#include "trainer/model/layers/layers.h"

/* Elements that a span of an arena begins at a multiple of. */
enum { SPAN_ALIGN = 16 };

/* The input image, tensor 0; before any layer. */
int model_add_input(Model *model);

/* Appends a layer that makes one tensor of shape `out`, and `own_bytes` of zeros for its kind. Spans that belong to it
 * are added after it, before the next layer. The pointer holds until the next layer is added. */
Layer *model_add_layer(Model *model, const LayerKind *kind, int in, int residual, TensorShape out, size_t own_bytes);

/* A gradient buffer of the shape of `tensor`; its number. */
int model_add_gradient(Model *model, int tensor);

/* A span of parameters, and where it is in params. */
int model_add_span(Model *model, const char *name, SpanKind kind, SpanStart start, int rank, const int64_t *shape);

/* Running mean and variance of `channels` channels under NAME.running_mean and NAME.running_var, side by side; their
 * offset in the running arena. */
int64_t model_add_running(Model *model, const char *name, int channels);

/* The next stage's explainable tensor: one that a single layer reads. At most MODEL_STAGES. */
void model_add_stage(Model *model, int tensor);

/* The layer that makes a tensor; NULL for the input. */
Layer *model_producer(const Model *model, int tensor);

/* How many layers read a tensor; `first` (may be NULL) gets the first one's index. */
int model_readers(const Model *model, int tensor, int *first);

/* After the last layer, whose `output` the pooling reads: output_dx, and dy, dy2, dx of every layer. A layer's first
 * gradient (dy) is one that nobody else needs any more, if there is such a one, because kinds change it in place.
 * STATUS_INTERNAL when the layers' gradients cannot be put together so. */
Status model_wire(Model *model, int output, Error *err);

/* Frees the lists and what the kinds keep. */
void model_free_lists(Model *model);

#endif
