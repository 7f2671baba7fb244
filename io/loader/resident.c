#include "io/loader/resident.h"

#include "io/loader/loader.h"
#include "kernels/ops.h"

static int64_t image_bytes(const Resident *resident) {
    return (int64_t)resident->dataset->height * resident->dataset->width * 3;
}

Status resident_open(Resident *resident, Device *device, const Dataset *dataset, Split split, const int64_t *ids,
                     int64_t n, Error *err) {
    *resident = (Resident){.dataset = dataset, .split = split, .ids = ids, .n = n};
    if (n > INT32_MAX)
        return error_set(err, STATUS_SYSTEM, "%lld images are more than an index on the device can count",
                         (long long)n);
    resident->bytes = (size_t)(n * image_bytes(resident));
    RETURN_IF(device->ops->memory->alloc(device, resident->bytes, (void **)&resident->images, err));
    resident->device = device;
    for (int slot = 0; slot < 2; slot++)
        device->ops->upload->release(device, slot);
    return STATUS_OK;
}

/* Batches, a chunk each, take turns in two slots: while one is copied, the next is read. */
static Status copy_all(Resident *resident, Loader *loader, ResidentProgress progress, void *ctx, Error *err) {
    Device *d = resident->device;
    Batch last = {.slot = -1};
    for (int turn = 0;; turn ^= 1) {
        Batch batch;
        int done;
        RETURN_IF(loader_next(loader, &batch, &done, err));
        if (done)
            return STATUS_OK;
        d->ops->upload->start(d, turn, resident->images + batch.global_first * image_bytes(resident), batch.images,
                              (size_t)(batch.rows * image_bytes(resident)));
        if (last.slot >= 0) {
            d->ops->upload->finish(d, turn ^ 1);
            loader_release(loader, &last);
        }
        last = batch;
        if (progress)
            progress(ctx, batch.global_first + batch.rows, resident->n);
    }
}

Status resident_fill(Resident *resident, ResidentProgress progress, void *ctx, Error *err) {
    Device *d = resident->device;
    const int chunk = resident->n > 0 ? resident->dataset->shards[resident->split][0].chunk_rows : 1;
    LoaderConfig config = {.dataset = resident->dataset,
                           .split = resident->split,
                           .layout = {.ids = resident->ids, .n = resident->n, .block = 1, .window = 1},
                           .mode = LOADER_STREAM,
                           .batch = chunk,
                           .rank = 0,
                           .size = 1,
                           .prefetch = 2,
                           .device = d};
    Loader *loader = NULL;
    RETURN_IF(loader_open(&loader, &config, err));
    Status status = loader_start_epoch(loader, 1, 0, err);
    if (status == STATUS_OK)
        status = copy_all(resident, loader, progress, ctx, err);
    for (int slot = 0; slot < 2; slot++)
        d->ops->upload->finish(d, slot);
    loader_close(loader);
    return status;
}

void resident_free(Resident *resident) {
    if (resident->device)
        resident->device->ops->memory->release(resident->device, resident->images, resident->bytes);
    *resident = (Resident){0};
}
