/* The table of encoders: what model.encoder may be. An encoder is one file of this folder and its lines here; names,
 * messages and help of the configuration follow. */
#ifndef EXCON_TRAINER_ENCODERS_H
#define EXCON_TRAINER_ENCODERS_H

#include "trainer/model/build.h"

typedef struct Encoder {
    const char *name;
    /* Adds the layers of the network to a model that has its input (tensor 0) and nothing else, and a stage for each
     * choice of explain.layer (model_add_stage); *output gets the tensor that is pooled into the features. `depth` is
     * the table's; model->shape.width is 64 for the published widths, other values scale every layer. STATUS_CONFIG for
     * a width that the network cannot have. */
    Status (*build)(Model *model, const int *depth, int *output, Error *err);
    int depth[5];
} Encoder;

Status resnet_build(Model *model, const int *depth, int *output, Error *err);
Status wrn_build(Model *model, const int *depth, int *output, Error *err);

/* X(name, build, depth...) */
#define ENCODER_TABLE(X)                                                                                               \
    X("resnet10", resnet_build, 1, 1, 1, 1, 0)                                                                         \
    X("resnet18", resnet_build, 2, 2, 2, 2, 0)                                                                         \
    X("resnet34", resnet_build, 3, 4, 6, 3, 0)                                                                         \
    X("resnet50", resnet_build, 3, 4, 6, 3, 1)                                                                         \
    X("resnet101", resnet_build, 3, 4, 23, 3, 1)                                                                       \
    X("wrn-28-10", wrn_build, 28, 10)                                                                                  \
    X("wrn-40-2", wrn_build, 40, 2)

/* The table; a NULL name ends it. */
extern const Encoder encoders[];

/* Fills layers, tensors, spans and totals of `model` from model->shape, heads not included (model_free frees them). The
 * first: by the name in the shape, STATUS_CONFIG if the table has none such. */
Status encoder_build(Model *model, Error *err);
Status encoder_build_as(Model *model, const Encoder *encoder, Error *err);

#endif
