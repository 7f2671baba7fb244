/* Model and optimiser <-> checkpoint tensors, under the published PyTorch names. */
#ifndef EXCON_TRAINER_STATE_H
#define EXCON_TRAINER_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "trainer/optim/optimiser.h"

/* Host copies of all parameters, running statistics (model/NAME) and the optimiser's slots (SLOT/NAME, so
 * momentum/NAME). Free with state_free. */
Status state_capture(const Model *model, const Optimiser *optimiser, CheckpointTensor **tensors, int *count,
                     Error *err);
void state_free(CheckpointTensor *tensors, int count);

/* Puts a checkpoint's tensors into the model; every parameter and statistic must be there with the right shape,
 * the optimiser's slots too unless it is NULL. STATUS_DATA names what is missing or misfit. */
Status state_restore(Model *model, const Optimiser *optimiser, const CheckpointFile *file, Error *err);

/* Shape of the model a checkpoint was made with. */
void state_shape(const CheckpointMeta *meta, ModelShape *shape);

#endif
