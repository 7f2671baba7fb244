/* One whole training step on random views: explanation, encoding, loss, backward, all-reduce, optimiser. View-making
 * and data loading are not in it (bench loader). Images are counted, not views. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/share.h"
#include "trainer/bench/bench.h"
#include "trainer/method/step.h"

static Status fill_views(BenchContext *b, int64_t rows, StepViews *views, Error *err) {
    Device *d = &b->runtime.device;
    const int64_t n = rows * b->options->size * b->options->size * 3;
    void *const buffers[] = {views->standard, views->random, views->backup};
    void *staged = NULL;
    float *host = malloc(sizeof(float) * (size_t)n);
    if (!host)
        return error_set(err, STATUS_SYSTEM, "out of memory for %lld random pixels", (long long)n);
    Status status = d->ops->memory->alloc(d, sizeof(float) * (size_t)n, &staged, err);
    for (uint64_t v = 0; v < 3 && status == STATUS_OK; v++) {
        if (!buffers[v])
            continue;
        bench_fill(host, n, 100 * (uint64_t)b->runtime.comm.rank + v);
        d->ops->memory->copy_in(d, staged, host, sizeof(float) * (size_t)n);
        d->ops->convert->cast(d, n, DTYPE_F32, staged, views->dtype, buffers[v]);
        d->ops->stream->sync(d);
    }
    if (staged)
        d->ops->memory->release(d, staged, sizeof(float) * (size_t)n);
    free(host);
    return status;
}

/* Where a profiler is to begin and to end: functions of the CUDA runtime that the backend has loaded; NULL: no marks.
 */
typedef struct Marks {
    int (*begin)(void), (*end)(void);
} Marks;

static Status find_marks(const Device *d, Marks *marks, Error *err) {
    if (d->library) {
        *(void **)&marks->begin = dlsym(d->library, "cudaProfilerStart");
        *(void **)&marks->end = dlsym(d->library, "cudaProfilerStop");
    }
    if (!marks->begin || !marks->end)
        return error_set(err, STATUS_USAGE, "--mark-last is for profilers of CUDA: there is no cudaProfilerStart on %s",
                         d->name);
    return STATUS_OK;
}

static Status time_steps(BenchContext *b, Step *step, const StepViews *views, Error *err) {
    const BenchOptions *o = b->options;
    Comm *comm = &b->runtime.comm;
    Marks marks = {NULL, NULL};
    int64_t first, rows;
    if (o->mark_last)
        RETURN_IF(find_marks(step->device, &marks, err));
    share_of(o->batch, comm->rank, comm->size, &first, &rows);
    int32_t *labels = calloc((size_t)rows + 1, sizeof *labels);
    double *seconds = calloc((size_t)o->steps, sizeof *seconds);
    if (!labels || !seconds) {
        free(labels);
        free(seconds);
        return error_set(err, STATUS_SYSTEM, "out of memory");
    }
    for (int64_t i = 0; i < rows; i++)
        labels[i] = (int32_t)((first + i) * 7 % step->model->shape.classes);
    StepInput input = {
        .rows = rows, .first = first, .global_rows = o->batch, .labels = labels, .mask = true, .lr = 0.01};
    double phases[PHASE_COUNT] = {0};
    int64_t accepted = 0;
    const int64_t warm_up = step->device->kind == DEVICE_CUDA ? 3 : 1; /* the second step records, later ones replay */
    for (int64_t i = -warm_up; i < o->steps; i++) {
        const int marked = marks.begin && i == o->steps - 1;
        StepReport report;
        comm_barrier(comm);
        if (marked)
            marks.begin();
        double begin = clock_seconds();
        step_run(step, &input, views, true, &report);
        step->device->ops->stream->sync(step->device);
        if (marked)
            marks.end();
        if (i < 0)
            continue;
        seconds[i] = clock_seconds() - begin;
        accepted += report.accepted;
        for (int p = 0; p < PHASE_COUNT; p++)
            phases[p] += report.seconds[p] / (double)o->steps;
    }
    const double median = bench_median(seconds, o->steps);
    json_string(&b->json, "model", o->model);
    json_integer(&b->json, "size", o->size);
    json_integer(&b->json, "batch", o->batch);
    json_string(&b->json, "method", o->method);
    json_string(&b->json, "precision", runtime_precision(&b->runtime));
    json_number(&b->json, "seconds", median);
    json_number(&b->json, "images_per_s", (double)o->batch / median);
    json_number(&b->json, "accept_rate", (double)accepted / (double)(o->batch * o->steps));
    json_begin_object(&b->json, "phases");
    for (int p = 0; p < PHASE_COUNT; p++)
        json_number(&b->json, PHASE_NAMES[p], phases[p]);
    json_end_object(&b->json);
    if (!o->json && comm->rank == 0)
        printf("step %s %s %lldx%lld batch %lld %s: %.3f s, %.2f images/s, peak %.0f MB\n", o->method, o->model,
               (long long)o->size, (long long)o->size, (long long)o->batch, runtime_precision(&b->runtime), median,
               (double)o->batch / median, bench_peak_mb());
    free(labels);
    free(seconds);
    return STATUS_OK;
}

Status bench_step(BenchContext *b, Error *err) {
    const BenchOptions *o = b->options;
    static const float mean[3] = {0.5f, 0.5f, 0.5f}, std[3] = {0.25f, 0.25f, 0.25f};
    ModelShape shape = {.width = (int)o->width, .classes = 200, .projection = (int)o->dim, .size = (int)o->size};
    snprintf(shape.encoder, sizeof shape.encoder, "%.15s", o->model);
    Model model = {0};
    Optimiser optimiser = {0};
    Step step = {0};
    StepViews views = {0};
    Status status = model_init(&model, &b->runtime.device, &b->runtime.comm, &shape, b->runtime.dtype, 1, err);
    if (status == STATUS_OK)
        status = optimiser_init(&optimiser, &b->config, &model, err);
    if (status == STATUS_OK)
        status = step_init(&step, &b->config, &model, &optimiser, o->batch, mean, std, err);
    if (status == STATUS_OK)
        status = step_views_init(&views, &b->config, model.device, step.max_samples, shape.size, model.dtype, err);
    if (status == STATUS_OK)
        status = fill_views(b, step.max_samples, &views, err);
    if (status == STATUS_OK)
        status = time_steps(b, &step, &views, err);
    step_views_free(&views);
    step_free(&step);
    optimiser_free(&optimiser);
    model_free(&model);
    return comm_agree(&b->runtime.comm, status, err);
}
