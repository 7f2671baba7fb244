/* The network: ResNet with the CIFAR stem (3x3, stride 1, no max-pool), projection head and classifier.
 *
 * One list of layers (convolutions and norms in forward order) is all that forward, backward and partial backward walk.
 * Parameters live in one flat f32 arena in that order (encoder | head | classifier) with gradient and, for
 * bf16, low-precision arenas of the same layout; a table of named spans ties offsets to the published PyTorch names.
 * Convolution weights are KRRC inside and OIHW in checkpoints. Padding between spans stays zero.
 *
 * Activations come from an arena laid out by plan.h. */
#ifndef EXCON_TRAINER_MODEL_H
#define EXCON_TRAINER_MODEL_H

#include "comm/buckets.h"
#include "comm/comm.h"
#include "kernels/ops.h"

typedef struct ModelShape {
    char encoder[16]; /* resnet10|18|34|50|101 */
    int width, classes, projection;
    int size; /* image side */
} ModelShape;

typedef enum SpanKind { SPAN_CONV, SPAN_VECTOR, SPAN_MATRIX } SpanKind;

/* A named piece of an arena. */
typedef struct Span {
    char name[96];
    SpanKind kind;
    int rank;
    int64_t shape[4]; /* as PyTorch has it: OIHW, [out, in], [C] */
    int64_t offset, count;
} Span;

typedef enum LayerKind { LAYER_CONV, LAYER_NORM } LayerKind;

/* Tensors and gradient buffers are numbered; see plan.h for where they lie. -1: none. */
typedef struct Layer {
    LayerKind kind;
    int in, out;    /* tensors */
    int dy, dx;     /* gradient buffers: of `out` (norm: becomes dz in place), of `in` */
    int first_span; /* index of its first parameter span */
    union {
        struct {
            ConvGeometry geometry;
            ConvPlan *plan;
            int norm;        /* the layer that normalises its output */
            int64_t folded;  /* offset of its folded weights */
            int needs_dx;    /* 0 for the stem unless input gradients are wanted */
            int stage;       /* 0 stem, 1..4 */
            int explainable; /* last convolution of its stage's main path */
        } conv;
        struct {
            int channels, positions; /* C, H*W */
            int residual;            /* tensor added before the ReLU */
            int relu;
            int dy2;             /* second gradient of `out`, read only */
            int packed_with;     /* a norm whose moments are all-reduced together with this one's, computed here */
            int moments_done_by; /* the norm that computes this one's moments */
            int conv;            /* the layer whose output it normalises */
            int64_t stats;       /* offset into the statistics arena: mean, invstd, scale, shift [4C] */
            int64_t sums;        /* offset into the sums arena, [2C] f64 */
            int64_t running;     /* offset into the running arena: mean [C], var [C] */
        } norm;
    };
} Layer;

typedef struct TensorShape {
    int H, W, C;
} TensorShape;

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
    int tensor_count, buffer_count;
    int output;    /* tensor the pooling reads */
    int output_dx; /* gradient buffer pooling's backward writes */
    int features;  /* F */

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
    double *sums;             /* [sums_total] */
    void *folded;             /* [folded_total] of dtype: conv weights times scale, for folded passes */
} Model;

/* Builds the layer list and the arenas; parameters get the published initialisation drawn from `seed`.
 * STATUS_CONFIG for shapes that make no sense, STATUS_SYSTEM when memory is short. */
Status model_init(Model *model, Device *device, Comm *comm, const ModelShape *shape, DType dtype, uint64_t seed,
                  Error *err);
void model_free(Model *model);

/* Refreshes low-precision weights from the master arena (after loading parameters). */
void model_sync_low(Model *model);

/* Host copies of a span in PyTorch layout, [span.count] floats. `arena` has the layout of the parameters: master,
 * gradient, an optimiser's slot. */
void model_read_span(const Model *model, const float *arena, const Span *span, float *host);
void model_write_span(Model *model, float *arena, const Span *span, const float *host);

/* Index of the convolution whose raw output Grad-CAM reads: layer 1..4, or 0 for auto (4 for sides >= 64, else 2). */
int model_explain_layer(const Model *model, int stage);

/* Weights of span `index` in compute precision. */
const void *model_weights(const Model *model, int span);

/* Looks a depth name up. */
int model_encoder_known(const char *name);

#endif
