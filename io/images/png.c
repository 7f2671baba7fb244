/* PNG (ISO/IEC 15948): a signature and chunks, each its length, name, data and CRC; numbers are big-endian. */
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "io/images/encode.h"

static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
/* Behind the sides: bits a channel, RGB, deflate, its filters, not interlaced. */
static const uint8_t description[5] = {8, 2, 0, 0, 0};
enum { CHUNK_BYTES = 12, HEADER_BYTES = 8 + sizeof description, FILTER_UP = 2 };

static uint8_t *put_number(uint8_t *at, size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(value >> shift);
    return at;
}

/* Completes the chunk whose `size` bytes of data stand at `at` + 8; the place behind it. */
static uint8_t *put_chunk(uint8_t *at, const char *name, size_t size) {
    put_number(at, size);
    memcpy(at + 4, name, 4);
    return put_number(at + 8 + size, crc32(0, at + 4, (uInt)(size + 4)));
}

/* What the compressor gets: each row as its differences from the one above, behind a byte that says so. */
static void filter_rows(const uint8_t *rgb, size_t height, size_t row, uint8_t *out) {
    for (size_t y = 0; y < height; y++, rgb += row) {
        *out++ = FILTER_UP;
        for (size_t x = 0; x < row; x++)
            *out++ = (uint8_t)(rgb[x] - (y ? rgb[x - row] : 0));
    }
}

Status image_encode_png(const uint8_t *rgb, int height, int width, uint8_t **out, size_t *size, Error *err) {
    const size_t row = (size_t)width * 3, raw = (size_t)height * (row + 1);
    uLongf packed = compressBound((uLong)raw);
    uint8_t *filtered = malloc(raw), *file = malloc(sizeof signature + 3 * CHUNK_BYTES + HEADER_BYTES + packed), *at;
    *out = NULL;
    *size = 0;
    if (!filtered || !file)
        goto fail;
    filter_rows(rgb, (size_t)height, row, filtered);
    memcpy(file, signature, sizeof signature);
    at = file + sizeof signature;
    put_number(at + 8, (size_t)width);
    put_number(at + 12, (size_t)height);
    memcpy(at + 16, description, sizeof description);
    at = put_chunk(at, "IHDR", HEADER_BYTES);
    if (compress2(at + 8, &packed, filtered, (uLong)raw, Z_BEST_COMPRESSION) != Z_OK)
        goto fail;
    at = put_chunk(at, "IDAT", packed);
    at = put_chunk(at, "IEND", 0);
    free(filtered);
    *out = file;
    *size = (size_t)(at - file);
    return STATUS_OK;
fail:
    free(filtered);
    free(file);
    return error_set(err, STATUS_SYSTEM, "no memory for a picture of %dx%d", height, width);
}
