/* Accuracy: the share of images whose label is the class of the largest logit, or among those of the five largest. */
#include "trainer/evaluate/metrics/metric.h"

static void add(MetricRun *run, const MetricBatch *batch) {
    const int C = run->explainer->model->shape.classes, five = C < 5 ? C : 5;
    for (int64_t i = 0; i < batch->rows; i++) {
        run->sums[0] += batch->rank[i] < 1;
        run->sums[1] += batch->rank[i] < five;
    }
}

const Metric metric_accuracy = {
    .suite = "accuracy",
    .numbers = {{.name = "top1", .label = "top-1"}, {.name = "top5", .label = "top-5", .least_classes = 6}},
    .add = add,
    .finish = metric_means};
