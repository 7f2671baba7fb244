/* Probe operations on training: the loss alone, a whole step, and the random transform. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset/dataset.h"
#include "kernels/buffers.h"
#include "trainer/data/view_specs.h"
#include "trainer/method/step.h"
#include "trainer/probe/session.h"

/* ---- supcon ---------------------------------------------------------------------------------------------------------
 * z holds view 1 of all M samples, then view 2; samples beyond `real` are background. With background.mode none they
 * take no part: their gradient and log-sum-exp are 0. */

typedef struct LossShare {
    ContrastRows rows;
    int64_t samples; /* own samples that take part, real before background */
} LossShare;

static int64_t overlap(int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t low = a > c ? a : c, high = b < d ? b : d;
    return high > low ? high - low : 0;
}

static LossShare share_of(const ProbeSession *p, int64_t real, int mode) {
    const int64_t last = p->first + p->rows;
    const int64_t background = mode == BACKGROUND_NONE ? 0 : p->total - real;
    LossShare s = {.rows = {.real = overlap(p->first, last, 0, real),
                            .background = overlap(p->first, last, real, real + background),
                            .first_real = p->first < real ? p->first : real,
                            .first_background = p->first > real && background ? p->first - real : 0,
                            .total_real = real,
                            .total_background = background}};
    s.samples = s.rows.real + s.rows.background;
    return s;
}

/* Row of sample i, view v in this rank's block [view 1 | view 2 | background | background]. */
static int64_t block_row(const ContrastRows *r, int64_t i, int view) {
    return i < r->real ? view * r->real + i : 2 * r->real + view * r->background + (i - r->real);
}

static Status put_loss(ProbeSession *p, const LossShare *s, const float *dz, const float *lse, int64_t D, double loss,
                       Error *err) {
    comm_host_sum_f64(&p->runtime.comm, &loss, 1);
    const size_t width = (size_t)D + 1;
    float *own = calloc(2 * (size_t)p->rows * width + 1, sizeof *own);
    float *all = calloc(2 * (size_t)p->total * width + 1, sizeof *all);
    float *grad = calloc(2 * (size_t)p->total * (size_t)D + 1, sizeof *grad);
    float *flat = calloc(2 * (size_t)p->total + 1, sizeof *flat);
    if (!own || !all || !grad || !flat)
        runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory gathering the loss"});
    for (int64_t i = 0; i < s->samples; i++)
        for (int view = 0; view < 2; view++) {
            const int64_t row = block_row(&s->rows, i, view);
            float *to = own + (2 * (size_t)i + (size_t)view) * width;
            memcpy(to, dz + row * D, sizeof(float) * (size_t)D);
            to[D] = lse[row];
        }
    comm_host_gather_rows(&p->runtime.comm, own, p->counts, 2 * width * sizeof(float), all);
    for (int64_t i = 0; i < p->total; i++)
        for (int view = 0; view < 2; view++) {
            const float *from = all + (2 * (size_t)i + (size_t)view) * width;
            memcpy(grad + (view * p->total + i) * D, from, sizeof(float) * (size_t)D);
            flat[view * p->total + i] = from[D];
        }
    float value = (float)loss;
    Status status = probe_put(p, "loss", &value, 1, (int64_t[]){1}, err);
    if (status == STATUS_OK)
        status = probe_put(p, "grad", grad, 2, (int64_t[]){2 * p->total, D}, err);
    if (status == STATUS_OK)
        status = probe_put(p, "lse", flat, 1, (int64_t[]){2 * p->total}, err);
    free(own);
    free(all);
    free(grad);
    free(flat);
    return status;
}

static Status run_loss(ProbeSession *p, const Array *z, const int32_t *labels, int64_t real, int classes, Error *err) {
    Device *d = &p->runtime.device;
    const Comm *comm = &p->runtime.comm;
    const int64_t D = z->shape[1], max_own = 2 * (p->rows + 1), max_all = 2 * (p->total + 1);
    const int mode = p->config->background.mode, method = p->config->method;
    LossShare s = share_of(p, real, mode);
    int64_t *own_rows = calloc((size_t)comm->size, sizeof *own_rows);
    int32_t *group = calloc((size_t)max_own, sizeof *group);
    float *host = calloc((size_t)(max_own * (D + 1)), sizeof *host);
    void *own = NULL, *dz = NULL, *share = NULL;
    Contrastive c = {0};
    Status status = own_rows && group && host ? STATUS_OK : error_set(err, STATUS_SYSTEM, "out of memory for the loss");
    const size_t bytes = sizeof(float) * (size_t)(max_own * D);
    const Buffer buffers[] = {{&own, bytes}, {&dz, bytes}, {&share, sizeof(double)}};
    const int max_groups = method == METHOD_SIMCLR ? (int)p->total + 1 : classes + 1;
    GOTO_IF(status, done);
    GOTO_IF(contrastive_init(&c, d, &p->runtime.comm, max_own, max_all, (int)D, max_groups, p->config->loss.temperature,
                             p->config->loss.base_temperature, p->runtime.dtype, err),
            done);
    GOTO_IF(buffers_alloc(d, buffers, 3, err), done);
    for (int64_t i = 0; i < s.samples; i++)
        for (int view = 0; view < 2; view++)
            memcpy(host + block_row(&s.rows, i, view) * D, z->f32 + (view * p->total + p->first + i) * D,
                   sizeof(float) * (size_t)D);
    d->ops->memory->copy_in(d, own, host, sizeof(float) * (size_t)(2 * s.samples * D));
    int64_t mine = 2 * s.samples;
    comm_host_gather_i64(&p->runtime.comm, &mine, 1, own_rows);
    int groups = contrastive_groups(&s.rows, method, mode, classes, labels, group);
    double loss = 0.0;
    contrastive_run(&c, own, group, groups, own_rows, contrastive_anchors(&s.rows, mode), share, dz);
    d->ops->memory->copy_out(d, &loss, share, sizeof loss);
    float *lse = host + max_own * D;
    d->ops->memory->copy_out(d, host, dz, sizeof(float) * (size_t)(mine * D));
    d->ops->memory->copy_out(d, lse, c.lse_own, sizeof(float) * (size_t)mine);
    status = put_loss(p, &s, host, lse, D, loss, err);
done:
    buffers_free(d, buffers, 3);
    contrastive_free(&c);
    free(own_rows);
    free(group);
    free(host);
    return status;
}

Status probe_supcon(ProbeSession *p, Error *err) {
    Array z, labels = {0}, real = {0};
    RETURN_IF(array_read(p->in, "z", ARRAY_F32, 2, &z, err));
    Status status = array_read(p->in, "labels", ARRAY_I32, 1, &labels, err);
    int64_t count = p->total;
    if (status == STATUS_OK && array_exists(p->in, "real")) {
        status = array_read(p->in, "real", ARRAY_I32, 1, &real, err);
        count = real.count > 0 && real.i32 ? real.i32[0] : -1;
    }
    if (status == STATUS_OK && (z.shape[0] != 2 * p->total || count < 0 || count > p->total))
        status = error_set(err, STATUS_DATA, "%s: z must be [2M,D], labels [M] and real [1] in 0..M", p->options->in);
    int classes = 1;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        if (labels.i32[i] < 0 || labels.i32[i] >= DATASET_MAX_CLASSES)
            status = error_set(err, STATUS_DATA, "%s: labels[%lld] = %d is outside 0..%d", p->options->in, (long long)i,
                               labels.i32[i], DATASET_MAX_CLASSES - 1);
        classes = labels.i32[i] >= classes ? labels.i32[i] + 1 : classes;
    }
    if (status == STATUS_OK)
        status = run_loss(p, &z, labels.i32 + p->first, count, classes, err);
    array_free(&z);
    array_free(&labels);
    array_free(&real);
    return status;
}

/* ---- step -------------------------------------------------------------------------------------------------------- */

static Status put_spans(ProbeSession *p, const char *folder, const float *arena, const Span *spans, int count,
                        Error *err) {
    for (int i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s/%s", folder, spans[i].name);
        float *host = malloc(sizeof(float) * (size_t)spans[i].count);
        if (!host)
            runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory writing parameters"});
        model_read_span(&p->model, arena, &spans[i], host);
        Status status = probe_put(p, name, host, spans[i].rank, spans[i].shape, err);
        free(host);
        RETURN_IF(status);
    }
    return STATUS_OK;
}

static Status take_steps(ProbeSession *p, Step *step, const StepViews *views, const int32_t *labels, Error *err) {
    const bool explains = config_masks(p->config);
    StepInput input = {.rows = p->rows,
                       .first = p->first,
                       .global_rows = p->total,
                       .labels = labels,
                       .mask = explains,
                       .lr = p->config->optim.lr};
    const int64_t steps = p->options->steps;
    float *losses = calloc((size_t)steps, sizeof *losses);
    if (!losses)
        return error_set(err, STATUS_SYSTEM, "out of memory for %lld losses", (long long)steps);
    Status status = STATUS_OK;
    for (int64_t i = 0; i < steps && status == STATUS_OK; i++) {
        StepReport report;
        step_run(step, &input, views, true, &report);
        losses[i] = (float)report.loss;
        if (!report.finite)
            status = error_set(err, STATUS_DIVERGED, "loss or gradient of step %lld is not finite", (long long)i);
        if (i == 0 && status == STATUS_OK && explains)
            status = probe_put_device(p, "accept", step->explainer.accept, ARRAY_I32, 0, NULL, err);
        if (i == 0 && status == STATUS_OK)
            status = probe_put(p, "loss", losses, 1, (int64_t[]){1}, err);
        if (i == 0 && status == STATUS_OK)
            status = put_spans(p, "grad", p->model.gradient, p->model.params, p->model.param_count, err);
    }
    if (status == STATUS_OK && steps > 1)
        status = probe_put(p, "losses", losses, 1, &steps, err);
    free(losses);
    RETURN_IF(status);
    RETURN_IF(put_spans(p, "param", p->model.master, p->model.params, p->model.param_count, err));
    return put_spans(p, "param", p->model.running, p->model.buffers, p->model.buffer_count_named, err);
}

static Status fill_view(ProbeSession *p, const char *name, void *slot, Error *err) {
    void *images = NULL;
    size_t bytes = 0;
    RETURN_IF(probe_images(p, name, p->model.shape.size, &images, &bytes, err));
    Device *d = p->model.device;
    d->ops->memory->copy(d, slot, images, bytes - 64);
    d->ops->stream->sync(d);
    d->ops->memory->release(d, images, bytes);
    return STATUS_OK;
}

Status probe_step(ProbeSession *p, Error *err) {
    int size = 0;
    int32_t *labels = NULL;
    Step step = {0};
    StepViews views = {0};
    const int method = p->config->method;
    RETURN_IF(probe_image_size(p, "random", &size, err));
    RETURN_IF(probe_model(p, size, p->config->data.classes > 0 ? (int)p->config->data.classes : 200, err));
    RETURN_IF(probe_labels(p, "labels", p->model.shape.classes, &labels, err));
    Status status;
    GOTO_IF(step_init(&step, p->config, &p->model, &p->optimiser, p->total, p->mean, p->std, err), done);
    GOTO_IF(step_views_init(&views, p->config, p->model.device, step.max_samples, size, p->model.dtype, err), done);
    GOTO_IF(fill_view(p, "random", views.random, err), done);
    if (method != METHOD_CE)
        GOTO_IF(fill_view(p, "backup", views.backup, err), done);
    if (views.standard)
        GOTO_IF(fill_view(p, "standard", views.standard, err), done);
    status = take_steps(p, &step, &views, labels, err);
done:
    step_views_free(&views);
    step_free(&step);
    free(labels);
    return status;
}

/* ---- augment ----------------------------------------------------------------------------------------------------- */

static Status put_params(ProbeSession *p, const ViewParams *params, Error *err) {
    const size_t n = (size_t)p->rows + 1;
    int32_t *crop = calloc(4 * n, sizeof *crop), *order = calloc(4 * n, sizeof *order), *one = calloc(n, sizeof *one);
    float *jitter = calloc(4 * n, sizeof *jitter);
    if (!crop || !order || !one || !jitter)
        runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory writing view parameters"});
    for (int64_t i = 0; i < p->rows; i++) {
        memcpy(crop + 4 * i, params[i].crop, sizeof params[i].crop);
        memcpy(order + 4 * i, params[i].order, sizeof params[i].order);
        memcpy(jitter + 4 * i, params[i].jitter, sizeof params[i].jitter);
    }
    const int64_t four = 4;
    Status status = probe_put_rows(p, "crop", crop, ARRAY_I32, 1, &four, err);
    if (status == STATUS_OK)
        status = probe_put_rows(p, "jitter", jitter, ARRAY_F32, 1, &four, err);
    if (status == STATUS_OK)
        status = probe_put_rows(p, "jitter_order", order, ARRAY_I32, 1, &four, err);
    static const char *const flags[] = {"flip", "jittered", "grey"};
    for (int f = 0; f < 3 && status == STATUS_OK; f++) {
        for (int64_t i = 0; i < p->rows; i++)
            one[i] = f == 0 ? params[i].flip : f == 1 ? params[i].jittered : params[i].grey;
        status = probe_put_rows(p, flags[f], one, ARRAY_I32, 0, NULL, err);
    }
    free(crop);
    free(order);
    free(one);
    free(jitter);
    return status;
}

/* The views of this rank's rows, and what was drawn for them. */
static Status run_augment(ProbeSession *p, const Array *images, const int64_t *ids, ViewParams *params, Error *err) {
    Device *d = &p->runtime.device;
    const int H = (int)images->shape[1], W = (int)images->shape[2];
    const size_t n = (size_t)p->rows, values = n * (size_t)H * (size_t)W * 3;
    void *u8 = NULL, *id_device = NULL, *views = NULL, *nchw = NULL, *drawn = NULL;
    const Buffer buffers[] = {{&u8, values + 64},
                              {&id_device, (n + 1) * sizeof(int64_t)},
                              {&views, values * sizeof(float) + 64},
                              {&nchw, values * sizeof(float) + 64},
                              {&drawn, (n + 1) * sizeof(ViewParams)}};
    RETURN_IF(buffers_alloc(d, buffers, 5, err));
    d->ops->memory->copy_in(d, u8, images->u8 + (size_t)(p->first * H * W) * 3, values);
    d->ops->memory->copy_in(d, id_device, ids, n * sizeof(int64_t));
    ViewSpec spec =
        view_spec(p->config, VIEW_RANDOM, (uint32_t)p->options->epoch, (uint32_t)p->options->view, p->mean, p->std);
    d->ops->views->make(d, &spec, p->rows, H, W, u8, id_device, DTYPE_F32, views, drawn);
    d->ops->convert->nhwc_to_nchw(d, p->rows, 3, H * W, DTYPE_F32, views, nchw);
    d->ops->memory->copy_out(d, params, drawn, n * sizeof(ViewParams));
    Status status = probe_put_device(p, "out", nchw, ARRAY_F32, 3, (int64_t[]){3, H, W}, err);
    buffers_free(d, buffers, 5);
    return status == STATUS_OK ? put_params(p, params, err) : status;
}

Status probe_augment(ProbeSession *p, Error *err) {
    Array images = {0}, ids = {0};
    Status status;
    int64_t *id64 = NULL;
    ViewParams *params = NULL;
    GOTO_IF(array_read(p->in, "images", ARRAY_U8, 4, &images, err), done);
    GOTO_IF(array_read(p->in, "ids", ARRAY_I32, 1, &ids, err), done);
    for (int64_t i = 0; i < ids.count; i++)
        if (ids.i32[i] < 0) {
            status =
                error_set(err, STATUS_DATA, "%s: ids[%lld] = %d is negative", p->options->in, (long long)i, ids.i32[i]);
            goto done;
        }
    if (images.shape[3] != 3 || ids.count != images.shape[0]) {
        status = error_set(err, STATUS_DATA, "%s: images must be [n,H,W,3] and ids [n]", p->options->in);
        goto done;
    }
    const size_t n = (size_t)p->rows;
    id64 = calloc(n + 1, sizeof *id64);
    params = calloc(n + 1, sizeof *params);
    if (!id64 || !params) {
        status = error_set(err, STATUS_SYSTEM, "out of memory for %zu views", n);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        id64[i] = ids.i32[(size_t)p->first + i];
    status = run_augment(p, &images, id64, params, err);
done:
    free(id64);
    free(params);
    array_free(&images);
    array_free(&ids);
    return status;
}
