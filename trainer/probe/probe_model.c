/* Probe operations on the network: encode and explain. */
#include <stdlib.h>
#include <string.h>

#include "kernels/buffers.h"
#include "trainer/method/explain.h"
#include "trainer/probe/session.h"

static Status put_heads(ProbeSession *p, const Heads *heads, Error *err) {
    const Model *m = &p->model;
    RETURN_IF(probe_put_device(p, "features", heads->features, ARRAY_F32, 1, (int64_t[]){m->features}, err));
    RETURN_IF(probe_put_device(p, "z", heads->z, ARRAY_F32, 1, (int64_t[]){m->shape.projection}, err));
    return probe_put_device(p, "logits", heads->logits, ARRAY_F32, 1, (int64_t[]){m->shape.classes}, err);
}

static Status run_encode(ProbeSession *p, const void *images, bool train, Error *err) {
    Model *m = &p->model;
    Device *d = m->device;
    Heads heads = {0};
    Plan plan = {0};
    void *arena = NULL;
    Status status;
    GOTO_IF(heads_init(&heads, m, p->rows + 1, err), done);
    GOTO_IF(plan_init_infer(&plan, m, !train, p->rows + 1, err), done);
    GOTO_IF(d->ops->memory->alloc(d, plan.bytes, &arena, err), done);
    Walk walk = {.model = m,
                 .plan = &plan,
                 .base = arena,
                 .rows = p->rows,
                 .global_rows = p->total,
                 .norm = train ? NORM_BATCH : NORM_RUNNING};
    if (!train)
        walk_prepare_running(m, true);
    d->ops->memory->copy(d, walk_at(&walk, 0), images, plan_row_bytes(m, 0) * (size_t)p->rows);
    walk_forward(&walk, heads.features);
    heads_project(&heads, p->rows);
    heads_classify(&heads, p->rows);
    status = put_heads(p, &heads, err);
done:
    if (arena)
        d->ops->memory->release(d, arena, plan.bytes);
    plan_free(&plan);
    heads_free(&heads);
    return status;
}

Status probe_encode(ProbeSession *p, Error *err) {
    int size = 0;
    void *images = NULL;
    size_t bytes = 0;
    RETURN_IF(probe_image_size(p, "images", &size, err));
    RETURN_IF(probe_model(p, size, p->config->data.classes > 0 ? (int)p->config->data.classes : 200, err));
    RETURN_IF(probe_images(p, "images", size, &images, &bytes, err));
    Status status = run_encode(p, images, strcmp(p->options->mode, "train") == 0, err);
    p->model.device->ops->memory->release(p->model.device, images, bytes);
    return status;
}

static Status put_explanation(ProbeSession *p, const Explainer *e, Error *err) {
    const Model *m = &p->model;
    Device *d = m->device;
    const int S = m->shape.size;
    RETURN_IF(probe_put_device(p, "cam", e->cam, ARRAY_F32, 2, (int64_t[]){e->h, e->w}, err));
    const size_t pixels = (size_t)p->rows * (size_t)(S * S);
    float *mask = malloc(sizeof(float) * pixels + 4);
    int32_t *whole = malloc(sizeof(int32_t) * pixels + 4);
    void *nchw = NULL;
    Status status = mask && whole ? STATUS_OK : error_set(err, STATUS_SYSTEM, "out of memory for masks");
    if (status == STATUS_OK)
        status = d->ops->memory->alloc(d, 3 * pixels * sizeof(float) + 64, &nchw, err);
    if (status == STATUS_OK) {
        d->ops->memory->copy_out(d, mask, e->mask, sizeof(float) * pixels);
        for (size_t i = 0; i < pixels; i++)
            whole[i] = mask[i] > 0.5f;
        status = probe_put_rows(p, "mask", whole, ARRAY_I32, 2, (int64_t[]){S, S}, err);
    }
    if (status == STATUS_OK) {
        d->ops->convert->nhwc_to_nchw(d, p->rows, 3, S * S, m->dtype, e->masked, nchw);
        status = probe_put_device(p, "masked", nchw, ARRAY_F32, 3, (int64_t[]){3, S, S}, err);
    }
    if (nchw)
        d->ops->memory->release(d, nchw, 3 * pixels * sizeof(float) + 64);
    free(mask);
    free(whole);
    RETURN_IF(status);
    RETURN_IF(probe_put_device(p, "masked_logits", e->masked_logits, ARRAY_F32, 1, (int64_t[]){m->shape.classes}, err));
    return probe_put_device(p, "accept", e->accept, ARRAY_I32, 0, NULL, err);
}

static Status run_explain(ProbeSession *p, const void *images, const int32_t *targets, Error *err) {
    Model *m = &p->model;
    Device *d = m->device;
    Heads heads = {0};
    Explainer e = {0};
    void *arena = NULL, *labels = NULL;
    const size_t label_bytes = sizeof(int32_t) * (size_t)(p->rows + 1);
    ExplainOptions options = explain_options(p->config, p->mean, p->std);
    Buffer buffers[] = {{&arena, 0}, {&labels, label_bytes}};
    Status status;
    GOTO_IF(heads_init(&heads, m, p->rows + 1, err), done);
    GOTO_IF(explainer_init(&e, &options, m, &heads, p->rows + 1, err), done);
    buffers[0].bytes = explainer_arena_bytes(&e);
    GOTO_IF(buffers_alloc(d, buffers, 2, err), done);
    e.arena = arena;
    d->ops->memory->copy_in(d, labels, targets, sizeof(int32_t) * (size_t)p->rows);
    if (options.bn == EXPLAIN_BN_RUNNING)
        walk_prepare_running(m, true);
    explain_saliency(&e, images, labels, p->rows, p->total);
    explain_mask(&e, images, p->rows);
    explain_select(&e, labels, p->rows, p->total);
    status = put_explanation(p, &e, err);
done:
    buffers_free(d, buffers, 2);
    explainer_free(&e);
    heads_free(&heads);
    return status;
}

Status probe_explain(ProbeSession *p, Error *err) {
    int size = 0;
    void *images = NULL;
    size_t bytes = 0;
    int32_t *targets = NULL;
    RETURN_IF(probe_image_size(p, "images", &size, err));
    RETURN_IF(probe_model(p, size, p->config->data.classes > 0 ? (int)p->config->data.classes : 200, err));
    RETURN_IF(probe_labels(p, "targets", p->model.shape.classes, &targets, err));
    Status status = probe_images(p, "images", size, &images, &bytes, err);
    if (status == STATUS_OK)
        status = run_explain(p, images, targets, err);
    if (images)
        p->model.device->ops->memory->release(p->model.device, images, bytes);
    free(targets);
    return status;
}
