/* Streaming loader: one thread reads this rank's share of every global batch ahead of the trainer, in bounded memory.
 *
 * Stream mode keeps the most recently used chunks within cache_bytes: choose it so that a shuffle window fits
 * (window * chunk rows * image bytes), else chunks are read several times over. Every rank reads every chunk of a
 * window, because its rows are spread over it. Memory mode reads each chunk once and keeps the selected rows. Ids mode
 * reads nothing: who has the images elsewhere (io/loader/resident.h) gets ids, labels and each sample's place among the
 * selected ones. The order is the same in all.
 *
 * HDF5 is called by the thread only (loader_pause() gives the library back, for checkpoints); loaders on one Dataset
 * exclude each other. Errors travel with the batch they belong to. */
#ifndef EXCON_IO_LOADER_H
#define EXCON_IO_LOADER_H

#include <stdbool.h>

#include "io/dataset/dataset.h"
#include "io/loader/order.h"
#include "kernels/device.h"

typedef enum LoaderMode { LOADER_STREAM = 0, LOADER_MEMORY = 1, LOADER_IDS = 2 } LoaderMode;

typedef struct LoaderConfig {
    const Dataset *dataset; /* borrowed */
    Split split;
    OrderLayout layout; /* which ids, borrowed */
    LoaderMode mode;
    uint64_t seed;
    int shuffle;
    int64_t batch; /* global */
    int rank, size;
    int prefetch;        /* batches read ahead, >= 1 */
    int64_t cache_bytes; /* bound on cached chunks in stream mode */
    int want_masks;      /* also deliver boxes and masks (evaluation of explanations); not in ids mode */
    Device *device; /* batches lie in its host_alloc memory, to be copied in without a detour; NULL: ordinary memory.
                       Used by loader_open and loader_close alone */
} LoaderConfig;

/* This rank's part of one global batch. Memory belongs to the loader until loader_release(). */
typedef struct Batch {
    int64_t rows;          /* this rank's rows; may be 0 */
    int64_t first;         /* where they stand in the global batch: rows of lower ranks */
    int64_t global_rows;   /* of all ranks; smaller than `batch` in the last one of an epoch */
    int64_t global_first;  /* position in the epoch's order of the global batch's first sample */
    const uint8_t *images; /* [rows,H,W,3]; NULL in ids mode */
    const int32_t *labels; /* [rows] */
    const int64_t *ids;    /* [rows] */
    const int32_t *index;  /* [rows] position of each id in layout.ids; NULL but in ids mode */
    const int16_t *boxes;  /* [rows,4] or NULL */
    const uint8_t *masks;  /* [rows,H,W] or NULL */
    int slot;
} Batch;

typedef struct Loader Loader;

/* Starts the thread that reads ahead. A failed open has unwound itself: *out is NULL. */
Status loader_open(Loader **out, const LoaderConfig *config, Error *err);
/* Starts `epoch` (from 1) at global batch `first_batch` (mid-epoch resume). Drops what was prefetched before;
 * batches still held stay valid until released. */
Status loader_start_epoch(Loader *loader, uint32_t epoch, int64_t first_batch, Error *err);
/* Batches of an epoch: ceil(n / batch). */
int64_t loader_batches(const Loader *loader);
/* Next batch in order; waits for the thread. *done is 1, and no batch is given, after the epoch's last one. STATUS_DATA
 * when a shard is damaged (again at every further call until the next epoch is started); STATUS_INTERNAL before the
 * first epoch or when the caller holds every slot (prefetch + 1 batches). */
Status loader_next(Loader *loader, Batch *batch, int *done, Error *err);
/* Would loader_next() give a batch at once? False also when it would give an error, or none. */
bool loader_ready(Loader *loader);
/* Gives a batch's memory back; it is not read after that. */
void loader_release(Loader *loader, const Batch *batch);
/* Between pause and resume (they nest) the thread makes no HDF5 call: the caller may, but must not wait for a batch.
 * loader_pause() waits for a chunk that is being read. */
void loader_pause(Loader *loader);
void loader_resume(Loader *loader);
/* Upper bound of what the loader allocates, in bytes: slots, order and cache (in memory mode: the whole selection). */
int64_t loader_memory_bytes(const Loader *loader);
/* What the cache holds, and what a shuffle window needs. */
typedef struct LoaderCache {
    int64_t chunk_bytes;
    int64_t window_chunks; /* chunks that one window draws from; 1 without shuffling, and in memory and ids mode */
    int64_t cached_chunks; /* fewer than that: chunks are read several times over */
} LoaderCache;

void loader_cache(const Loader *loader, LoaderCache *cache);
/* At any moment, while the thread reads or waits. NULL is allowed. */
void loader_close(Loader *loader);

#endif
