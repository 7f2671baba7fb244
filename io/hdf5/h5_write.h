/* New HDF5 files. Those that must be whole or absent are built in memory: the library never writes them to disk (a full
 * disk makes it crash at exit), our own code does. Object times are off, so equal contents give equal bytes; the file
 * formats chosen keep checksums of their metadata. */
#ifndef EXCON_IO_H5_WRITE_H
#define EXCON_IO_H5_WRITE_H

#include <stddef.h>

#include "io/hdf5/h5_handle.h"
#include "kernels/base/status.h"

/* The library's version whose file format is written: 1.8 for checkpoints, 1.10 for datasets. */
typedef enum H5Format { H5_FORMAT_1_8, H5_FORMAT_1_10 } H5Format;

typedef struct H5Memory {
    H5Handle file; /* to write into */
    void *image;   /* the closed file's bytes, and the size of their buffer */
    size_t room;
} H5Memory;

/* A new, empty file in memory; `memory` must stay in place until it is finished, published or dropped. STATUS_SYSTEM on
 * failure, with nothing to drop. */
Status h5_memory_begin(H5Memory *memory, H5Format format, Error *err);

/* Closes the file and hands its bytes over: *data is malloc'ed, of *size bytes. Ends `memory` in any case; false
 * without memory. */
bool h5_memory_finish(H5Memory *memory, char **data, size_t *size);

/* Closes the file and writes its bytes to `path` atomically; sha256 [65] may be NULL. Ends `memory` in any case. */
Status h5_memory_publish(H5Memory *memory, const char *path, char sha256[65], Error *err);

/* Throws the file away. */
void h5_memory_drop(H5Memory *memory);

/* A new file on the disk, in place of what was there; negative on failure. */
H5Handle h5_create_file(const char *path);

/* The writers are true when all was stored: in memory, false means that there is none left.
 *
 * Attributes: n numbers, one as a scalar; a string of its own length; one 0-terminated in `size` bytes. */
bool h5_put_numbers(H5Handle object, const char *name, H5Number number, int64_t n, const void *values);
bool h5_put_int(H5Handle object, const char *name, int64_t value);
bool h5_put_string(H5Handle object, const char *name, const char *text);
bool h5_put_field(H5Handle object, const char *name, const char *text, size_t size);

/* A new group to be closed by the caller; negative on failure. */
H5Handle h5_put_group(H5Handle parent, const char *name);

/* Dataset of `rank` dims, chunked over the first dimension by chunk_rows, with fletcher32. */
bool h5_put_dataset(H5Handle parent, const char *name, H5Number number, int rank, const int64_t *dims,
                    int64_t chunk_rows, const void *values);

/* Dataset of `rank` dims (0: a single value) in one block; groups in `name` are made as needed. */
bool h5_put_block(H5Handle parent, const char *name, H5Number number, int rank, const int64_t *dims,
                  const void *values);

/* Strings [n] of `size` bytes each, 0-padded: in a chunk with fletcher32, or in one block. */
bool h5_put_strings(H5Handle parent, const char *name, int64_t n, size_t size, const char *values);
bool h5_put_strings_block(H5Handle parent, const char *name, int64_t n, size_t size, const char *values);

#endif
