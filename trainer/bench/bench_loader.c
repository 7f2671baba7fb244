/* Images per second the loader hands over, and that reach the device, nothing else running. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/import/import.h"
#include "io/loader/loader.h"
#include "io/loader/resident.h"
#include "kernels/base/clock.h"
#include "kernels/base/share.h"
#include "trainer/bench/bench.h"
#include "trainer/data/feed.h"

/* What is timed: a loader, and the feed behind it or NULL. */
typedef struct Source {
    const Dataset *dataset;
    int64_t *ids, n;
    Loader *loader;
    Resident resident;
    Feed feed;
    int feeds;
} Source;

static void source_close(Source *s) {
    feed_drop(&s->feed, s->loader);
    if (s->loader)
        loader_close(s->loader);
    feed_free(&s->feed);
    resident_free(&s->resident);
    free(s->ids);
}

static Status source_open(BenchContext *b, Source *s, const Dataset *dataset, LoaderMode mode, int feeds, Error *err) {
    Device *device = &b->runtime.device;
    const Comm *comm = &b->runtime.comm;
    int64_t first, rows;
    *s = (Source){.dataset = dataset, .feeds = feeds};
    RETURN_IF(dataset_select_classes(dataset, SPLIT_TRAIN, 0, &s->ids, &s->n, err));
    if (mode == LOADER_IDS) {
        RETURN_IF(resident_open(&s->resident, device, dataset, SPLIT_TRAIN, s->ids, s->n, err));
        RETURN_IF(resident_fill(&s->resident, NULL, NULL, err));
    }
    share_of(b->options->batch, 0, comm->size, &first, &rows);
    if (feeds)
        RETURN_IF(feed_init(&s->feed, device, mode == LOADER_IDS ? &s->resident : NULL, rows, dataset->height,
                            dataset->mean, dataset->std, err));
    LoaderConfig config = {.dataset = dataset,
                           .split = SPLIT_TRAIN,
                           .layout = {.ids = s->ids, .n = s->n, .block = 64, .window = 64},
                           .mode = mode,
                           .seed = 1,
                           .shuffle = 1,
                           .batch = b->options->batch,
                           .rank = comm->rank,
                           .size = comm->size,
                           .prefetch = 4,
                           .cache_bytes = (int64_t)1 << 30,
                           .device = feeds ? device : NULL};
    return loader_open(&s->loader, &config, err);
}

/* Takes the next batch, to the device when there is a feed, and gives it back. */
static Status take(Source *s, int64_t *images, int *done, Error *err) {
    Batch batch;
    if (!s->feeds) {
        RETURN_IF(loader_next(s->loader, &batch, done, err));
        if (!*done)
            loader_release(s->loader, &batch);
    } else {
        RETURN_IF(feed_next(&s->feed, s->loader, &batch, done, err));
        if (!*done) {
            feed_load(&s->feed, &batch);
            feed_prefetch(&s->feed, s->loader);
            feed_done(&s->feed, s->loader, &batch);
        }
    }
    *images += *done ? 0 : batch.global_rows;
    return STATUS_OK;
}

static Status read_epochs(BenchContext *b, const Dataset *dataset, LoaderMode mode, int feeds, double *images_per_s,
                          Error *err) {
    const BenchOptions *o = b->options;
    int64_t images = 0;
    Source source;
    double *seconds = calloc((size_t)o->steps, sizeof *seconds);
    Status status = source_open(b, &source, dataset, mode, feeds, err);
    if (status == STATUS_OK && !seconds)
        status = error_set(err, STATUS_SYSTEM, "out of memory");
    for (int64_t epoch = 0; status == STATUS_OK && epoch < o->steps; epoch++) {
        double begin = clock_seconds();
        int done = 0;
        images = 0;
        status = loader_start_epoch(source.loader, (uint32_t)epoch + 1, 0, err);
        while (status == STATUS_OK && !done)
            status = take(&source, &images, &done, err);
        b->runtime.device.ops->stream->sync(&b->runtime.device);
        seconds[epoch] = clock_seconds() - begin;
    }
    if (status == STATUS_OK)
        *images_per_s = (double)images / bench_median(seconds, o->steps);
    source_close(&source);
    free(seconds);
    return status;
}

static Status run(BenchContext *b, const char *dir, Error *err) {
    static const struct {
        const char *name; /* of the number in JSON */
        LoaderMode mode;
        int feeds;
    } ways[] = {{"images_per_s", LOADER_STREAM, 0},
                {"memory_images_per_s", LOADER_MEMORY, 0},
                {"memory_to_device_images_per_s", LOADER_MEMORY, 1},
                {"resident_images_per_s", LOADER_IDS, 1}};
    enum { WAYS = sizeof ways / sizeof *ways };
    Dataset dataset;
    double rates[WAYS] = {0};
    RETURN_IF(dataset_open(&dataset, dir, 0, err));
    Status status = STATUS_OK;
    for (int w = 0; w < WAYS && status == STATUS_OK; w++)
        status = read_epochs(b, &dataset, ways[w].mode, ways[w].feeds, &rates[w], err);
    json_number(&b->json, "seconds", rates[0] > 0 ? (double)dataset.count[SPLIT_TRAIN] / rates[0] : 0);
    for (int w = 0; w < WAYS; w++)
        json_number(&b->json, ways[w].name, rates[w]);
    if (status == STATUS_OK && !b->options->json && b->runtime.comm.rank == 0)
        printf("loader %dx%d batch %lld: stream %.0f images/s, memory %.0f images/s; to the device: memory %.0f, "
               "resident %.0f images/s\n",
               dataset.height, dataset.width, (long long)b->options->batch, rates[0], rates[1], rates[2], rates[3]);
    dataset_close(&dataset);
    return status;
}

Status bench_loader(BenchContext *b, Error *err) {
    if (b->options->data)
        return comm_agree(&b->runtime.comm, run(b, b->options->data, err), err);
    char dir[] = "/tmp/excon-bench-XXXXXX", command[96];
    if (b->runtime.comm.size > 1)
        return error_set(err, STATUS_USAGE, "bench loader on several ranks needs --data DIR");
    if (!mkdtemp(dir))
        return error_set(err, STATUS_CANNOT_CREATE, "cannot make a folder in /tmp for the synthetic dataset");
    /* Whoever waits for this pipe's end removes the folder, also when this process is killed. */
    snprintf(command, sizeof command, "exec setsid sh -c 'cat >/dev/null; rm -rf %s'", dir);
    FILE *keeper = popen(command, "we");
    SyntheticOptions synthetic = {
        .seed = 1, .classes = 10, .size = (int)b->options->size, .train_per_class = 1000, .val_per_class = 1};
    ImportOptions import = {0};
    Status status = keeper ? import_synthetic(dir, &synthetic, &import, err)
                           : error_set(err, STATUS_SYSTEM, "cannot start sh to watch over %s", dir);
    if (status == STATUS_OK)
        status = run(b, dir, err);
    if (!keeper || pclose(keeper) != 0)
        fprintf(stderr, "excon: could not remove %s\n", dir);
    return status;
}
