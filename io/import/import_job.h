/* What every importer shares: a source that can produce any sample, written out as shards in a seeded random order.
 *
 * DST/import.partial lists the finished shards of an unfinished import under the plan's hash; the index is written last
 * and then the list is removed. A second run with the same plan keeps the shards whose SHA-256 still matches, and whose
 * pictures in the source are still the same bytes. DST/import.lock keeps a second importer out meanwhile. */
#ifndef EXCON_IO_IMPORT_JOB_H
#define EXCON_IO_IMPORT_JOB_H

#include "io/dataset/dataset.h"
#include "io/import/import.h"

/* One sample's destination. box [4] and mask [H,W] are NULL when the source has none. */
typedef struct ImportSample {
    uint8_t *image; /* [H,W,3]; NULL: only the digest is asked for */
    int32_t *label;
    int16_t *box;
    uint8_t *mask;
    char *digest; /* [65]: SHA-256 of the source's bytes; NULL unless has_digests */
} ImportSample;

typedef struct ImportSource {
    const char *kind;
    int classes, height, width;
    float mean[3], std[3];
    char **class_names; /* [classes], borrowed */
    int has_boxes, has_masks;
    int has_digests; /* 0: the plan says what the pictures are */
    int64_t count[SPLIT_COUNT];
    char plan[65]; /* hash of everything that decides the contents, but for pictures that have digests */
    /* Writes sample `index` of the source's own order. Called from several threads at once. */
    Status (*sample)(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err);
    void *ctx;
} ImportSource;

/* Runs the import. STATUS_CANNOT_CREATE when DST already holds another dataset, or one made of other pictures, or while
 * another process imports into it. */
Status import_run(const ImportSource *source, const char *dst, const ImportOptions *options, Error *err);

#endif
