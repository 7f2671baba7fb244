/* Which way training images take to the device, and what is opened for it.
 *
 * The order of samples is the same on every way, and so are the numbers: a rank that has no memory for the one the
 * configuration prefers may take another than its peers. */
#include <stdio.h>

#include "comm/watchdog.h"
#include "kernels/base/clock.h"
#include "trainer/run/trainer.h"

static int64_t images_bytes(const Trainer *t) {
    return t->train_count * t->dataset.height * t->dataset.width * 3;
}

int64_t trainer_batch(const Trainer *t) {
    return t->config.train.batch < t->train_count ? t->config.train.batch : t->train_count;
}

/* Host memory for images of this rank; ranks of a host share it out. */
static int64_t cache_bytes(const Trainer *t) {
    return t->config.data.memory_mb * 1000000 / t->runtime.comm.local_size;
}

static int fits_device(const Trainer *t) {
    return t->runtime.device.kind == DEVICE_CUDA && images_bytes(t) <= t->config.data.device_mb << 20;
}

static LoaderMode host_mode(const Trainer *t) {
    switch ((LoaderKind)t->config.data.loader) {
    case LOADER_KIND_STREAM:
        return LOADER_STREAM;
    case LOADER_KIND_MEMORY:
        return LOADER_MEMORY;
    default:
        return images_bytes(t) <= cache_bytes(t) ? LOADER_MEMORY : LOADER_STREAM;
    }
}

typedef struct Loading {
    Trainer *trainer;
    int shown; /* percent */
} Loading;

static void show_loading(void *ctx, int64_t images, int64_t n) {
    Loading *loading = ctx;
    Trainer *t = loading->trainer;
    const int percent = (int)(100 * images / n);
    watchdog_phase(t->runtime.comm.watchdog, "loading images onto the device", t->at.step);
    if (percent < loading->shown + 10 && images < n)
        return;
    loading->shown = percent;
    log_line(&t->report.log, "loading images onto the device: %d %%", percent);
    if (t->report.bar && t->runtime.comm.rank == 0) {
        printf("\r\033[Kloading images onto the device: %d %%%s", percent, images < n ? "" : "\n");
        fflush(stdout);
    }
}

/* Device memory that is wanted by default, and not there, is no reason to stop. */
static Status open_resident(Trainer *t, Error *err) {
    const int told = t->config.data.loader == LOADER_KIND_DEVICE;
    const double begin = clock_seconds();
    if (!told && (t->config.data.loader != LOADER_KIND_AUTO || !fits_device(t)))
        return STATUS_OK;
    Error why = {0};
    Status status = resident_open(&t->resident, &t->runtime.device, &t->dataset, SPLIT_TRAIN, t->train_ids,
                                  t->train_count, told ? err : &why);
    if (status != STATUS_OK) {
        if (told)
            return status;
        log_line(&t->report.log, "training images stay off the device: %s", why.message);
        fprintf(stderr, "excon: rank %d: training images stay off the device: %s\n", t->runtime.comm.rank, why.message);
        return STATUS_OK;
    }
    Loading loading = {.trainer = t};
    RETURN_IF(resident_fill(&t->resident, show_loading, &loading, err));
    t->resident_seconds = clock_seconds() - begin;
    return STATUS_OK;
}

Status trainer_open_loader(Trainer *t, Error *err) {
    const Config *c = &t->config;
    RETURN_IF(open_resident(t, err));
    const Resident *resident = t->resident.device ? &t->resident : NULL;
    RETURN_IF(feed_init(&t->feed, &t->runtime.device, resident, t->step.max_samples, t->model.shape.size,
                        t->dataset.mean, t->dataset.std, err));
    t->loader_mode = resident ? LOADER_IDS : host_mode(t);
    LoaderConfig config = {.dataset = &t->dataset,
                           .split = SPLIT_TRAIN,
                           .layout = {.ids = t->train_ids,
                                      .n = t->train_count,
                                      .block = t->dataset.shards[SPLIT_TRAIN][0].chunk_rows,
                                      .window = (int)c->data.shuffle_window},
                           .mode = t->loader_mode,
                           .seed = (uint64_t)c->seed,
                           .shuffle = 1,
                           .batch = c->train.batch,
                           .rank = t->runtime.comm.rank,
                           .size = t->runtime.comm.size,
                           .prefetch = (int)c->data.prefetch + 1, /* one more is held while it is copied in */
                           .cache_bytes = cache_bytes(t),
                           .device = &t->runtime.device};
    RETURN_IF(loader_open(&t->loader, &config, err));
    t->batches = loader_batches(t->loader);
    return STATUS_OK;
}

void trainer_data_line(const Trainer *t, char *out, size_t bytes) {
    const double host = (double)loader_memory_bytes(t->loader) * 1e-6, device = (double)feed_bytes(&t->feed) * 1e-6;
    if (t->loader_mode == LOADER_IDS)
        snprintf(
            out, bytes,
            "data path: training images resident on the device (%.1f MB a rank, read in %.1f s), steps send indices "
            "(%.1f MB on the host, %.1f MB on the device)",
            (double)t->resident.bytes * 1e-6, t->resident_seconds, host, device);
    else if (t->runtime.device.kind == DEVICE_CUDA)
        snprintf(out, bytes,
                 "data path: training images %s (%.1f MB a rank), copied in ahead through pinned buffers (%.1f MB on "
                 "the device)",
                 t->loader_mode == LOADER_MEMORY ? "held in host memory" : "streamed from disk", host, device);
    else
        snprintf(out, bytes, "data path: training images %s (%.1f MB a rank)",
                 t->loader_mode == LOADER_MEMORY ? "held in host memory" : "streamed from disk", host + device);
}

/* It costs most of the loader's speed, and nothing else shows it. */
void trainer_warn_of_cache(Trainer *t) {
    LoaderCache cache;
    loader_cache(t->loader, &cache);
    if (t->runtime.comm.rank != 0 || cache.cached_chunks >= cache.window_chunks)
        return;
    const int64_t bytes = cache.window_chunks * cache.chunk_bytes * t->runtime.comm.local_size;
    log_note(&t->report.log,
             "warning: data.memory_mb %lld leaves a rank room for %lld of the %lld shard chunks that a shuffle window "
             "draws from, so images are read from disk several times over; set data.memory_mb to %lld, or "
             "data.shuffle_window to %lld (another sample order)",
             (long long)t->config.data.memory_mb, (long long)cache.cached_chunks, (long long)cache.window_chunks,
             (long long)((bytes + 999999) / 1000000), (long long)cache.cached_chunks);
}
