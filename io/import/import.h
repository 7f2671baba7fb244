/* Importers: official datasets and the synthetic one -> shards and index.
 *
 * An import writes each shard atomically (temp + rename) and the index last, so an interrupted import resumes: finished
 * shards whose checksum matches are kept. Samples are stored in a seeded random order, so that sequential reads already
 * mix classes. Progress is reported through the callback, once per percent or second. */
#ifndef EXCON_IO_IMPORT_H
#define EXCON_IO_IMPORT_H

#include <stdint.h>

#include "kernels/base/status.h"

typedef struct ImportOptions {
    int classes;    /* keep the first n classes; 0: all */
    int threads;    /* decoding threads; 0: all cores */
    int shard_rows; /* 0: 8192 */
    int chunk_rows; /* 0: 64 */
    void (*progress)(void *ctx, const char *stage, int64_t done, int64_t total, double seconds);
    void *progress_ctx;
    int64_t *made; /* may be NULL; gets the images written now, without those kept from an earlier run */
} ImportOptions;

typedef struct SyntheticOptions {
    uint64_t seed;
    int classes, size; /* classes 2..20, image side */
    int64_t train_per_class, val_per_class;
    double correlation; /* share of train images whose background is the one tied to their class; val: 1/classes */
} SyntheticOptions;

/* Official layout: wnids.txt, train/WNID/images, train/WNID/WNID_boxes.txt, val/images, val/val_annotations.txt.
 * Classes are the sorted wnids. STATUS_NO_INPUT / STATUS_DATA name the file at fault. */
Status import_tiny_imagenet(const char *src, const char *dst, const ImportOptions *options, Error *err);

/* The official binary files train.bin and test.bin, fine_label_names.txt (3,074 bytes a record; fine labels). */
Status import_cifar100(const char *src, const char *dst, const ImportOptions *options, Error *err);

/* Procedural: a salient object (shape and colour texture) decides the class, its true mask and box are kept, on a
 * background texture whose correlation with the class is `correlation` in train and broken in val. */
Status import_synthetic(const char *dst, const SyntheticOptions *synthetic, const ImportOptions *options, Error *err);

#endif
