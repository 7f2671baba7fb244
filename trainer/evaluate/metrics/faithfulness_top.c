/* Drop and increase as the published ExCon measures them: the most salient 15 % of an image's pixels stay, the rest is
 * the mean colour. */
#include "trainer/evaluate/metrics/faithfulness.h"

#define KEEP_SHARE 0.15 /* int(0.15 * H * W) pixels: the published code's share */

static void add(MetricRun *run, const MetricBatch *batch) {
    static const float mean[3] = {0, 0, 0};
    Explainer *x = run->explainer;
    const Model *m = x->model;
    const SaliencyOps *ops = m->device->ops->saliency;
    const int px = m->shape.size * m->shape.size;
    ops->top(m->device, batch->rows, px, batch->saliency, (int)(KEEP_SHARE * px), x->mask);
    ops->apply(m->device, batch->rows, px, m->dtype, batch->images, x->mask, mean, 0, x->masked);
    faithfulness_add(run, batch);
}

const Metric metric_faithfulness_top = {.suite = "faithfulness",
                                        .suite_help = "drop, increase: top 15 % of pixels kept",
                                        .title = "the most salient 15 % of pixels kept (as published)",
                                        .needs_saliency = true,
                                        .numbers = FAITHFULNESS_NUMBERS(""),
                                        .open = faithfulness_open,
                                        .close = faithfulness_close,
                                        .add = add,
                                        .finish = metric_means};
