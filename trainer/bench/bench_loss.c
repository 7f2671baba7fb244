/* The global contrastive loss alone: gathers, both passes, gradient. `extra_mb` is what device memory (on the CPU: the
 * process) grew by beyond the embeddings and their gradient. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/clock.h"
#include "kernels/base/share.h"
#include "kernels/buffers.h"
#include "trainer/bench/bench.h"
#include "trainer/method/contrastive.h"

enum { CLASSES = 200 };

/* Device memory taken so far, in megabytes: the process's largest size on the CPU, whose libraries allocate too. */
static double memory_mb(const Device *d, int peak) {
    if (d->kind != DEVICE_CPU)
        return 1e-6 * (double)(peak ? d->bytes_peak : d->bytes_now);
    return peak ? bench_peak_mb() : bench_resident_mb();
}

/* `share` [1] f64 on the device. */
static Status time_loss(BenchContext *b, Contrastive *c, const float *z, float *dz, double *share, int64_t *own_rows,
                        double before, Error *err) {
    const BenchOptions *o = b->options;
    Comm *comm = &b->runtime.comm;
    const int64_t own = own_rows[comm->rank];
    int32_t *group = calloc((size_t)own + 1, sizeof *group);
    double *seconds = calloc((size_t)o->steps, sizeof *seconds);
    if (!group || !seconds) {
        free(group);
        free(seconds);
        return error_set(err, STATUS_SYSTEM, "out of memory");
    }
    for (int64_t i = 0; i < own; i++)
        group[i] = (int32_t)(i % CLASSES);
    double loss = 0;
    for (int64_t i = -1; i < o->steps; i++) {
        comm_barrier(comm);
        double begin = clock_seconds();
        contrastive_run(c, z, group, CLASSES + 1, own_rows, o->rows, share, dz);
        c->device->ops->memory->copy_out(c->device, &loss, share, sizeof loss);
        if (i >= 0)
            seconds[i] = clock_seconds() - begin;
    }
    comm_host_sum_f64(comm, &loss, 1);
    const double median = bench_median(seconds, o->steps), extra = memory_mb(c->device, 1) - before;
    const double flop = 6.0 * (double)o->rows * (double)o->rows * (double)o->dim; /* three products of rows */
    json_integer(&b->json, "rows", o->rows);
    json_integer(&b->json, "dim", o->dim);
    json_number(&b->json, "seconds", median);
    json_number(&b->json, "images_per_s", (double)o->rows / 2 / median);
    json_number(&b->json, "extra_mb", extra);
    json_number(&b->json, "gflop_s", 1e-9 * flop / median);
    json_number(&b->json, "loss", loss);
    if (!o->json && comm->rank == 0)
        printf("loss %lld x %lld: %.4f s, %.1f MB extra\n", (long long)o->rows, (long long)o->dim, median, extra);
    free(group);
    free(seconds);
    return STATUS_OK;
}

Status bench_loss(BenchContext *b, Error *err) {
    const BenchOptions *o = b->options;
    Comm *comm = &b->runtime.comm;
    Device *d = &b->runtime.device;
    int64_t first, own = 0;
    int64_t *own_rows = calloc((size_t)comm->size, sizeof *own_rows);
    if (!own_rows)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    for (int r = 0; r < comm->size; r++)
        share_of(o->rows, r, comm->size, &first, &own_rows[r]);
    share_of(o->rows, comm->rank, comm->size, &first, &own);
    const size_t bytes = sizeof(float) * (size_t)((own + 1) * o->dim);
    void *x = NULL, *z = NULL, *dz = NULL, *norm = NULL, *share = NULL;
    Contrastive c = {0};
    const Buffer buffers[] = {
        {&x, bytes}, {&z, bytes}, {&dz, bytes}, {&norm, sizeof(float) * (size_t)(own + 1)}, {&share, sizeof(double)}};
    Status status = buffers_alloc(d, buffers, 5, err);
    float *host = malloc(bytes);
    if (status == STATUS_OK && !host)
        status = error_set(err, STATUS_SYSTEM, "out of memory");
    if (status == STATUS_OK) {
        bench_fill(host, own * o->dim, (uint64_t)comm->rank);
        d->ops->memory->copy_in(d, x, host, sizeof(float) * (size_t)(own * o->dim));
        d->ops->unit->forward(d, own, (int)o->dim, x, z, norm);
        d->ops->memory->zero(d, dz, bytes);
        d->ops->stream->sync(d);
        const double before = memory_mb(d, 0);
        status =
            contrastive_init(&c, d, comm, own, o->rows, (int)o->dim, CLASSES + 1, 0.1, 0.07, b->runtime.dtype, err);
        if (status == STATUS_OK)
            status = time_loss(b, &c, z, dz, share, own_rows, before, err);
    }
    buffers_free(d, buffers, 5);
    contrastive_free(&c);
    free(host);
    free(own_rows);
    return comm_agree(comm, status, err);
}
