/* Images per second the loader hands over, nothing else running. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/import/import.h"
#include "io/loader/loader.h"
#include "trainer/bench/bench.h"

static Status read_epochs(BenchContext *b, const Dataset *dataset, LoaderMode mode, double *images_per_s, Error *err) {
    const BenchOptions *o = b->options;
    int64_t *ids = NULL, n = 0, images = 0;
    RETURN_IF(dataset_select_classes(dataset, SPLIT_TRAIN, 0, &ids, &n, err));
    LoaderConfig config = {.dataset = dataset,
                           .split = SPLIT_TRAIN,
                           .layout = {.ids = ids, .n = n, .block = 64, .window = 64},
                           .mode = mode,
                           .seed = 1,
                           .shuffle = 1,
                           .batch = o->batch,
                           .rank = b->runtime.comm.rank,
                           .size = b->runtime.comm.size,
                           .prefetch = 4,
                           .cache_bytes = (int64_t)1 << 30};
    Loader *loader = NULL;
    double *seconds = calloc((size_t)o->steps, sizeof *seconds);
    Status status = seconds ? loader_open(&loader, &config, err) : error_set(err, STATUS_SYSTEM, "out of memory");
    for (int64_t epoch = 0; status == STATUS_OK && epoch < o->steps; epoch++) {
        double begin = bench_now();
        int done = 0;
        images = 0;
        status = loader_start_epoch(loader, (uint32_t)epoch + 1, 0, err);
        while (status == STATUS_OK && !done) {
            Batch batch;
            status = loader_next(loader, &batch, &done, err);
            if (status == STATUS_OK && !done) {
                images += batch.global_rows;
                loader_release(loader, &batch);
            }
        }
        seconds[epoch] = bench_now() - begin;
    }
    if (status == STATUS_OK)
        *images_per_s = (double)images / bench_median(seconds, o->steps);
    if (loader)
        loader_close(loader);
    free(seconds);
    free(ids);
    return status;
}

static Status run(BenchContext *b, const char *dir, Error *err) {
    Dataset dataset;
    double stream = 0, memory = 0;
    RETURN_IF(dataset_open(&dataset, dir, 0, err));
    Status status = read_epochs(b, &dataset, LOADER_STREAM, &stream, err);
    if (status == STATUS_OK)
        status = read_epochs(b, &dataset, LOADER_MEMORY, &memory, err);
    json_number(&b->json, "seconds", stream > 0 ? (double)dataset.count[SPLIT_TRAIN] / stream : 0);
    json_number(&b->json, "images_per_s", stream);
    json_number(&b->json, "memory_images_per_s", memory);
    if (status == STATUS_OK && !b->options->json && b->runtime.comm.rank == 0)
        printf("loader %dx%d batch %lld: stream %.0f images/s, memory %.0f images/s\n", dataset.height, dataset.width,
               (long long)b->options->batch, stream, memory);
    dataset_close(&dataset);
    return status;
}

Status bench_loader(BenchContext *b, Error *err) {
    if (b->options->data)
        return comm_agree(&b->runtime.comm, run(b, b->options->data, err), err);
    char dir[] = "/tmp/excon-bench-XXXXXX", command[64];
    Status status = STATUS_OK;
    if (b->runtime.comm.size > 1)
        return error_set(err, STATUS_USAGE, "bench loader on several ranks needs --data DIR");
    if (!mkdtemp(dir))
        return error_set(err, STATUS_CANNOT_CREATE, "cannot make a folder in /tmp for the synthetic dataset");
    SyntheticOptions synthetic = {
        .seed = 1, .classes = 10, .size = (int)b->options->size, .train_per_class = 1000, .val_per_class = 1};
    ImportOptions import = {0};
    status = import_synthetic(dir, &synthetic, &import, err);
    if (status == STATUS_OK)
        status = run(b, dir, err);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "excon: could not remove %s\n", dir);
    return status;
}
