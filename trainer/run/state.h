/* Model and momentum <-> checkpoint tensors, under the published PyTorch names. */
#ifndef EXCON_TRAINER_STATE_H
#define EXCON_TRAINER_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "trainer/model/model.h"

/* Host copies of all parameters, running statistics (model/NAME) and momentum (momentum/NAME). Free with
 * checkpoint_free-like state_free. */
Status state_capture(const Model *model, CheckpointTensor **tensors, int *count, Error *err);
void state_free(CheckpointTensor *tensors, int count);

/* Puts a checkpoint's tensors into the model; every parameter and statistic must be there with the right shape,
 * momentum too when `momentum`. STATUS_DATA names what is missing or misfit. */
Status state_restore(Model *model, const CheckpointFile *file, int momentum, Error *err);

/* Shape of the model a checkpoint was made with. */
void state_shape(const CheckpointMeta *meta, ModelShape *shape);

#endif
