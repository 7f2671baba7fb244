/* Where the loader's thread finds rows: a bounded cache of chunks (stream mode), or every selected row once it was read
 * (memory mode). Used by one thread only. */
#ifndef EXCON_IO_ROW_STORE_H
#define EXCON_IO_ROW_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/dataset/dataset.h"

typedef struct RowStore RowStore;

/* `ids` [n] ascending, borrowed: the rows that will be asked for. in_memory 0: at most cache_bytes of chunks (one chunk
 * at least). A failed open has unwound itself: *out is NULL. want_masks: boxes and masks are read and kept as well. */
Status row_store_open(RowStore **out, const Dataset *dataset, Split split, const int64_t *ids, int64_t n, int in_memory,
                      int64_t cache_bytes, int want_masks, Error *err);

/* Copies the row into image [H,W,3], and box [4] and mask [H,W] when they were wanted. False, with nothing copied, when
 * its chunk has to be loaded first. */
bool row_store_get(RowStore *store, int64_t id, uint8_t *image, int16_t *box, uint8_t *mask);

/* Reads the chunk of `id` (the only function that calls HDF5, row_store_close() apart). STATUS_DATA names file and
 * chunk. */
Status row_store_load(RowStore *store, int64_t id, Error *err);

/* Upper bound of what it allocates. */
int64_t row_store_bytes(const RowStore *store);

/* Stream mode: the chunks kept at a time (never more than there are), all chunks, and the rows of the longest. */
int64_t row_store_places(const RowStore *store);
int64_t row_store_chunks(const RowStore *store);
int64_t row_store_chunk_rows(const RowStore *store);

/* Closes the shards that are open. NULL is allowed. */
void row_store_close(RowStore *store);

#endif
