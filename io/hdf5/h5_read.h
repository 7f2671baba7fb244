/* Reading HDF5 files that may be foreign, damaged or hostile: everything is compared with what the schema expects
 * before memory is allocated or data are read. Only hard links are followed, values must lie in the file itself behind
 * known filters, plugins are switched off and the library's own error printing too.
 *
 * `path` is the file's name for messages; `name` that of an object below `parent`, which may lie in groups
 * ("grad/encoder.conv1.weight"). Every failure is STATUS_DATA unless stated, and leaves the handle that was to be
 * filled negative, with nothing to close. */
#ifndef EXCON_IO_H5_READ_H
#define EXCON_IO_H5_READ_H

#include <stddef.h>

#include "io/hdf5/h5_handle.h"
#include "kernels/base/status.h"

/* Elements of a compressed dataset that a byte of its file may stand for; more is refused before memory is taken. */
enum { H5_PACKED_AT_MOST = 64 };

/* Opens read-only. STATUS_NO_INPUT when absent; STATUS_CANNOT_CREATE when another program has it open for writing. The
 * library's own locks are left alone: it fails where a file system has none. `advice` ends the message about a damaged
 * file ("import the dataset again"). */
Status h5_open_file(const char *path, const char *advice, H5Handle *file, Error *err);

/* Opens a file's bytes [size] in memory, where they lie: they are borrowed until the file is closed, and not changed.
 */
Status h5_open_image(char *image, size_t size, const char *path, H5Handle *file, Error *err);

/* Bytes of an open file. */
int64_t h5_file_bytes(H5Handle file);

/* Is there something of that name? Says nothing about its kind. */
bool h5_has(H5Handle parent, const char *name);

/* A group that hard links lead to; closed by the caller. */
Status h5_open_group(H5Handle parent, const char *path, const char *name, H5Handle *group, Error *err);

/* ---- attributes ---- */

/* True also when it cannot be told, in a damaged file: reading the attribute then fails. */
bool h5_has_attribute(H5Handle object, const char *name);

/* For h5_describe(); negative when it is missing or damaged. */
H5Handle h5_open_attribute(H5Handle object, const char *name);

/* Attribute of exactly `n` numbers that are stored as `number`. n = 1 also accepts a scalar. */
Status h5_read_numbers(H5Handle object, const char *path, const char *name, H5Number number, int64_t n, void *out,
                       Error *err);
Status h5_read_int(H5Handle object, const char *path, const char *name, int64_t low, int64_t high, int64_t *out,
                   Error *err);

/* Fixed-length string attribute of fewer than `size` bytes; 0-terminated in `out`. */
Status h5_read_string(H5Handle object, const char *path, const char *name, char *out, size_t size, Error *err);

/* ---- datasets ---- */

/* Dataset of numbers stored as `number` and exactly the shape dims [rank]. Contiguous, or chunked with fletcher32 as
 * the only filter and every chunk present; chunk [rank] (may be NULL) gets the chunk shape, zeros when contiguous. */
Status h5_open_dataset(H5Handle parent, const char *path, const char *name, H5Number number, int rank,
                       const int64_t *dims, int64_t *chunk, H5Handle *dataset, Error *err);

/* Dataset of any type and shape, as other programs write them: whole or in chunks, also behind the filters gzip,
 * shuffle and fletcher32. What it claims to hold must be checked by h5_describe() before memory is taken; a chunk is
 * held against the file's size here. */
Status h5_open_foreign(H5Handle parent, const char *path, const char *name, H5Handle *dataset, Error *err);

/* Rows [first, first + n) of a dataset of shape [.., tail (rank - 1)] into out [n, tail]. False: cannot be read. */
bool h5_read_rows(H5Handle dataset, H5Number number, int rank, const int64_t *tail, int64_t first, int64_t n,
                  void *out);

/* Whole one-dimensional dataset of n numbers. */
Status h5_read_vector(H5Handle parent, const char *path, const char *name, H5Number number, int64_t n, void *out,
                      Error *err);

/* Strings [n] of one fixed length below `size`, copied into rows of `size` bytes. STATUS_SYSTEM without memory. */
Status h5_read_strings(H5Handle parent, const char *path, const char *name, int64_t n, size_t size, char *out,
                       Error *err);

#endif
