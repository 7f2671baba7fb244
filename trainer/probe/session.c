#include "trainer/probe/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/base/share.h"
#include "kernels/buffers.h"
#include "trainer/run/resume/state.h"

/* /NAME [3] of IN into `to`; left alone when there is none. */
static Status read_channels(ProbeSession *p, const char *name, float to[3], Error *err) {
    Array values;
    if (!array_exists(p->in, name))
        return STATUS_OK;
    RETURN_IF(array_read(p->in, name, ARRAY_F32, 1, &values, err));
    const int fits = values.count == 3;
    if (fits)
        memcpy(to, values.f32, 3 * sizeof *to);
    array_free(&values);
    return fits ? STATUS_OK
                : error_set(err, STATUS_DATA, "%s: %s must hold 3 values, one per channel", p->options->in, name);
}

static Status read_normalisation(ProbeSession *p, Error *err) {
    RETURN_IF(read_channels(p, "mean", p->mean, err));
    RETURN_IF(read_channels(p, "std", p->std, err));
    for (int c = 0; c < 3; c++)
        if (!(p->std[c] > 0) || !isfinite(p->std[c]) || !isfinite(p->mean[c]))
            return error_set(err, STATUS_DATA, "%s: mean must be finite, std positive and finite", p->options->in);
    return STATUS_OK;
}

/* OUT must not be one of the files that are read. */
static Status create_output(ProbeSession *p, Error *err) {
    const ProbeOptions *o = p->options;
    const char *const read[] = {o->in, o->checkpoint, o->weights};
    struct stat out, other;
    for (int i = 0; i < 3; i++)
        if (read[i] && stat(o->out, &out) == 0 && stat(read[i], &other) == 0 && out.st_dev == other.st_dev &&
            out.st_ino == other.st_ino)
            return error_set(err, STATUS_USAGE, "%s is read and must not be overwritten; choose another OUT.h5",
                             read[i]);
    return array_file_create(&p->out, o->out, err);
}

static Status open_files(ProbeSession *p, const char *sample_dataset, Error *err) {
    const Comm *comm = &p->runtime.comm;
    RETURN_IF(array_file_open(&p->in, p->options->in, err));
    RETURN_IF(read_normalisation(p, err));
    RETURN_IF(array_length(p->in, sample_dataset, &p->total, err));
    p->counts = calloc((size_t)comm->size, sizeof *p->counts);
    if (!p->counts)
        return error_set(err, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++) {
        int64_t first, count;
        share_of(p->total, r, comm->size, &first, &count);
        p->counts[r] = count;
        if (r == comm->rank) {
            p->first = first;
            p->rows = count;
        }
    }
    return comm->rank == 0 ? create_output(p, err) : STATUS_OK;
}

/* A file that one rank alone cannot read stops them all. */
static Status open_parts(ProbeSession *p, const char *sample_dataset, Error *err) {
    RETURN_IF(runtime_open(&p->runtime, p->config, NULL, 0, err));
    return comm_agree(&p->runtime.comm, open_files(p, sample_dataset, err), err);
}

/* OUT appears when every rank is done, and not at all when one failed. */
static Status finish_output(ProbeSession *p, Status status, Error *err) {
    if (p->runtime.open)
        status = comm_agree(&p->runtime.comm, status, err);
    if (status == STATUS_OK && p->out)
        status = array_file_publish(p->out, err);
    else
        array_file_close(p->out);
    p->out = NULL;
    return p->runtime.open ? comm_agree(&p->runtime.comm, status, err) : status;
}

Status probe_close(ProbeSession *p, Status status, Error *err) {
    optimiser_free(&p->optimiser);
    model_free(&p->model);
    array_file_close(p->in);
    status = finish_output(p, status, err);
    free(p->counts);
    return runtime_close(&p->runtime, status, err);
}

Status probe_open(ProbeSession *p, const ProbeOptions *options, const Config *config, const char *sample_dataset,
                  Error *err) {
    *p = (ProbeSession){.options = options, .config = config, .std = {1, 1, 1}};
    const Status status = open_parts(p, sample_dataset, err);
    return status == STATUS_OK ? STATUS_OK : probe_close(p, status, err);
}

static Status load_span(ProbeSession *p, const ArrayFile *file, float *arena, const Span *span, Error *err) {
    char name[128];
    Array values;
    snprintf(name, sizeof name, "model/%s", span->name);
    RETURN_IF(array_read(file, name, ARRAY_F32, span->rank, &values, err));
    Status status = STATUS_OK;
    if (memcmp(values.shape, span->shape, sizeof(int64_t) * (size_t)span->rank) != 0)
        status = error_set(err, STATUS_DATA, "%s: %s has another shape than this model", p->options->weights, name);
    else
        model_write_span(&p->model, arena, span, values.f32);
    array_free(&values);
    return status;
}

static Status load_weights(ProbeSession *p, const ArrayFile *file, Error *err) {
    Model *m = &p->model;
    for (int i = 0; i < m->param_count; i++)
        RETURN_IF(load_span(p, file, m->master, &m->params[i], err));
    for (int i = 0; i < m->buffer_count_named; i++)
        RETURN_IF(load_span(p, file, m->running, &m->buffers[i], err));
    model_sync_low(m);
    return STATUS_OK;
}

static Status init_model(ProbeSession *p, const ModelShape *shape, Error *err) {
    const Config *c = p->config;
    RETURN_IF(
        model_init(&p->model, &p->runtime.device, &p->runtime.comm, shape, p->runtime.dtype, (uint64_t)c->seed, err));
    p->model.bn_global = c->bn.scope == BN_GLOBAL;
    p->model.bn_eps = (float)c->bn.eps;
    p->model.bn_momentum = (float)c->bn.momentum;
    return optimiser_init(&p->optimiser, c, &p->model, err);
}

static Status model_from_checkpoint(ProbeSession *p, Error *err) {
    CheckpointFile file;
    RETURN_IF(checkpoint_load(p->options->checkpoint, &file, err));
    ModelShape shape;
    state_shape(&file.meta, &shape);
    memcpy(p->mean, file.meta.mean, sizeof p->mean);
    memcpy(p->std, file.meta.std, sizeof p->std);
    Status status = init_model(p, &shape, err);
    if (status == STATUS_OK)
        status = state_restore(&p->model, &p->optimiser, &file, err);
    checkpoint_free(&file);
    return status;
}

Status probe_model(ProbeSession *p, int size, int classes, Error *err) {
    if (p->options->checkpoint) {
        RETURN_IF(model_from_checkpoint(p, err));
        if (p->model.shape.size != size)
            return error_set(err, STATUS_DATA, "%s was trained on %d-pixel images, %s holds %d-pixel ones",
                             p->options->checkpoint, p->model.shape.size, p->options->in, size);
        return STATUS_OK;
    }
    ModelShape shape = {.width = (int)p->config->model.width,
                        .projection = (int)p->config->model.projection,
                        .classes = classes,
                        .size = size};
    snprintf(shape.encoder, sizeof shape.encoder, "%s", p->config->model.encoder);
    if (!p->options->weights)
        return init_model(p, &shape, err);
    ArrayFile *file;
    RETURN_IF(array_file_open(&file, p->options->weights, err));
    Array fc = {0};
    Status status = array_read(file, "model/classifier.fc.weight", ARRAY_F32, 2, &fc, err);
    shape.classes = (int)fc.shape[0];
    array_free(&fc);
    if (status == STATUS_OK)
        status = init_model(p, &shape, err);
    if (status == STATUS_OK)
        status = load_weights(p, file, err);
    array_file_close(file);
    return status;
}

Status probe_image_size(ProbeSession *p, const char *name, int *size, Error *err) {
    Array images;
    RETURN_IF(array_read(p->in, name, ARRAY_F32, 4, &images, err));
    const int64_t C = images.shape[1], H = images.shape[2], W = images.shape[3];
    array_free(&images);
    if (C != 3 || H != W || H < 8)
        return error_set(err, STATUS_DATA, "%s: %s must be [n,3,S,S] with S of 8 or more, is [n,%lld,%lld,%lld]",
                         p->options->in, name, (long long)C, (long long)H, (long long)W);
    *size = (int)H;
    return STATUS_OK;
}

Status probe_images(ProbeSession *p, const char *name, int size, void **device, size_t *bytes, Error *err) {
    Array images;
    RETURN_IF(array_read(p->in, name, ARRAY_F32, 4, &images, err));
    const int64_t px = (int64_t)size * size;
    Status status = STATUS_OK;
    void *staged = NULL;
    if (images.shape[0] != p->total || images.shape[1] != 3 || images.shape[2] != size || images.shape[3] != size) {
        status = error_set(err, STATUS_DATA, "%s: %s must be [%lld,3,%d,%d]", p->options->in, name, (long long)p->total,
                           size, size);
        goto done;
    }
    Device *d = &p->runtime.device;
    const size_t count = (size_t)(p->rows * 3 * px);
    *bytes = count * dtype_size(p->model.dtype) + 64;
    const Buffer buffers[] = {{device, *bytes}, {&staged, count * sizeof(float) + 64}};
    GOTO_IF(buffers_alloc(d, buffers, 2, err), done);
    d->ops->memory->copy_in(d, staged, images.f32 + p->first * 3 * px, count * sizeof(float));
    d->ops->convert->nchw_to_nhwc(d, p->rows, 3, (int)px, staged, p->model.dtype, *device);
    d->ops->stream->sync(d);
    buffers_free(d, &buffers[1], 1);
done:
    array_free(&images);
    return status;
}

Status probe_labels(ProbeSession *p, const char *name, int classes, int32_t **host, Error *err) {
    Array labels;
    RETURN_IF(array_read(p->in, name, ARRAY_I32, 1, &labels, err));
    Status status = STATUS_OK;
    if (labels.shape[0] != p->total)
        status = error_set(err, STATUS_DATA, "%s: %s must hold %lld values", p->options->in, name, (long long)p->total);
    for (int64_t i = 0; i < labels.count && status == STATUS_OK; i++)
        if (labels.i32[i] < 0 || labels.i32[i] >= classes)
            status = error_set(err, STATUS_DATA, "%s: %s[%lld] = %d is no class of 0..%d", p->options->in, name,
                               (long long)i, labels.i32[i], classes - 1);
    *host = status == STATUS_OK ? calloc((size_t)p->rows + 1, sizeof **host) : NULL;
    if (status == STATUS_OK && !*host)
        status = error_set(err, STATUS_SYSTEM, "out of memory for labels");
    if (status == STATUS_OK)
        memcpy(*host, labels.i32 + p->first, sizeof **host * (size_t)p->rows);
    array_free(&labels);
    return status;
}

Status probe_put_rows(ProbeSession *p, const char *name, const void *host, ArrayType type, int rank,
                      const int64_t *shape, Error *err) {
    size_t element = type == ARRAY_U8 ? 1 : 4;
    Array array = {.rank = rank + 1, .shape = {p->total}, .count = p->total};
    for (int i = 0; i < rank; i++) {
        array.shape[i + 1] = shape[i];
        array.count *= shape[i];
        element *= (size_t)shape[i];
    }
    void *all = malloc(element * (size_t)p->total + 1);
    if (!all)
        runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory gathering results"});
    comm_host_gather_rows(&p->runtime.comm, host, p->counts, element, all);
    *(type == ARRAY_F32 ? (void **)&array.f32 : type == ARRAY_I32 ? (void **)&array.i32 : (void **)&array.u8) = all;
    Status status = p->out ? array_write(p->out, name, &array, err) : STATUS_OK;
    free(all);
    return comm_agree(&p->runtime.comm, status, err);
}

Status probe_put_device(ProbeSession *p, const char *name, const void *device, ArrayType type, int rank,
                        const int64_t *shape, Error *err) {
    size_t bytes = 4 * (size_t)p->rows;
    for (int i = 0; i < rank; i++)
        bytes *= (size_t)shape[i];
    void *host = malloc(bytes + 1);
    if (!host)
        runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory copying results"});
    Device *d = &p->runtime.device;
    d->ops->memory->copy_out(d, host, device, bytes);
    Status status = probe_put_rows(p, name, host, type, rank, shape, err);
    free(host);
    return status;
}

Status probe_put(ProbeSession *p, const char *name, const float *values, int rank, const int64_t *shape, Error *err) {
    Status status = STATUS_OK;
    if (p->out) {
        Array array = {.rank = rank, .count = 1};
        for (int i = 0; i < rank; i++) {
            array.shape[i] = shape[i];
            array.count *= shape[i];
        }
        array.f32 = malloc(sizeof(float) * (size_t)array.count + 1);
        if (!array.f32)
            runtime_abort(&p->runtime, STATUS_SYSTEM, &(Error){.message = "out of memory writing results"});
        memcpy(array.f32, values, sizeof(float) * (size_t)array.count);
        status = array_write(p->out, name, &array, err);
        array_free(&array);
    }
    return comm_agree(&p->runtime.comm, status, err);
}
