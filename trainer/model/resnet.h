/* The layer list of a ResNet; see model.h for what the fields mean. */
#ifndef EXCON_TRAINER_RESNET_H
#define EXCON_TRAINER_RESNET_H

#include "trainer/model/model.h"

/* Fills layers, tensors, spans and totals of `model` from model->shape (arrays are malloc'ed, freed by model_free). */
Status resnet_build(Model *model, Error *err);

#endif
