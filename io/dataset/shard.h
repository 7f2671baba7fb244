/* One HDF5 shard: writing it, and reading rows of it through a handle that stays open.
 *
 * All functions take the Dataset's mutex themselves, so they may be called from any thread. */
#ifndef EXCON_IO_SHARD_H
#define EXCON_IO_SHARD_H

#include "io/dataset/dataset.h"
#include "io/hdf5/h5_handle.h"

/* Rows to store, C order; boxes and masks NULL when the dataset has none. */
typedef struct ShardRows {
    const uint8_t *images; /* [n,H,W,3] */
    const int32_t *labels; /* [n] */
    const int16_t *boxes;  /* [n,4] or NULL */
    const uint8_t *masks;  /* [n,H,W] or NULL */
} ShardRows;

/* Writes shard info->file (rows info->first .. + info->rows) atomically and fills info->sha256. Only dir, classes,
 * sides, mean, std and mutex of `dataset` are used. */
Status shard_write(const Dataset *dataset, Split split, ShardInfo *info, const ShardRows *rows, Error *err);

/* An open shard, checked against the dataset's index. */
typedef struct ShardReader {
    const Dataset *dataset;
    const ShardInfo *info;
    char path[1100];
    H5Handle file, images, boxes, masks; /* boxes, masks -1 when absent */
} ShardReader;

/* STATUS_DATA when the shard is not what the index says. A failed open has unwound itself: no handle is open. */
Status shard_reader_open(ShardReader *reader, const Dataset *dataset, Split split, int shard, Error *err);

/* Rows [first, first+n) of the shard into images [n,H,W,3]; boxes [n,4] and masks [n,H,W] may be NULL, and are zeroed
 * when the shard has none. A damaged chunk gives STATUS_DATA naming file, chunk and rows. */
Status shard_reader_read(const ShardReader *reader, int64_t first, int64_t n, uint8_t *images, int16_t *boxes,
                         uint8_t *masks, Error *err);

/* All labels of the shard into labels [rows], each checked against the class count, and the ids against their places.
 */
Status shard_reader_labels(const ShardReader *reader, int32_t *labels, Error *err);

/* A reader of zeros, and one whose opening failed, has nothing to close. */
void shard_reader_close(ShardReader *reader);

#endif
