/* Importers: official datasets and the synthetic one -> shards and index. A new one is its file, import_NAME.c, and its
 * line in IMPORTERS.
 *
 * An import writes each shard atomically (temp + rename) and the index last, so an interrupted import resumes: finished
 * shards whose checksum matches are kept. Samples are stored in a seeded random order, so that sequential reads already
 * mix classes. Progress is reported through the callback, once per percent or second. */
#ifndef EXCON_IO_IMPORT_H
#define EXCON_IO_IMPORT_H

#include <stdint.h>

#include "kernels/base/status.h"

typedef struct SyntheticOptions {
    uint64_t seed;
    int classes, size; /* classes 2..20, image side */
    int64_t train_per_class, val_per_class;
    double correlation; /* share of train images whose background is the one tied to their class; val: 1/classes */
} SyntheticOptions;

typedef struct ImportOptions {
    int classes;    /* keep the first n classes; 0: all */
    int threads;    /* decoding threads; 0: all cores */
    int shard_rows; /* 0: 8192 */
    int chunk_rows; /* 0: 64 */
    void (*progress)(void *ctx, const char *stage, int64_t done, int64_t total, double seconds);
    void *progress_ctx;
    int64_t *made;                     /* may be NULL; gets the images written now, without those kept from before */
    const SyntheticOptions *synthetic; /* for the importer that draws its pictures; others pass it over */
} ImportOptions;

typedef struct Importer {
    const char *name;   /* on the command line, and the dataset's kind */
    const char *source; /* what SRC holds; NULL: it takes none, it draws its pictures */
    const char *help;   /* one line */
    /* Makes the dataset DST of SRC (NULL where it takes none); options NULL: defaults. What can go wrong:
     * STATUS_NO_INPUT and STATUS_DATA name the file of SRC at fault, STATUS_USAGE options that do not fit it; the rest
     * see import_run(). */
    Status (*run)(const char *src, const char *dst, const ImportOptions *options, Error *err);
} Importer;

/* In the order in which help lists them. */
#define IMPORTERS(X)                                                                                                   \
    X(tiny_imagenet)                                                                                                   \
    X(cifar100)                                                                                                        \
    X(synthetic)

#define X(name) extern const Importer importer_##name;
IMPORTERS(X)
#undef X

extern const Importer *const importers[]; /* all of them, and a NULL */

/* The synthetic dataset, as the importer makes it of options->synthetic. Procedural: a salient object (shape and colour
 * texture) decides the class, its true mask and box are kept, on a background texture whose correlation with the class
 * is `correlation` in train and broken in val. */
Status import_synthetic(const char *dst, const SyntheticOptions *synthetic, const ImportOptions *options, Error *err);

#endif
