/* Signed sum over channels of the input gradient (Simonyan et al. 2014). */
#include "trainer/method/explainers/explainers.h"

static void saliency(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    explainer_forward(e, walk, images);
    explainer_seed(e, walk->rows, explainer_targets(e, walk->rows, labels));
    const void *dx = walk_backward_to_tensor(walk, e->heads->dfeatures);
    m->device->ops->saliency->channel_sum(m->device, walk->rows, m->shape.size * m->shape.size, 3, m->dtype, dx, NULL,
                                          e->options.relu, e->cam);
}

const ExplainerKind explainer_gradient = {.saliency = saliency};
