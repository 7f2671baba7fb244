#include "trainer/run/schedule.h"

#include <math.h>

int schedule_warms_up(const Config *config) {
    return config->optim.warmup == WARMUP_ON || (config->optim.warmup == WARMUP_AUTO && config->train.batch > 256);
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
