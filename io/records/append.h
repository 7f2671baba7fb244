/* Appending whole records to a file: a record is either all there or not at all, even when the disk fills up in the
 * middle of one. Used by the metrics and event files. */
#ifndef EXCON_IO_RECORDS_APPEND_H
#define EXCON_IO_RECORDS_APPEND_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* Appends `size` bytes at `*end` of an O_APPEND descriptor with one write(); after a short or failed write the file is
 * cut back to `*end`, so that the next record starts clean. `*end` advances on success. */
Status append_whole(int fd, const char *path, const void *data, size_t size, int64_t *end, Error *err);

#endif
