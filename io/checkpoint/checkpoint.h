/* Checkpoints: HDF5 files built in memory, written, fsynced, verified, renamed, the folder fsynced; SHA-256 kept in
 * DIR/manifest.json (atomically replaced). This room knows named tensors, not models.
 *
 * File step-NNNNNNNN.h5: float32 datasets at the names given (e.g. /model/encoder.conv1.weight,
 * /momentum/encoder.conv1.weight), attributes from CheckpointMeta on the root group, /class_names when known.
 * `last.h5` and `best.h5` lead to one of them: symbolic links; hard links or copies where the file system has none, or
 * where a copying tool made files of them. All calls are for one process (rank 0) at a time. */
#ifndef EXCON_IO_CHECKPOINT_H
#define EXCON_IO_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

typedef struct CheckpointTensor {
    char name[192]; /* "model/encoder.conv1.weight" */
    int rank;
    int64_t shape[4];
    float *data; /* borrowed when saving, owned by the CheckpointFile when loaded */
} CheckpointTensor;

/* What the steps of the current epoch add up to so far, for its record. Counts are whole numbers. */
typedef struct CheckpointTally {
    double steps, skipped;                    /* all; of those, not finite */
    double accepted, masked, background;      /* images */
    double loss, loss_steps;                  /* sum of the encoder's losses, and of how many steps */
    double classifier_loss, classifier_steps; /* the classifier's */
} CheckpointTally;

typedef struct CheckpointMeta {
    int64_t step;   /* optimiser steps done */
    int64_t epoch;  /* epoch the cursor lies in, from 1 */
    int64_t cursor; /* global batches of that epoch already trained */
    int64_t phase;  /* 0: encoder pass, 1: classifier pass of an alternating schedule */
    int64_t world_size;
    int64_t finished; /* 1 when the run's last epoch is complete */
    double best;      /* best validation top-1 so far, -1 when none */
    int64_t best_step;
    char config_hash[65];
    char method[16], encoder[16];
    int64_t width, classes, image_size, projection; /* enough to rebuild the model */
    float mean[3], std[3];
    CheckpointTally tally; /* zeros in checkpoints of older programs */
    /* "" in checkpoints of older programs */
    char data_hash[65];  /* of the dataset: dataset_identity() */
    char settings[6144]; /* keys of the run, one "name=value" a line: config_settings() */
} CheckpointMeta;

typedef struct CheckpointFile {
    CheckpointMeta meta;
    CheckpointTensor *tensors;
    int count;
    char **class_names; /* [meta.classes]; NULL: not known. Borrowed when saving, owned when loaded */
} CheckpointFile;

/* Publishes a checkpoint, then prunes to the newest `keep` (at least this one) plus best plus `resumed_from` (step, -1:
 * none). `is_best` moves best.h5. Equal inputs give byte-equal files. Checkpoints of later steps belong to a future
 * that was given up: they are renamed NAME.superseded first. A best.h5 that is the only name of its checkpoint is never
 * removed: when another becomes the best, it is renamed best.h5.superseded. STATUS_IO / STATUS_CANNOT_CREATE with the
 * path and errno's text; older checkpoints are never harmed. */
Status checkpoint_save(const char *dir, const CheckpointFile *file, int keep, int is_best, int64_t resumed_from,
                       Error *err);

/* Reads and checks one file: SHA-256 against the manifest when that lists it, the file's own seal (a SHA-256 behind the
 * HDF5 image) when it has one, then schema, ranks, sizes before allocating; no links, no filters, no plugins. A file
 * without seal that no manifest lists is accepted on its structure alone. Tensors come in name order. STATUS_DATA when
 * anything is off, STATUS_NO_INPUT when absent. */
Status checkpoint_load(const char *path, CheckpointFile *out, Error *err);
void checkpoint_free(CheckpointFile *file);

/* Who loads: `note` (NULL: none) hears of each checkpoint that is set aside; `accept` (NULL: any will do) may refuse
 * the one that was found: its status is returned then, and the folder is as it was. */
typedef struct CheckpointReader {
    void (*note)(void *ctx, const char *text);
    Status (*accept)(void *ctx, const CheckpointFile *file, Error *err);
    void *ctx;
    int look_only; /* nothing in the folder is renamed or mended */
} CheckpointReader;

/* Loads the newest valid checkpoint of DIR; only sealed or listed ones count, and a last.h5 or best.h5 that is the only
 * name of its checkpoint counts like the others and gets its step's name. Invalid ones are renamed to NAME.bad and
 * named through `note` (one call each); unreadable ones (EIO) are named and left. *found 0 when DIR holds no trace of a
 * checkpoint; STATUS_DATA when it held some (.bad and .superseded ones, other .h5 files, names in the manifest and
 * links that lead nowhere included), but none is valid. */
Status checkpoint_load_newest(const char *dir, CheckpointFile *out, int *found, const CheckpointReader *reader,
                              Error *err);

/* The file that last.h5 or best.h5 of DIR leads to, also when a copying tool made a text of the link; without NAME
 * (NULL) that of the latest step. True and its path in `out` [PATH_MAX]; false when there is none. Nothing is read
 * beyond names. */
bool checkpoint_locate(const char *dir, const char *name, char *out);

/* One SHA-256 (hex) over parameters, momentum, BN statistics and cursor, in name order, independent of HDF5's layout.
 */
Status checkpoint_digest(const CheckpointFile *file, char hex[65], Error *err);

/* Epoch that the last step belongs to, from 1: what records, tables and people call the epoch of a checkpoint; 0 before
 * the first step. (`epoch` of the attributes is where training goes on: after an epoch's last batch, the next one.) */
int64_t checkpoint_epoch(const CheckpointMeta *meta);

/* Tensor by name or NULL. */
const CheckpointTensor *checkpoint_find(const CheckpointFile *file, const char *name);

#endif
