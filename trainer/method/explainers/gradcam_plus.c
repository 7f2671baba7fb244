/* Grad-CAM++ (Chattopadhyay et al. 2018) of the tensor that Grad-CAM explains: its channel weights count the
 * positions where a channel raises the logit, each by the share that SaliencyOps.weights_plus defines. */
#include "trainer/method/explainers/explainers.h"

/* alpha [rows,K] f32 */
static size_t own_bytes(const Explainer *e) {
    return sizeof(float) * (size_t)e->max_rows * (size_t)e->channels;
}

static void saliency(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    const SaliencyOps *ops = m->device->ops->saliency;
    const int HW = e->h * e->w, K = e->channels;
    float *alpha = e->own;
    explainer_forward(e, walk, images);
    explainer_seed(e, walk->rows, explainer_targets(e, walk->rows, labels));
    const void *dA = walk_backward_to_tensor(walk, e->heads->dfeatures);
    const void *A = walk_at(walk, e->tensor);
    ops->weights_plus(m->device, walk->rows, HW, K, m->dtype, A, dA, alpha);
    ops->cam(m->device, walk->rows, HW, K, m->dtype, A, alpha, e->options.relu, e->cam);
}

const ExplainerKind explainer_gradcam_plus = {
    .at_layer = true, .recordable = true, .own_bytes = own_bytes, .saliency = saliency};
