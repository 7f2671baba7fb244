/* The loader's thread and its ring of slots.
 *
 * A slot is FREE, FILLING (the thread's), READY, or HELD (the caller's). `lock` guards everything but the contents of
 * slots, the order and the row store: those belong to the thread, a slot's contents to whoever has it. A new epoch
 * raises `generation`; the thread drops the slot it was filling when it sees that. */
#include "io/loader/loader.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/loader/row_store.h"
#include "kernels/base/share.h"
#include "kernels/ops.h"

typedef enum SlotState { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_HELD } SlotState;

typedef struct Slot {
    SlotState state;
    int64_t number; /* global batch of the epoch */
    Batch batch;
    uint8_t *images, *masks;
    int32_t *labels;
    int64_t *ids;
    int32_t *index;
    int16_t *boxes;
    Status status;
    Error error;
} Slot;

struct Loader {
    LoaderConfig config;
    int64_t batches, image_bytes, mask_bytes;
    int64_t max_rows; /* of a slot */
    RowStore *store;  /* NULL in ids mode */
    int64_t *order;   /* [n] */
    Slot *slots;
    int slot_count;
    pthread_t thread;
    int thread_started;
    pthread_mutex_t lock;
    pthread_cond_t work;  /* to the thread: a free slot, a new epoch, resume, stop */
    pthread_cond_t ready; /* to the caller: a slot is ready, the thread left HDF5 */
    int stop, paused, reading;
    uint64_t generation; /* 0: no epoch yet */
    uint32_t epoch;
    int64_t first_batch, next; /* where the epoch starts; the batch loader_next() gives next */
};

/* ---- the thread ---- */

/* Waits until HDF5 may be called; 0 when the batch is no longer wanted. */
static int enter_reading(Loader *loader, uint64_t generation) {
    pthread_mutex_lock(&loader->lock);
    while (loader->paused && !loader->stop && loader->generation == generation)
        pthread_cond_wait(&loader->work, &loader->lock);
    const int wanted = !loader->stop && loader->generation == generation;
    loader->reading = wanted;
    pthread_mutex_unlock(&loader->lock);
    return wanted;
}

static void leave_reading(Loader *loader) {
    pthread_mutex_lock(&loader->lock);
    loader->reading = 0;
    pthread_cond_broadcast(&loader->ready);
    pthread_mutex_unlock(&loader->lock);
}

/* Fills row r of the slot; false when the batch is no longer wanted. */
static bool fill_row(Loader *loader, Slot *slot, int64_t r, int64_t id, uint64_t generation) {
    const LoaderConfig *config = &loader->config;
    slot->ids[r] = id;
    slot->labels[r] = config->dataset->labels[config->split][id];
    if (config->mode == LOADER_IDS) {
        slot->index[r] = (int32_t)order_find(config->layout.ids, config->layout.n, id);
        return true;
    }
    uint8_t *image = slot->images + r * loader->image_bytes;
    int16_t *box = slot->boxes ? slot->boxes + r * 4 : NULL;
    uint8_t *mask = slot->masks ? slot->masks + r * loader->mask_bytes : NULL;
    if (row_store_get(loader->store, id, image, box, mask))
        return true;
    if (!enter_reading(loader, generation))
        return false;
    slot->status = row_store_load(loader->store, id, &slot->error);
    leave_reading(loader);
    if (slot->status == STATUS_OK)
        row_store_get(loader->store, id, image, box, mask);
    return true;
}

/* This rank's rows of global batch `number`; false when it is no longer wanted. */
static bool fill_slot(Loader *loader, Slot *slot, int64_t number, uint64_t generation) {
    const LoaderConfig *config = &loader->config;
    const int64_t first = number * config->batch, left = config->layout.n - first;
    const int64_t global = left < config->batch ? left : config->batch;
    int64_t own_first, own_rows;
    share_of(global, config->rank, config->size, &own_first, &own_rows);
    slot->number = number;
    slot->status = STATUS_OK;
    slot->batch = (Batch){.rows = own_rows,
                          .first = own_first,
                          .global_rows = global,
                          .global_first = first,
                          .images = slot->images,
                          .labels = slot->labels,
                          .ids = slot->ids,
                          .index = slot->index,
                          .boxes = slot->boxes,
                          .masks = slot->masks,
                          .slot = (int)(slot - loader->slots)};
    for (int64_t r = 0; r < own_rows && slot->status == STATUS_OK; r++)
        if (!fill_row(loader, slot, r, loader->order[first + own_first + r], generation))
            return false;
    return true;
}

static Slot *free_slot(Loader *loader) {
    for (int s = 0; s < loader->slot_count; s++)
        if (loader->slots[s].state == SLOT_FREE)
            return &loader->slots[s];
    return NULL;
}

static void *run(void *argument) {
    Loader *loader = argument;
    uint64_t generation = 0;
    int64_t number = 0;
    Status order_status = STATUS_OK;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        Slot *slot = free_slot(loader);
        if (generation == loader->generation && (generation == 0 || number >= loader->batches || !slot)) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        if (generation != loader->generation) {
            generation = loader->generation;
            number = loader->first_batch;
            const uint32_t epoch = loader->epoch;
            pthread_mutex_unlock(&loader->lock);
            order_status =
                order_fill(&loader->config.layout, loader->config.seed, epoch, loader->config.shuffle, loader->order);
            pthread_mutex_lock(&loader->lock);
            continue;
        }
        slot->state = SLOT_FILLING;
        pthread_mutex_unlock(&loader->lock);
        int wanted = 1;
        if (order_status == STATUS_OK)
            wanted = fill_slot(loader, slot, number, generation);
        else {
            slot->number = number;
            slot->status = error_set(&slot->error, order_status, "out of memory for the sample order");
        }
        pthread_mutex_lock(&loader->lock);
        wanted = wanted && loader->generation == generation;
        slot->state = wanted ? SLOT_READY : SLOT_FREE;
        number = slot->status == STATUS_OK ? number + 1 : loader->batches;
        pthread_cond_broadcast(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ---- the caller ---- */

static Status check_config(const LoaderConfig *config, Error *err) {
    if (config->batch < 1 || config->size < 1 || config->rank < 0 || config->rank >= config->size ||
        config->prefetch < 1)
        return error_set(err, STATUS_INTERNAL, "loader: batch %lld, rank %d of %d, prefetch %d",
                         (long long)config->batch, config->rank, config->size, config->prefetch);
    if (config->mode == LOADER_IDS && (config->want_masks || config->layout.n > INT32_MAX))
        return error_set(err, STATUS_INTERNAL, "loader: ids mode gives no masks, and positions are 32-bit numbers");
    for (int64_t i = 0; i < config->layout.n; i++)
        if (config->layout.ids[i] < (i > 0 ? config->layout.ids[i - 1] + 1 : 0) ||
            config->layout.ids[i] >= config->dataset->count[config->split])
            return error_set(err, STATUS_INTERNAL, "loader: sample ids are not ascending, or outside the split");
    return STATUS_OK;
}

typedef struct Part {
    void **at;
    size_t bytes; /* 0: not in this mode */
} Part;

enum { SLOT_PARTS = 6 };

static void slot_parts(const Loader *loader, Slot *slot, Part parts[SLOT_PARTS]) {
    const LoaderConfig *config = &loader->config;
    const size_t rows = (size_t)loader->max_rows, ids_only = config->mode == LOADER_IDS,
                 masks = config->want_masks != 0;
    const Part all[SLOT_PARTS] = {
        {(void **)&slot->images, ids_only ? 0 : rows * (size_t)loader->image_bytes},
        {(void **)&slot->labels, rows * sizeof *slot->labels},
        {(void **)&slot->ids, rows * sizeof *slot->ids},
        {(void **)&slot->index, ids_only ? rows * sizeof *slot->index : 0},
        {(void **)&slot->boxes, masks ? rows * 4 * sizeof *slot->boxes : 0},
        {(void **)&slot->masks, masks ? rows * (size_t)loader->mask_bytes : 0},
    };
    memcpy(parts, all, sizeof all);
}

static Status take(const Loader *loader, const Part *part, Error *err) {
    Device *device = loader->config.device;
    if (part->bytes == 0)
        return STATUS_OK;
    if (device)
        return device->ops->memory->host_alloc(device, part->bytes, part->at, err);
    *part->at = malloc(part->bytes);
    return *part->at ? STATUS_OK
                     : error_set(err, STATUS_SYSTEM, "out of memory for %d batches of %lld rows", loader->slot_count,
                                 (long long)loader->max_rows);
}

static void give_back(const Loader *loader, const Part *part) {
    Device *device = loader->config.device;
    if (device && *part->at)
        device->ops->memory->host_release(device, *part->at, part->bytes);
    else
        free(*part->at);
}

static Status allocate(Loader *loader, Error *err) {
    const LoaderConfig *config = &loader->config;
    int64_t first, rows;
    share_of(config->batch < config->layout.n ? config->batch : config->layout.n, 0, config->size, &first, &rows);
    loader->max_rows = rows > 0 ? rows : 1;
    loader->slot_count = config->prefetch + 1;
    loader->order = malloc(((size_t)config->layout.n + 1) * sizeof *loader->order);
    loader->slots = calloc((size_t)loader->slot_count, sizeof *loader->slots);
    if (!loader->order || !loader->slots)
        return error_set(err, STATUS_SYSTEM, "out of memory for the order of %lld samples",
                         (long long)config->layout.n);
    for (int s = 0; s < loader->slot_count; s++) {
        Part parts[SLOT_PARTS];
        slot_parts(loader, &loader->slots[s], parts);
        for (int p = 0; p < SLOT_PARTS; p++)
            RETURN_IF(take(loader, &parts[p], err));
    }
    return STATUS_OK;
}

static Status open_store(Loader *loader, Error *err) {
    const LoaderConfig *config = &loader->config;
    if (config->mode == LOADER_IDS)
        return STATUS_OK;
    return row_store_open(&loader->store, config->dataset, config->split, config->layout.ids, config->layout.n,
                          config->mode == LOADER_MEMORY, config->cache_bytes, config->want_masks, err);
}

Status loader_open(Loader **out, const LoaderConfig *config, Error *err) {
    *out = NULL;
    RETURN_IF(check_config(config, err));
    Loader *loader = calloc(1, sizeof *loader);
    if (!loader)
        return error_set(err, STATUS_SYSTEM, "out of memory for the loader");
    loader->config = *config;
    loader->batches = (config->layout.n + config->batch - 1) / config->batch;
    loader->mask_bytes = (int64_t)config->dataset->height * config->dataset->width;
    loader->image_bytes = 3 * loader->mask_bytes;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    Status status = allocate(loader, err);
    if (status == STATUS_OK)
        status = open_store(loader, err);
    if (status == STATUS_OK) {
        loader->thread_started = pthread_create(&loader->thread, NULL, run, loader) == 0;
        if (!loader->thread_started)
            status = error_set(err, STATUS_SYSTEM, "the loader's thread cannot be started");
    }
    if (status != STATUS_OK) {
        loader_close(loader);
        return status;
    }
    *out = loader;
    return STATUS_OK;
}

Status loader_start_epoch(Loader *loader, uint32_t epoch, int64_t first_batch, Error *err) {
    if (first_batch < 0 || first_batch > loader->batches)
        return error_set(err, STATUS_DATA,
                         "batch %lld of an epoch of %lld: the checkpoint belongs to another dataset or batch size",
                         (long long)first_batch, (long long)loader->batches);
    pthread_mutex_lock(&loader->lock);
    loader->generation++;
    loader->epoch = epoch;
    loader->first_batch = loader->next = first_batch;
    for (int s = 0; s < loader->slot_count; s++)
        if (loader->slots[s].state == SLOT_READY)
            loader->slots[s].state = SLOT_FREE;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    return STATUS_OK;
}

int64_t loader_batches(const Loader *loader) {
    return loader->batches;
}

/* The slot of the next batch when it is ready; *held counts the caller's slots. */
static Slot *find_next(Loader *loader, int *held) {
    Slot *found = NULL;
    *held = 0;
    for (int s = 0; s < loader->slot_count; s++) {
        Slot *slot = &loader->slots[s];
        *held += slot->state == SLOT_HELD;
        if (slot->state == SLOT_READY && slot->number == loader->next)
            found = slot;
    }
    return found;
}

/* Waits for the next batch; NULL when it can never come. Called with the lock held. */
static Slot *wait_for_next(Loader *loader) {
    int held;
    Slot *slot = find_next(loader, &held);
    if (slot || held == loader->slot_count)
        return slot;
    while (!(slot = find_next(loader, &held)))
        pthread_cond_wait(&loader->ready, &loader->lock);
    return slot;
}

Status loader_next(Loader *loader, Batch *batch, int *done, Error *err) {
    Status status = STATUS_OK;
    memset(batch, 0, sizeof *batch);
    batch->slot = -1;
    *done = 0;
    pthread_mutex_lock(&loader->lock);
    if (loader->generation == 0)
        status = error_set(err, STATUS_INTERNAL, "loader: no epoch was started");
    else if (loader->next >= loader->batches)
        *done = 1;
    else {
        Slot *slot = wait_for_next(loader);
        if (!slot)
            status =
                error_set(err, STATUS_INTERNAL, "loader: all %d batches are held by the caller", loader->slot_count);
        else if (slot->status != STATUS_OK) {
            status = slot->status;
            if (err)
                *err = slot->error;
        } else {
            slot->state = SLOT_HELD;
            *batch = slot->batch;
            loader->next++;
        }
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

bool loader_ready(Loader *loader) {
    int held;
    pthread_mutex_lock(&loader->lock);
    const Slot *slot = loader->generation > 0 ? find_next(loader, &held) : NULL;
    const int ready = slot && slot->status == STATUS_OK;
    pthread_mutex_unlock(&loader->lock);
    return ready;
}

void loader_release(Loader *loader, const Batch *batch) {
    if (batch->slot < 0 || batch->slot >= loader->slot_count)
        return;
    pthread_mutex_lock(&loader->lock);
    if (loader->slots[batch->slot].state == SLOT_HELD)
        loader->slots[batch->slot].state = SLOT_FREE;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

void loader_pause(Loader *loader) {
    pthread_mutex_lock(&loader->lock);
    loader->paused++;
    while (loader->reading)
        pthread_cond_wait(&loader->ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
}

void loader_resume(Loader *loader) {
    pthread_mutex_lock(&loader->lock);
    loader->paused -= loader->paused > 0;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

int64_t loader_memory_bytes(const Loader *loader) {
    Slot any;
    Part parts[SLOT_PARTS];
    size_t slot_bytes = 0;
    slot_parts(loader, &any, parts);
    for (int p = 0; p < SLOT_PARTS; p++)
        slot_bytes += parts[p].bytes;
    return loader->slot_count * (int64_t)slot_bytes + loader->config.layout.n * 8 +
           (loader->store ? row_store_bytes(loader->store) : 0);
}

void loader_cache(const Loader *loader, LoaderCache *cache) {
    const LoaderConfig *config = &loader->config;
    *cache = (LoaderCache){.window_chunks = 1, .cached_chunks = 1};
    if (!loader->store)
        return;
    const int64_t chunks = row_store_chunks(loader->store), chunk_rows = row_store_chunk_rows(loader->store);
    const int64_t row = loader->image_bytes + (config->want_masks ? loader->mask_bytes + 8 : 0);
    *cache = (LoaderCache){
        .chunk_bytes = chunk_rows * row, .window_chunks = 1, .cached_chunks = row_store_places(loader->store)};
    if (!config->shuffle || config->mode == LOADER_MEMORY)
        return;
    const int64_t block = config->layout.block > 0 ? config->layout.block : 1;
    const int64_t wanted = (config->layout.window * block + chunk_rows - 1) / chunk_rows;
    cache->window_chunks = config->layout.window < 1 || wanted > chunks ? chunks : wanted;
}

void loader_close(Loader *loader) {
    if (!loader)
        return;
    pthread_mutex_lock(&loader->lock);
    loader->stop = 1;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    if (loader->thread_started)
        pthread_join(loader->thread, NULL);
    row_store_close(loader->store);
    for (int s = 0; loader->slots && s < loader->slot_count; s++) {
        Part parts[SLOT_PARTS];
        slot_parts(loader, &loader->slots[s], parts);
        for (int p = 0; p < SLOT_PARTS; p++)
            give_back(loader, &parts[p]);
    }
    free(loader->slots);
    free(loader->order);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->work);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
