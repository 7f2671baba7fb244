#include "trainer/optim/schedule.h"

#include <math.h>

enum { WARM_ABOVE = 256 }; /* images a batch, of optim.warmup: auto */

int schedule_warms_up(const Config *config) {
    return config->optim.warmup == WARMUP_ON ||
           (config->optim.warmup == WARMUP_AUTO && config->train.batch > WARM_ABOVE);
}

Status schedule_settle(Config *config, int64_t images, Error *err) {
    if (config->optim.warmup != WARMUP_AUTO || !schedule_warms_up(config))
        return STATUS_OK;
    if (images <= WARM_ABOVE) {
        config->optim.warmup = WARMUP_OFF;
        return STATUS_OK;
    }
    if (config_reaches_rate(config))
        return STATUS_OK;
    return error_set(
        err, STATUS_CONFIG,
        "optim.warmup_epochs: %lld epochs of warm-up (which train.batch > %d turns on) take all of "
        "train.epochs %lld, so the learning rate stays far below optim.lr; set fewer, or optim.warmup: off",
        (long long)config->optim.warmup_epochs, WARM_ABOVE, (long long)config->train.epochs);
}

static double decayed(const Config *config, double epoch) {
    const double lr = config->optim.lr, low = lr * config->optim.lr_min_factor;
    if (config->optim.schedule == LR_CONSTANT || config->train.epochs <= 0)
        return lr;
    return low + (lr - low) * (1.0 + cos(M_PI * epoch / (double)config->train.epochs)) / 2.0;
}

double schedule_peak(const Config *config) {
    return decayed(config, schedule_warms_up(config) ? (double)config->optim.warmup_epochs : 1.0);
}

double schedule_lr(const Config *config, int64_t epoch, int64_t batch, int64_t batches) {
    const int64_t warm = config->optim.warmup_epochs;
    if (!schedule_warms_up(config) || epoch > warm || warm <= 0)
        return decayed(config, (double)epoch);
    const double share = ((double)(epoch - 1) + (double)batch / (double)(batches > 0 ? batches : 1)) / (double)warm;
    const double from = config->optim.warmup_from, to = decayed(config, (double)warm);
    return from + share * (to - from);
}
