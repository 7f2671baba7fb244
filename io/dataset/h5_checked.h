/* Reading HDF5 files that may be foreign, damaged or hostile: everything is compared with what the schema expects
 * before memory is allocated or data are read. Only hard links are followed, no filter but fletcher32 is accepted,
 * external and virtual storage are refused, plugins are switched off and the library's own error printing too.
 *
 * `path` is the file's name for messages. Every failure is STATUS_DATA unless stated. */
#ifndef EXCON_IO_H5_CHECKED_H
#define EXCON_IO_H5_CHECKED_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* Opens read-only. STATUS_NO_INPUT when absent; STATUS_CANNOT_CREATE when another program has it open for writing. The
 * library's own locks are left alone: it fails where a file system has none. `advice` ends the message about a damaged
 * file ("import the dataset again"). */
Status h5_open_file(const char *path, const char *advice, hid_t *file, Error *err);

Status h5_open_group(hid_t parent, const char *path, const char *name, hid_t *group, Error *err);

/* Attribute of exactly `n` numbers of file type `type` (e.g. H5T_STD_I32LE); `memory_type` is what `out` holds.
 * n = 1 also accepts a scalar. */
Status h5_read_numbers(hid_t object, const char *path, const char *name, hid_t type, hid_t memory_type, int64_t n,
                       void *out, Error *err);
Status h5_read_int(hid_t object, const char *path, const char *name, int64_t low, int64_t high, int64_t *out,
                   Error *err);

/* Fixed-length string attribute of fewer than `size` bytes; 0-terminated in `out`. */
Status h5_read_string(hid_t object, const char *path, const char *name, char *out, size_t size, Error *err);

int h5_has(hid_t parent, const char *name);

/* Dataset of file type `type` and exactly the shape dims [rank]. Contiguous, or chunked with fletcher32 as the only
 * filter and every chunk present; chunk [rank] (may be NULL) gets the chunk shape, zeros when contiguous. */
Status h5_open_dataset(hid_t parent, const char *path, const char *name, hid_t type, int rank, const int64_t *dims,
                       int64_t *chunk, hid_t *dataset, Error *err);

/* Strings [n] of one fixed length below `size`, copied into rows of `size` bytes. */
Status h5_read_strings(hid_t parent, const char *path, const char *name, int64_t n, size_t size, char *out, Error *err);

/* Whole one-dimensional dataset of n numbers. */
Status h5_read_vector(hid_t parent, const char *path, const char *name, hid_t type, hid_t memory_type, int64_t n,
                      void *out, Error *err);

#endif
