/* Negative log-likelihood: the mean of -log p(label), in nats. */
#include "trainer/evaluate/metrics/metric.h"

static void add(MetricRun *run, const MetricBatch *batch) {
    for (int64_t i = 0; i < batch->rows; i++)
        run->sums[0] += batch->likelihood[i];
}

const Metric metric_nll = {.suite = "accuracy",
                           .numbers = {{.name = "nll", .label = "nll", .unit = UNIT_NATS}},
                           .add = add,
                           .finish = metric_means};
