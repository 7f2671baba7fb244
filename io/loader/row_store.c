/* Chunk cache and in-memory rows.
 *
 * Both modes are places of `place_rows` rows each. Stream: a place is one chunk, recycled in least-recently-used order.
 * Memory: one place holds all selected rows in id order; a chunk is read into scratch and its selected rows are copied.
 */
#include "io/loader/row_store.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset/shard.h"
#include "io/loader/order.h"

enum { MAX_READERS = 16 };

typedef struct Rows {
    uint8_t *images, *masks;
    int16_t *boxes;
} Rows;

typedef struct Place {
    Rows rows;
    int64_t chunk; /* -1: empty */
    uint64_t used; /* clock of the last use */
} Place;

typedef struct OpenReader {
    ShardReader reader;
    int shard; /* -1: closed */
    uint64_t used;
} OpenReader;

struct RowStore {
    const Dataset *dataset;
    Split split;
    const int64_t *ids;
    int64_t n;
    int in_memory, want_masks;
    int64_t image_bytes, mask_bytes, chunk_rows; /* chunk_rows: the longest of any shard */
    int64_t *first_chunk;                        /* [shards + 1]: chunks before the shard */
    int32_t *place_of;                           /* [chunks]: place, or loaded flag in memory mode; -1: not here */
    Place *places;
    int place_count;
    Rows scratch; /* memory mode */
    OpenReader readers[MAX_READERS];
    uint64_t clock;
};

typedef struct Location {
    int shard;
    int64_t row, chunk, chunk_first, chunk_length; /* row and chunk_first count within the shard */
} Location;

static Location locate(const RowStore *store, int64_t id) {
    const ShardInfo *shards = store->dataset->shards[store->split];
    int low = 0, high = store->dataset->shard_count[store->split] - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (shards[middle].first <= id)
            low = middle;
        else
            high = middle - 1;
    }
    const int64_t row = id - shards[low].first, chunk = row / shards[low].chunk_rows;
    Location at = {low, row, store->first_chunk[low] + chunk, chunk * shards[low].chunk_rows, shards[low].chunk_rows};
    if (at.chunk_length > shards[low].rows - at.chunk_first)
        at.chunk_length = shards[low].rows - at.chunk_first;
    return at;
}

static int64_t row_bytes(const RowStore *store) {
    return store->image_bytes + (store->want_masks ? store->mask_bytes + 4 * (int64_t)sizeof(int16_t) : 0);
}

static Status rows_new(const RowStore *store, int64_t n, Rows *rows, Error *err) {
    const size_t count = (size_t)(n > 0 ? n : 1);
    rows->images = malloc(count * (size_t)store->image_bytes);
    rows->masks = store->want_masks ? malloc(count * (size_t)store->mask_bytes) : NULL;
    rows->boxes = store->want_masks ? malloc(count * 4 * sizeof *rows->boxes) : NULL;
    if (rows->images && (!store->want_masks || (rows->masks && rows->boxes)))
        return STATUS_OK;
    return error_set(err, STATUS_SYSTEM,
                     "out of memory for %lld images (%lld MB); use data.loader: stream, or a smaller data.memory_mb",
                     (long long)n, (long long)(n * row_bytes(store) >> 20));
}

static void rows_free(Rows *rows) {
    free(rows->images);
    free(rows->masks);
    free(rows->boxes);
    *rows = (Rows){0};
}

static void rows_copy(const RowStore *store, const Rows *from, int64_t row, uint8_t *image, int16_t *box,
                      uint8_t *mask) {
    memcpy(image, from->images + row * store->image_bytes, (size_t)store->image_bytes);
    if (!store->want_masks)
        return;
    memcpy(box, from->boxes + row * 4, 4 * sizeof *box);
    memcpy(mask, from->masks + row * store->mask_bytes, (size_t)store->mask_bytes);
}

/* Chunk numbering, and the number of places the cache bound allows. */
static Status plan_chunks(RowStore *store, int64_t cache_bytes, Error *err) {
    const int shards = store->dataset->shard_count[store->split];
    store->first_chunk = calloc((size_t)shards + 1, sizeof *store->first_chunk);
    if (!store->first_chunk)
        return error_set(err, STATUS_SYSTEM, "out of memory for the loader");
    store->chunk_rows = 1;
    for (int s = 0; s < shards; s++) {
        const ShardInfo *info = &store->dataset->shards[store->split][s];
        store->first_chunk[s + 1] = store->first_chunk[s] + (info->rows + info->chunk_rows - 1) / info->chunk_rows;
        store->chunk_rows = info->chunk_rows > store->chunk_rows ? info->chunk_rows : store->chunk_rows;
    }
    const int64_t chunks = store->first_chunk[shards];
    int64_t places = store->in_memory ? 1 : cache_bytes / (store->chunk_rows * row_bytes(store));
    places = places < 1 ? 1 : places;
    places = places > chunks ? (chunks > 0 ? chunks : 1) : places;
    store->place_count = (int)places;
    store->places = calloc((size_t)places, sizeof *store->places);
    store->place_of = malloc(((size_t)chunks + 1) * sizeof *store->place_of);
    if (!store->places || !store->place_of)
        return error_set(err, STATUS_SYSTEM, "out of memory for the loader");
    for (int64_t c = 0; c <= chunks; c++)
        store->place_of[c] = -1;
    for (int p = 0; p < store->place_count; p++)
        store->places[p].chunk = -1;
    return STATUS_OK;
}

Status row_store_open(RowStore **out, const Dataset *dataset, Split split, const int64_t *ids, int64_t n, int in_memory,
                      int64_t cache_bytes, int want_masks, Error *err) {
    RowStore *store = calloc(1, sizeof *store);
    *out = NULL;
    if (!store)
        return error_set(err, STATUS_SYSTEM, "out of memory for the loader");
    store->dataset = dataset;
    store->split = split;
    store->ids = ids;
    store->n = n;
    store->in_memory = in_memory;
    store->want_masks = want_masks;
    store->mask_bytes = (int64_t)dataset->height * dataset->width;
    store->image_bytes = 3 * store->mask_bytes;
    for (int r = 0; r < MAX_READERS; r++)
        store->readers[r].shard = -1;
    Status status = plan_chunks(store, cache_bytes, err);
    if (status == STATUS_OK && in_memory)
        status = rows_new(store, n, &store->places[0].rows, err);
    if (status == STATUS_OK && in_memory)
        status = rows_new(store, store->chunk_rows, &store->scratch, err);
    if (status != STATUS_OK) {
        row_store_close(store);
        return status;
    }
    *out = store;
    return STATUS_OK;
}

bool row_store_get(RowStore *store, int64_t id, uint8_t *image, int16_t *box, uint8_t *mask) {
    const Location at = locate(store, id);
    const int32_t p = store->place_of[at.chunk];
    if (p < 0)
        return false;
    Place *place = &store->places[p];
    place->used = ++store->clock;
    rows_copy(store, &place->rows, store->in_memory ? order_find(store->ids, store->n, id) : at.row - at.chunk_first,
              image, box, mask);
    return true;
}

/* The shard's open handle; the least recently used one makes room. */
static Status find_reader(RowStore *store, int shard, ShardReader **out, Error *err) {
    OpenReader *chosen = &store->readers[0];
    for (int r = 0; r < MAX_READERS; r++) {
        OpenReader *candidate = &store->readers[r];
        if (candidate->shard == shard) {
            candidate->used = ++store->clock;
            *out = &candidate->reader;
            return STATUS_OK;
        }
        if (candidate->used < chosen->used)
            chosen = candidate;
    }
    if (chosen->shard >= 0)
        shard_reader_close(&chosen->reader);
    chosen->shard = -1;
    RETURN_IF(shard_reader_open(&chosen->reader, store->dataset, store->split, shard, err));
    chosen->shard = shard;
    chosen->used = ++store->clock;
    *out = &chosen->reader;
    return STATUS_OK;
}

static Status load_into_memory(RowStore *store, const ShardReader *reader, const Location *at, Error *err) {
    Rows *scratch = &store->scratch, *all = &store->places[0].rows;
    RETURN_IF(shard_reader_read(reader, at->chunk_first, at->chunk_length, scratch->images, scratch->boxes,
                                scratch->masks, err));
    const int64_t first = reader->info->first + at->chunk_first;
    for (int64_t i = order_find(store->ids, store->n, first); i < store->n && store->ids[i] < first + at->chunk_length;
         i++)
        rows_copy(store, scratch, store->ids[i] - first, all->images + i * store->image_bytes,
                  all->boxes ? all->boxes + i * 4 : NULL, all->masks ? all->masks + i * store->mask_bytes : NULL);
    store->place_of[at->chunk] = 0;
    return STATUS_OK;
}

Status row_store_load(RowStore *store, int64_t id, Error *err) {
    const Location at = locate(store, id);
    ShardReader *reader;
    RETURN_IF(find_reader(store, at.shard, &reader, err));
    if (store->in_memory)
        return load_into_memory(store, reader, &at, err);
    Place *place = &store->places[0];
    for (int p = 1; p < store->place_count; p++)
        if (store->places[p].used < place->used)
            place = &store->places[p];
    if (place->chunk >= 0)
        store->place_of[place->chunk] = -1;
    place->chunk = -1;
    place->used = 0;
    if (!place->rows.images) {
        Status status = rows_new(store, store->chunk_rows, &place->rows, err);
        if (status != STATUS_OK) {
            rows_free(&place->rows);
            return status;
        }
    }
    RETURN_IF(shard_reader_read(reader, at.chunk_first, at.chunk_length, place->rows.images, place->rows.boxes,
                                place->rows.masks, err));
    place->chunk = at.chunk;
    place->used = ++store->clock;
    store->place_of[at.chunk] = (int32_t)(place - store->places);
    return STATUS_OK;
}

int64_t row_store_bytes(const RowStore *store) {
    const int64_t rows = store->in_memory ? store->n + store->chunk_rows : store->place_count * store->chunk_rows;
    return rows * row_bytes(store);
}

int64_t row_store_places(const RowStore *store) {
    return store->place_count;
}

int64_t row_store_chunks(const RowStore *store) {
    return store->first_chunk[store->dataset->shard_count[store->split]];
}

int64_t row_store_chunk_rows(const RowStore *store) {
    return store->chunk_rows;
}

void row_store_close(RowStore *store) {
    if (!store)
        return;
    for (int r = 0; r < MAX_READERS; r++)
        if (store->readers[r].shard >= 0)
            shard_reader_close(&store->readers[r].reader);
    for (int p = 0; store->places && p < store->place_count; p++)
        rows_free(&store->places[p].rows);
    rows_free(&store->scratch);
    free(store->places);
    free(store->place_of);
    free(store->first_chunk);
    free(store);
}
