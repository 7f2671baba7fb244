/* A dataset: a folder of HDF5 shards and an index.h5 that names them.
 *
 * Shard `SPLIT-NNNN.h5`: /images u8 [n,H,W,3] (chunked, fletcher32), /labels i32 [n], /ids i64 [n], optional /boxes
 * i16 [n,4] (x0 y0 x1 y1, inclusive pixels), optional /masks u8 [n,H,W] (synthetic data: the true object);
 * attributes schema, split, classes, mean, std. Ids are dense within a split and equal the storage position.
 * index.h5 holds class names, per-split counts, shard names, row counts and SHA-256 sums.
 *
 * The Debian HDF5 library is not thread-safe. Every call that reaches it through a Dataset takes the Dataset's mutex,
 * so loaders and callers on one Dataset exclude each other; other users of the library (checkpoints) must pause the
 * loaders. */
#ifndef EXCON_IO_DATASET_H
#define EXCON_IO_DATASET_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define DATASET_SCHEMA 1

typedef enum Split { SPLIT_TRAIN = 0, SPLIT_VAL = 1, SPLIT_COUNT = 2 } Split;

typedef struct ShardInfo {
    char file[64]; /* relative to the dataset folder */
    int64_t first; /* id of its first row */
    int64_t rows;
    int32_t chunk_rows; /* rows per HDF5 chunk of /images */
    char sha256[65];
    char source[65]; /* SHA-256 over those of the pictures it was made of, in row order; empty: the plan says it, or an
                        older import did not record it */
} ShardInfo;

typedef struct Dataset {
    char dir[1024];
    char kind[32]; /* "tiny-imagenet", "cifar100", "synthetic" */
    int classes, height, width;
    float mean[3], std[3];
    char **class_names; /* [classes] */
    int64_t count[SPLIT_COUNT];
    int shard_count[SPLIT_COUNT];
    ShardInfo *shards[SPLIT_COUNT]; /* [shard_count], in id order */
    int32_t *labels[SPLIT_COUNT];   /* [count], indexed by id, read when opened */
    int has_boxes, has_masks;       /* every shard has them, or none */
    char plan[65];                  /* SHA-256 of what was imported and how */
    pthread_mutex_t *mutex;         /* held around HDF5 calls */
} Dataset;

enum { DATASET_MAX_SIDE = 4096, DATASET_MAX_CLASSES = 65536, DATASET_NAME_BYTES = 256 };

/* "train", "val". */
const char *split_name(Split split);

/* Opens and checks DIR/index.h5 and reads all labels (not the images). STATUS_NO_INPUT when DIR or the index is
 * missing, STATUS_DATA for anything foreign, truncated or inconsistent, naming the file. `verify` also checks every
 * shard's SHA-256. A failed open has unwound itself: `dataset` is empty, and closing it does nothing. */
Status dataset_open(Dataset *dataset, const char *dir, bool verify, Error *err);
void dataset_close(Dataset *dataset);

/* Reads rows [first, first+n) of one shard into images [n,H,W,3]; boxes [n,4] and masks [n,H,W] may be NULL and are
 * zeroed when the shard has none. STATUS_DATA names file and chunk. */
Status dataset_read_rows(const Dataset *dataset, Split split, int shard, int64_t first, int64_t n, uint8_t *images,
                         int16_t *boxes, uint8_t *masks, Error *err);

/* SHA-256 (hex) over everything that training on it depends on: class names, sizes, normalisation, shards with their
 * sums; not where it lies. Equal for a copied or moved dataset. "" without memory. */
void dataset_identity(const Dataset *dataset, char hex[65]);

/* Keeps the first `classes` classes: fills ids [*n] (ascending) of the split's samples with label < classes
 * (0: all). Caller frees *ids. */
Status dataset_select_classes(const Dataset *dataset, Split split, int classes, int64_t **ids, int64_t *n, Error *err);

/* Splits `ids` into train and validation parts, stratified: of each class round(fraction * n) samples, chosen by Philox
 * keyed with (seed, id), go to validation; at least one where the class has two or more and the fraction is not 0, and
 * not a class's only one. Both outputs ascending, caller frees. */
Status dataset_hold_out(const Dataset *dataset, Split split, const int64_t *ids, int64_t n, double fraction,
                        uint64_t seed, int64_t **train_ids, int64_t *train_n, int64_t **val_ids, int64_t *val_n,
                        Error *err);

#endif
