/* What every importer shares: a source that can produce any sample, written out as shards in a seeded random order.
 *
 * DST/import.partial lists the finished shards of an unfinished import under the plan's hash; the index is written last
 * and then the list is removed. A second run with the same plan keeps the shards whose SHA-256 still matches. */
#ifndef EXCON_IO_IMPORT_JOB_H
#define EXCON_IO_IMPORT_JOB_H

#include "io/dataset/dataset.h"
#include "io/import/import.h"

/* One sample's destination. box [4] and mask [H,W] are NULL when the source has none. */
typedef struct ImportSample {
    uint8_t *image; /* [H,W,3] */
    int32_t *label;
    int16_t *box;
    uint8_t *mask;
} ImportSample;

typedef struct ImportSource {
    const char *kind;
    int classes, height, width;
    float mean[3], std[3];
    char **class_names; /* [classes], borrowed */
    int has_boxes, has_masks;
    int64_t count[SPLIT_COUNT];
    char plan[65]; /* hash of everything that decides the contents */
    /* Writes sample `index` of the source's own order. Called from several threads at once. */
    Status (*sample)(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err);
    void *ctx;
} ImportSource;

/* Runs the import. STATUS_CANNOT_CREATE when DST already holds another dataset. */
Status import_run(const ImportSource *source, const char *dst, const ImportOptions *options, Error *err);

#endif
