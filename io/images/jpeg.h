/* JPEG in memory -> RGB bytes, through libjpeg-turbo. Reentrant. Grey pictures become RGB; anything the library even
 * warns about (a premature end, corrupt entropy data) counts as damaged. `path` is for messages. */
#ifndef EXCON_IO_JPEG_H
#define EXCON_IO_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* Sides from the header. STATUS_DATA when it is no JPEG. */
Status jpeg_size(const char *path, const void *data, size_t size, int *height, int *width, Error *err);

/* Decodes into rgb [height,width,3]; STATUS_DATA when damaged or of another size. */
Status jpeg_decode(const char *path, const void *data, size_t size, int height, int width, uint8_t *rgb, Error *err);

#endif
