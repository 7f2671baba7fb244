/* The banner: what runs where, from which position. Rank-ordered, written by rank 0 alone, and into every rank's log.
 */
#include <stdio.h>
#include <stdlib.h>

#include "trainer/run/trainer.h"

#ifndef EXCON_REVISION
#define EXCON_REVISION "unknown"
#endif

static void run_lines(Trainer *t, FILE *out) {
    const Config *c = &t->config;
    const Model *m = &t->model;
    char mpi[256];
    comm_versions(mpi, sizeof mpi);
    fprintf(out, "excon %s | %s | %d rank%s | %s\n", EXCON_REVISION, mpi, t->runtime.comm.size,
            t->runtime.comm.size == 1 ? "" : "s", t->runtime.device.libraries);
    fprintf(out, "backend %s | precision %s%s | collectives: %s\n", t->backend_choice, runtime_precision(&t->runtime),
            c->precision == PRECISION_AUTO ? ", chosen by auto" : "", t->runtime.comm.collectives->name);
    fprintf(out, "method %s, profile %s | %s width %d, %.2f M parameters | %d classes of %dx%d (%s)\n",
            config_name("method", c->method), config_name("profile", c->profile), m->shape.encoder, m->shape.width,
            (double)m->total * 1e-6, m->shape.classes, m->shape.size, m->shape.size, t->dataset.dir);
    char asked[64] = "";
    if (c->train.batch > t->train_count)
        snprintf(asked, sizeof asked, " (all; train.batch is %lld)", (long long)c->train.batch);
    fprintf(out, "%lld training images, %lld for selection (%s) | batch %lld%s, %lld steps an epoch, %lld epochs\n",
            (long long)t->train_count, (long long)t->select_count,
            t->select_split == SPLIT_TRAIN ? "held out of train" : "official val", (long long)trainer_batch(t), asked,
            (long long)t->batches, (long long)c->train.epochs);
    trainer_data_line(t, out);
    fprintf(out, "%s memory %.0f MB a rank (%.0f MB activations) | run folder %s\n",
            t->runtime.device.kind == DEVICE_CPU ? "host" : "device", (double)t->runtime.device.bytes_now * 1e-6,
            (double)t->step.arena_bytes * 1e-6, c->run.dir);
    if (t->resumed_from >= 0)
        fprintf(out, "resumed from step %lld, in epoch %lld of %lld\n", (long long)t->resumed_from,
                (long long)checkpoint_epoch(&t->at), (long long)c->train.epochs);
    else
        fprintf(out, "a fresh run from seed %lld\n", (long long)c->seed);
}

typedef struct RankCard {
    char host[64], device[128], threads_why[144];
} RankCard;

/* Said once at the start: it costs most of the loader's speed, and nothing else shows it. */
static void warn_of_cache(Trainer *t) {
    LoaderCache cache;
    loader_cache(t->loader, &cache);
    if (t->runtime.comm.rank != 0 || cache.cached_chunks >= cache.window_chunks)
        return;
    const int64_t bytes = cache.window_chunks * cache.chunk_bytes * t->runtime.comm.local_size;
    char text[400];
    snprintf(text, sizeof text,
             "warning: data.memory_mb %lld leaves a rank room for %lld of the %lld shard chunks that a shuffle window "
             "draws from, so images are read from disk several times over; set data.memory_mb to %lld, or "
             "data.shuffle_window to %lld (another sample order)",
             (long long)t->config.data.memory_mb, (long long)cache.cached_chunks, (long long)cache.window_chunks,
             (long long)((bytes + 999999) / 1000000), (long long)cache.cached_chunks);
    trainer_log(t, "%s", text);
    fprintf(stderr, "excon: %s\n", text);
}

void trainer_banner(Trainer *t) {
    Comm *comm = &t->runtime.comm;
    RankCard mine = {.host = ""};
    snprintf(mine.host, sizeof mine.host, "%.63s", comm->host);
    snprintf(mine.device, sizeof mine.device, "%.127s", t->runtime.device.name);
    if (t->runtime.device.kind == DEVICE_CPU)
        snprintf(mine.threads_why, sizeof mine.threads_why, " (threads: %.130s)", comm->threads_why);
    RankCard *cards = calloc((size_t)comm->size, sizeof *cards);
    int64_t *counts = calloc((size_t)comm->size, sizeof *counts);
    if (!cards || !counts)
        device_fatal(&t->runtime.device, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++)
        counts[r] = 1;
    comm_host_gather_rows(comm, &mine, counts, sizeof mine, cards);
    FILE *const outs[] = {comm->rank == 0 ? stdout : NULL, t->log};
    for (int o = 0; o < 2; o++) {
        if (!outs[o])
            continue;
        run_lines(t, outs[o]);
        for (int r = 0; r < comm->size; r++)
            fprintf(outs[o], "rank %d: %s, %s%s\n", r, cards[r].host, cards[r].device, cards[r].threads_why);
        fflush(outs[o]);
    }
    warn_of_cache(t);
    free(cards);
    free(counts);
}
