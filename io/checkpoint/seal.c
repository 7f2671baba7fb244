/* "excon-checkpoint-seal 1 sha256 HEX\n" padded with line feeds to SEAL_BYTES. */
#include <stdio.h>
#include <string.h>

#include "io/checkpoint/internal.h"
#include "io/files/files.h"

static const char opening[] = "excon-checkpoint-seal 1 sha256 ";

Status seal_write(char *data, size_t size, Error *err) {
    char hex[65];
    sha256_of(data, size, hex);
    if (!hex[0])
        return error_set(err, STATUS_SYSTEM, "no memory to hash a checkpoint");
    memset(data + size, '\n', SEAL_BYTES);
    memcpy(data + size, opening, strlen(opening));
    memcpy(data + size + strlen(opening), hex, strlen(hex));
    return STATUS_OK;
}

Status seal_check(const char *data, size_t size, const char *path, int *sealed, size_t *image_size, Error *err) {
    *image_size = size;
    *sealed = size > SEAL_BYTES && memcmp(data + size - SEAL_BYTES, opening, strlen(opening)) == 0;
    if (!*sealed)
        return STATUS_OK;
    char hex[65];
    *image_size = size - SEAL_BYTES;
    sha256_of(data, *image_size, hex);
    if (!hex[0])
        return error_set(err, STATUS_SYSTEM, "no memory to hash %s", path);
    if (memcmp(data + *image_size + strlen(opening), hex, 64) != 0)
        return error_set(err, STATUS_DATA,
                         "%s does not match its own SHA-256: it was damaged or edited; use another checkpoint", path);
    return STATUS_OK;
}
