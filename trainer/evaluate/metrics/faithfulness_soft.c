/* Drop and increase as Grad-CAM++ measures them (Chattopadhyay et al. 2018): the whole normalised image is multiplied
 * by its map on 0..1. */
#include "trainer/evaluate/metrics/faithfulness.h"

static void add(MetricRun *run, const MetricBatch *batch) {
    Explainer *x = run->explainer;
    const Model *m = x->model;
    const int px = m->shape.size * m->shape.size;
    m->device->ops->saliency->soften(m->device, batch->rows, px, m->dtype, batch->images, batch->saliency, x->masked);
    faithfulness_add(run, batch);
}

const Metric metric_faithfulness_soft = {.suite = "soft",
                                         .suite_help = "image times map",
                                         .title = "the image times its saliency map (as Grad-CAM++ measures)",
                                         .needs_saliency = true,
                                         .numbers = FAITHFULNESS_NUMBERS("soft_"),
                                         .open = faithfulness_open,
                                         .close = faithfulness_close,
                                         .add = add,
                                         .finish = metric_means};
