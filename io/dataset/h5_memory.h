/* HDF5 files built in memory: the library never writes to disk (a full disk makes it crash at exit), our own code does.
 * Object times are off, so equal contents give equal bytes; the newest file format is used because its metadata carry
 * checksums. */
#ifndef EXCON_IO_H5_MEMORY_H
#define EXCON_IO_H5_MEMORY_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

typedef struct H5Memory {
    hid_t file;  /* to write into */
    void *image; /* the closed file's bytes, and the size of their buffer */
    size_t room;
} H5Memory;

/* A new, empty file in memory; `memory` must stay in place until it is published or dropped. STATUS_SYSTEM on failure.
 */
Status h5_memory_begin(H5Memory *memory, Error *err);

/* Closes the file and writes its bytes to `path` atomically; sha256 [65] may be NULL. Frees `memory` in any case. */
Status h5_memory_publish(H5Memory *memory, const char *path, char sha256[65], Error *err);

/* Throws the file away. */
void h5_memory_drop(H5Memory *memory);

/* Writers return 0, or -1 on failure (memory). Attributes: numbers of file type `type`, and fixed-length strings. */
int h5_put_numbers(hid_t object, const char *name, hid_t type, hid_t memory_type, int64_t n, const void *values);
int h5_put_int(hid_t object, const char *name, int64_t value);
int h5_put_string(hid_t object, const char *name, const char *text);

/* Dataset of `rank` dims, chunked over the first dimension by chunk_rows, with fletcher32. */
int h5_put_dataset(hid_t parent, const char *name, hid_t type, hid_t memory_type, int rank, const int64_t *dims,
                   int64_t chunk_rows, const void *values);

/* A new group to be closed by the caller; negative on failure. */
hid_t h5_put_group(hid_t parent, const char *name);

/* Strings [n] of `size` bytes each, 0-padded. */
int h5_put_strings(hid_t parent, const char *name, int64_t n, size_t size, const char *values);

#endif
