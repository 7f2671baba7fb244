/* "excon-checkpoint-seal 1 sha256 HEX\n" padded with line feeds to SEAL_BYTES. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_file.h"
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

/* The last SEAL_BYTES of a regular file; its size, 0 when it has no seal. */
static int64_t read_seal(const char *path, char seal[SEAL_BYTES]) {
    struct stat info;
    int64_t size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > SEAL_BYTES &&
        pread(fd, seal, SEAL_BYTES, info.st_size - SEAL_BYTES) == SEAL_BYTES &&
        memcmp(seal, opening, strlen(opening)) == 0)
        size = info.st_size;
    close(fd);
    return size;
}

bool seal_equal(const char *path, const char *other) {
    char seals[2][SEAL_BYTES];
    const int64_t size = read_seal(path, seals[0]);
    return size > 0 && read_seal(other, seals[1]) == size && memcmp(seals[0], seals[1], SEAL_BYTES) == 0;
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
