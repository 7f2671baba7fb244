/* Signed sum over channels of image times the mean gradient on the straight path from the mean colour, midpoint rule
 * (integrated gradients, Sundararajan et al. 2017). All points explain the same classes. What is asked of the images
 * themselves, which are no point of the path, takes one more forward: their predicted classes, and the batch statistics
 * for the published code's pass over the originals, which explain_select accounts for. */
#include "trainer/method/explainers/explainers.h"

/* Its own memory: scale and shift of a point of the path [6] f32, then the sum of gradients [rows,H,W,3] of dtype. */
enum { CONSTANTS = 6, CONSTANTS_BYTES = 64 };
_Static_assert(CONSTANTS * sizeof(float) <= CONSTANTS_BYTES, "the constants lie before the sum");

static size_t own_bytes(const Explainer *e) {
    return CONSTANTS_BYTES + (size_t)e->max_rows * plan_row_bytes(e->model, 0);
}

/* y = x*scale + shift on image channels, by the norm operator. Waits for the device, before and after: the constants of
 * the point before must have been read, and this one's are copied from this function's memory. */
static void affine(Explainer *e, int64_t rows, float scale, const void *x, const void *add, void *y) {
    const Model *m = e->model;
    const float host[CONSTANTS] = {scale, scale, scale, 0, 0, 0};
    float *constants = e->own;
    const NormStatistics stats = {.scale = constants, .shift = constants + 3};
    m->device->ops->stream->sync(m->device);
    m->device->ops->memory->copy_in(m->device, constants, host, sizeof host);
    m->device->ops->norm->apply(m->device, rows * m->shape.size * m->shape.size, 3, m->dtype, x, &stats, add, 0, y);
    m->device->ops->stream->sync(m->device);
}

static void saliency(Explainer *e, const Walk *walk, const void *images, const int32_t *labels) {
    const Model *m = e->model;
    const int steps = e->options.steps;
    const int32_t *target = labels;
    void *sum = (char *)e->own + CONSTANTS_BYTES;
    if (e->updates || e->options.target == TARGET_PREDICTED) {
        Walk still = *walk;
        still.update_running = false;
        explainer_forward(e, &still, images);
        target = explainer_targets(e, walk->rows, labels);
    }
    for (int s = 0; s < steps; s++) {
        affine(e, walk->rows, ((float)s + 0.5f) / (float)steps, images, NULL, walk_at(walk, 0));
        walk_forward(walk, e->heads->features);
        explainer_seed(e, walk->rows, target);
        const void *dx = walk_backward_to_tensor(walk, e->heads->dfeatures);
        affine(e, walk->rows, 1.0f / (float)steps, dx, s > 0 ? sum : NULL, sum);
    }
    m->device->ops->saliency->channel_sum(m->device, walk->rows, m->shape.size * m->shape.size, 3, m->dtype, sum,
                                          images, e->options.relu, e->cam);
}

const ExplainerKind explainer_integrated = {.own_bytes = own_bytes, .saliency = saliency};
