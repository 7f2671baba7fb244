/* Pictures for people: RGB bytes -> a JPEG or PNG file in memory, through libjpeg-turbo and zlib. */
#ifndef EXCON_IO_IMAGES_ENCODE_H
#define EXCON_IO_IMAGES_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* rgb [height,width,3]; quality 1..100, colour at full resolution. *out is malloc'ed, the caller frees it.
 * STATUS_SYSTEM when memory runs out. */
Status image_encode_jpeg(const uint8_t *rgb, int height, int width, int quality, uint8_t **out, size_t *size,
                         Error *err);

/* The same with colour at half the resolution in both directions (4:2:0), as encoders do unless told otherwise. */
Status image_encode_jpeg_half_colour(const uint8_t *rgb, int height, int width, int quality, uint8_t **out,
                                     size_t *size, Error *err);

/* The same without loss, as PNG. */
Status image_encode_png(const uint8_t *rgb, int height, int width, uint8_t **out, size_t *size, Error *err);

#endif
