#include "trainer/report/training/banner.h"

#include <stdlib.h>

#ifndef EXCON_REVISION
#define EXCON_REVISION "unknown"
#endif

static void run_lines(const Banner *b, FILE *out) {
    const Config *c = b->config;
    const Model *m = b->model;
    const Comm *comm = b->comm;
    char mpi[256];
    comm_versions(mpi, sizeof mpi);
    fprintf(out, "excon %s | %s | %d rank%s | %s\n", EXCON_REVISION, mpi, comm->size, comm->size == 1 ? "" : "s",
            m->device->libraries);
    fprintf(out, "backend %s | precision %s%s | collectives: %s\n", b->backend, b->precision,
            c->precision == PRECISION_AUTO ? ", chosen by auto" : "", comm->collectives->name);
    fprintf(out, "method %s, profile %s | %s width %d, %.2f M parameters | %d classes of %dx%d (%s)\n",
            config_name("method", c->method), config_name("profile", c->profile), m->shape.encoder, m->shape.width,
            (double)m->total * 1e-6, m->shape.classes, m->shape.size, m->shape.size, b->dataset->dir);
    char asked[64] = "";
    if (c->train.batch > b->train_count)
        snprintf(asked, sizeof asked, " (all; train.batch is %lld)", (long long)c->train.batch);
    fprintf(out, "%lld training images, %lld for selection (%s) | batch %lld%s, %lld steps an epoch, %lld epochs\n",
            (long long)b->train_count, (long long)b->select_count, b->selected_from, (long long)b->batch, asked,
            (long long)b->batches, (long long)c->train.epochs);
    fprintf(out, "%s\n", b->data_path);
    fprintf(out, "%s memory %.0f MB a rank (%.0f MB activations) | run folder %s\n",
            m->device->kind == DEVICE_CPU ? "host" : "device", (double)m->device->bytes_now * 1e-6,
            (double)b->activation_bytes * 1e-6, c->run.dir);
    if (b->resumed_from >= 0)
        fprintf(out, "resumed from step %lld, in epoch %lld of %lld\n", (long long)b->resumed_from, (long long)b->epoch,
                (long long)c->train.epochs);
    else
        fprintf(out, "a fresh run from seed %lld\n", (long long)c->seed);
}

typedef struct RankCard {
    char host[64], device[128], threads_why[144];
} RankCard;

void banner_show(const Banner *b, RunLog *log) {
    Comm *comm = b->comm;
    Device *device = b->model->device;
    RankCard mine = {.host = ""};
    snprintf(mine.host, sizeof mine.host, "%.63s", comm->host);
    snprintf(mine.device, sizeof mine.device, "%.127s", device->name);
    if (device->kind == DEVICE_CPU)
        snprintf(mine.threads_why, sizeof mine.threads_why, " (threads: %.130s)", comm->threads_why);
    RankCard *cards = calloc((size_t)comm->size, sizeof *cards);
    int64_t *counts = calloc((size_t)comm->size, sizeof *counts);
    if (!cards || !counts)
        device_fatal(device, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++)
        counts[r] = 1;
    comm_host_gather_rows(comm, &mine, counts, sizeof mine, cards);
    FILE *const outs[] = {comm->rank == 0 ? stdout : NULL, log->file};
    for (int o = 0; o < 2; o++) {
        if (!outs[o])
            continue;
        run_lines(b, outs[o]);
        for (int r = 0; r < comm->size; r++)
            fprintf(outs[o], "rank %d: %s, %s%s\n", r, cards[r].host, cards[r].device, cards[r].threads_why);
        fflush(outs[o]);
    }
    free(cards);
    free(counts);
}
