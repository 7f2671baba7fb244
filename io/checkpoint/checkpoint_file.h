/* Parts of the checkpoint code, for this folder only.
 *
 * A checkpoint file is an HDF5 image (superblock version 2, so that the library's own metadata carries checksums)
 * followed by a seal: one text block of SEAL_BYTES with the SHA-256 of everything before it. HDF5 readers ignore what
 * lies behind the end the superblock names. The seal makes a file self-validating when the manifest lags behind a
 * crash, and bytes that fail it never reach the HDF5 library. */
#ifndef EXCON_IO_CHECKPOINT_FILE_H
#define EXCON_IO_CHECKPOINT_FILE_H

#include <limits.h>
#include <stdbool.h>

#include "io/checkpoint/checkpoint.h"
#include "io/hdf5/h5_handle.h"

enum { CHECKPOINT_SCHEMA = 1, CHECKPOINT_MAX_TENSORS = 1 << 16, SEAL_BYTES = 128 };
#define CHECKPOINT_MAX_BYTES ((size_t)1 << 36)
#define CHECKPOINT_CLASS_NAMES "class_names"
enum { CHECKPOINT_NAME_LIMIT = 4096 }; /* bytes of a class name */

/* ---- encode.c, decode.c, meta.c: image <-> struct ---- */

/* Builds image and seal in one malloc'ed block. Equal inputs give equal bytes. */
Status checkpoint_encode(const CheckpointFile *file, char **data, size_t *size, Error *err);

/* Parses `size` bytes of HDF5 image; `path` is for messages. The image is borrowed and must not be freed meanwhile. */
Status checkpoint_decode(char *image, size_t size, const char *path, CheckpointFile *out, Error *err);

/* The attributes of a file's root. STATUS_SYSTEM without memory. */
Status checkpoint_write_meta(H5Handle root, const CheckpointMeta *meta, Error *err);
/* STATUS_DATA when one is missing, of another type or beyond all bounds. */
Status checkpoint_read_meta(H5Handle root, const char *path, CheckpointMeta *meta, Error *err);

/* ---- seal.c ---- */

/* True when both are files of one size that end in equal seals: copies of one checkpoint. */
bool seal_equal(const char *path, const char *other);

/* Writes the seal of data [0, size) to data + size. */
Status seal_write(char *data, size_t size, Error *err);

/* *sealed: a seal ends the file. *image_size: bytes before it (all when unsealed). STATUS_DATA when the seal does not
 * fit. */
Status seal_check(const char *data, size_t size, const char *path, int *sealed, size_t *image_size, Error *err);

/* ---- folder.c ---- */

typedef struct CheckpointList {
    int64_t *steps; /* ascending */
    int count;
    int bad;          /* files set aside as .bad */
    int traces;       /* other signs that checkpoints were here: .superseded, unknown .h5 files, last.h5, best.h5 */
    char **leftovers; /* names of temporaries a killed save left */
    int leftover_count;
} CheckpointList;

/* What DIR holds; an absent folder is an empty list. */
Status checkpoint_list(const char *dir, CheckpointList *out, Error *err);
void checkpoint_list_free(CheckpointList *list);

enum { CHECKPOINT_NAME_BYTES = 40 };
void checkpoint_name(char out[CHECKPOINT_NAME_BYTES], int64_t step); /* step-NNNNNNNN.h5 */
int64_t checkpoint_name_step(const char *name);                      /* -1: not a checkpoint's name */

/* DIR/NAME; STATUS_CANNOT_CREATE when too long. */
Status checkpoint_path(char out[PATH_MAX], const char *dir, const char *name, Error *err);

/* Step of the listed checkpoint that DIR/NAME leads to: as a symbolic link, as the text that some tools make of one, as
 * another name or a copy of its file (then of equal seal). LINK_NOWHERE: it leads to none, or is not there; LINK_OWN:
 * it is a file of its own that equals none of the listed ones. */
enum { LINK_NOWHERE = -1, LINK_OWN = -2 };
int64_t checkpoint_link_step(const char *dir, const char *name, const CheckpointList *list);
/* Makes DIR/LINK lead to the checkpoint of `step`, unless it does. */
Status checkpoint_point(const char *dir, const char *link, int64_t step, Error *err);
bool checkpoint_listed(const CheckpointList *list, int64_t step);

/* Renames DIR/NAME to NAME.SUFFIX, or NAME.SUFFIX.2 and so on when taken. `aside` receives the new name. */
Status checkpoint_set_aside(const char *dir, const char *name, const char *suffix, char aside[PATH_MAX], Error *err);

/* ---- manifest.c ---- */

typedef struct ManifestEntry {
    int64_t step, bytes;
    char sha256[65];
} ManifestEntry;

typedef struct Manifest {
    ManifestEntry *entries;
    int count;
} Manifest;

/* Absent or unreadable text gives an empty manifest: the seals still hold. */
Status manifest_read(const char *dir, Manifest *out, Error *err);
Status manifest_write(const char *dir, const Manifest *manifest, Error *err);
const ManifestEntry *manifest_find(const Manifest *manifest, int64_t step);
void manifest_remove(Manifest *manifest, int64_t step);
Status manifest_put(Manifest *manifest, const ManifestEntry *entry, Error *err);
void manifest_free(Manifest *manifest);

#endif
