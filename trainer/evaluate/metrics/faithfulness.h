/* Faithfulness: how the confidence in the predicted class changes when an image is reduced to its explanation. Shared
 * by the metrics that differ in how they reduce it; their numbers do not compare.
 *
 * With o and p the softmax probability of the class that is predicted for the image, before and after. */
#ifndef EXCON_TRAINER_FAITHFULNESS_H
#define EXCON_TRAINER_FAITHFULNESS_H

#include "trainer/evaluate/metrics/metric.h"

/* The four numbers, in the order of the sums: means of max(0, o-p)/o, p > o, max(0, p-o)/o, o > p. */
/* clang-format off */
#define FAITHFULNESS_NUMBERS(prefix) \
    {{.name = prefix "drop", .label = "drop", .help = "mean relative loss of confidence"}, \
     {.name = prefix "increase", .label = "increase", .help = "images whose confidence rises"}, \
     {.name = prefix "gain", .label = "gain", .help = "mean relative rise"}, \
     {.name = prefix "decrease", .label = "decrease", .help = "images whose confidence falls"}}
/* clang-format on */

/* The metrics' open and close. */
Status faithfulness_open(MetricRun *run, Error *err);
void faithfulness_close(MetricRun *run);

/* Adds the batch, whose reduced images [rows,H,W,3] of dtype (device) are in explainer->masked. */
void faithfulness_add(MetricRun *run, const MetricBatch *batch);

#endif
