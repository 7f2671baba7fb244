/* The network: an image encoder, the projection head and the classifier.
 *
 * One list of layers in forward order is all that forward, backward and partial backward walk. An encoder
 * (encoders/encoders.h) makes the list; what a layer does is its kind's business (layers/layers.h).
 * Parameters live in one flat f32 arena in that order (encoder | head | classifier) with gradient and, for bf16,
 * low-precision arenas of the same layout; a table of named spans ties offsets to the published PyTorch names.
 * Convolution weights are KRRC inside and OIHW in checkpoints. Padding between spans stays zero.
 *
 * Activations come from an arena laid out by plan.h. */
#ifndef EXCON_TRAINER_MODEL_H
#define EXCON_TRAINER_MODEL_H

#include <stdbool.h>

#include "comm/buckets.h"
#include "comm/comm.h"
#include "kernels/ops.h"

typedef struct ModelShape {
    char encoder[16]; /* a name of encoders/encoders.h's table */
    int width, classes, projection;
    int size; /* image side */
} ModelShape;

typedef enum SpanKind { SPAN_CONV, SPAN_VECTOR, SPAN_MATRIX } SpanKind;

/* How a span starts: drawn as published for a convolution (Kaiming normal, fan-out) or a dense layer (PyTorch's
 * default), or all zeros or ones. */
typedef enum SpanStart { START_CONV, START_DENSE, START_ZEROS, START_ONES } SpanStart;

/* A named piece of an arena. */
typedef struct Span {
    char name[96];
    SpanKind kind;
    SpanStart start;
    int rank;
    int64_t shape[4]; /* as PyTorch has it: OIHW, [out, in], [C] */
    int64_t offset, count;
} Span;

typedef struct TensorShape {
    int H, W, C;
} TensorShape;

/* Tensors and gradient buffers are numbered; see plan.h for where they lie. -1: none. */
typedef struct Layer {
    const struct LayerKind *kind;
    int in, residual, out; /* tensors: what it reads, what it adds to that, what it makes */
    int dy;                /* gradient buffer of `out`; after the layer's backward also the gradient of `residual` */
    int dy2;               /* second gradient of `out`, read only: where two layers read it */
    int dx;                /* gradient buffer of `in` */
    int first_span;        /* index of its first parameter span; without any: of the next layer's */
    void *own;             /* what its kind keeps of it, malloc'ed */
} Layer;

enum { MODEL_STAGES = 4 };

typedef struct Model {
    Device *device; /* borrowed */
    Comm *comm;     /* borrowed */
    DType dtype;    /* of activations and convolution weights */
    ModelShape shape;
    float bn_eps, bn_momentum;
    int bn_global; /* statistics over all ranks */

    Layer *layers;
    int layer_count;
    TensorShape *tensors; /* tensor 0: the input */
    int tensor_count;
    TensorShape *gradients; /* of the gradient buffers */
    int gradient_count;
    int output;              /* tensor the pooling reads */
    int output_dx;           /* gradient buffer pooling's backward writes */
    int features;            /* F */
    int stage[MODEL_STAGES]; /* explainable tensor of each stage, see model_explain_tensor */
    int stage_count;

    Span *params, *buffers; /* buffers: running statistics */
    int param_count, buffer_count_named;
    int64_t total;                        /* elements of the parameter arena, padding included */
    int64_t head_first, classifier_first; /* arena offsets: encoder [0, head_first), head, classifier */
    int head_span, classifier_span;       /* indexes into params of head.0.weight and classifier.fc.weight */
    int64_t running_total, stats_total, sums_total, folded_total;

    float *master, *gradient; /* [total] */
    void *low;                /* [total] bf16, or master itself for f32 */
    float *running;           /* [running_total] */
    float *stats;             /* [stats_total] */
    double *sums;             /* [sums_total], then room for twice the channels of the widest tensor */
    void *folded;             /* [folded_total] of dtype: conv weights times scale, for folded passes */
} Model;

/* Builds the layer list and the arenas; parameters get the published initialisation drawn from `seed`.
 * STATUS_CONFIG for shapes that make no sense, STATUS_SYSTEM when memory is short. */
Status model_init(Model *model, Device *device, Comm *comm, const ModelShape *shape, DType dtype, uint64_t seed,
                  Error *err);
/* Also of a model that has no arenas yet, only layers (encoder_build). */
void model_free(Model *model);

/* Refreshes low-precision weights from the master arena (after loading parameters). */
void model_sync_low(Model *model);

/* Host copies of a span in PyTorch layout, [span.count] floats. `arena` has the layout of the parameters: master,
 * gradient, an optimiser's slot. */
void model_read_span(const Model *model, const float *arena, const Span *span, float *host);
void model_write_span(Model *model, float *arena, const Span *span, const float *host);

/* The tensor that Grad-CAM reads, by explain.layer: 1.. for layer1.., 0 for auto, which is the last stage for image
 * sides of 64 and more, else the second. STATUS_CONFIG when the encoder has no such stage. */
Status model_explain_tensor(const Model *model, int stage, int *tensor, Error *err);

/* Weights of span `index` in compute precision. */
const void *model_weights(const Model *model, int span);

#endif
