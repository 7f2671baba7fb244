/* Grad-CAM (Selvaraju et al. 2017) by partial backward: channel k of the convolution's output A weighs as much as the
 * mean over positions of the logit's derivative by it, alpha_k; the map is sum_k alpha_k A_k. */
#include "trainer/method/explainers/explainers.h"

/* alpha [rows,K] f32 */
static size_t own_bytes(const Explainer *e) {
    return sizeof(float) * (size_t)e->max_rows * (size_t)e->channels;
}

static void saliency(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    const Ops *ops = m->device->ops;
    float *alpha = e->own;
    explainer_forward(e, walk, images);
    explainer_seed(e, walk->rows, explainer_targets(e, walk->rows, labels));
    const void *dA = walk_backward_to_tensor(walk, e->heads->dfeatures);
    ops->saliency->weights(m->device, walk->rows, e->h * e->w, e->channels, m->dtype, dA, alpha);
    ops->saliency->cam(m->device, walk->rows, e->h * e->w, e->channels, m->dtype, walk_at(walk, e->tensor), alpha,
                       e->options.relu, e->cam);
}

const ExplainerKind explainer_gradcam = {
    .at_layer = true, .recordable = true, .own_bytes = own_bytes, .saliency = saliency};
