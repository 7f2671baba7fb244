/* Learning rate of a step: cosine per epoch with the published floor, linear warm-up per step. */
#ifndef EXCON_TRAINER_SCHEDULE_H
#define EXCON_TRAINER_SCHEDULE_H

#include <stdint.h>

#include "trainer/config/config.h"

/* `epoch` from 1, `batch` from 0 of `batches`. Cosine: eta_min = lr * lr_min_factor, lr(e) = eta_min + (lr - eta_min)
 * (1 + cos(pi e / E)) / 2. Warm-up (auto: for batches above 256): linear from warmup_from to the cosine value at epoch
 * warmup_epochs, over epochs 1..warmup_epochs (SupContrast's warmup_learning_rate). */
double schedule_lr(const Config *config, int64_t epoch, int64_t batch, int64_t batches);

/* The highest learning rate that a run over all its epochs reaches. */
double schedule_peak(const Config *config);

/* For optim.warmup: auto, once the number of training images is known: off when they are too few for a batch above 256,
 * whatever train.batch is. STATUS_CONFIG when a warm-up that auto turns on takes the whole run. */
Status schedule_settle(Config *config, int64_t images, Error *err);

/* Whether warm-up applies. */
int schedule_warms_up(const Config *config);

#endif
