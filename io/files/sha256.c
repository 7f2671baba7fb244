/* SHA-256 by libcrypto's EVP interface. A failed state stays failed and ends as the empty string. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/files/files.h"

enum { SHA256_BYTES = 32, READ_BLOCK = 1 << 18 };

struct Sha256 {
    EVP_MD_CTX *context;
    int failed;
};

Sha256 *sha256_new(void) {
    Sha256 *hash = calloc(1, sizeof *hash);
    if (!hash)
        return NULL;
    hash->context = EVP_MD_CTX_new();
    hash->failed = !hash->context || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1;
    return hash;
}

void sha256_add(Sha256 *hash, const void *data, size_t size) {
    if (hash && !hash->failed && size > 0)
        hash->failed = EVP_DigestUpdate(hash->context, data, size) != 1;
}

void sha256_end(Sha256 *hash, char hex[65]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[SHA256_BYTES];
    hex[0] = 0;
    if (!hash)
        return;
    if (!hash->failed && EVP_DigestFinal_ex(hash->context, digest, NULL) == 1) {
        for (int i = 0; i < SHA256_BYTES; i++) {
            hex[2 * i] = digits[digest[i] >> 4];
            hex[2 * i + 1] = digits[digest[i] & 15];
        }
        hex[2 * SHA256_BYTES] = 0;
    }
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

void sha256_of(const void *data, size_t size, char hex[65]) {
    Sha256 *hash = sha256_new();
    sha256_add(hash, data, size);
    sha256_end(hash, hex);
}

Status sha256_of_file(const char *path, char hex[65], Error *err) {
    hex[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, STATUS_NO_INPUT, "cannot open %s: %s", path, strerror(errno));
    Status status = STATUS_OK;
    Sha256 *hash = sha256_new();
    unsigned char *block = malloc(READ_BLOCK);
    ssize_t n = 0;
    while (block && (n = read(fd, block, READ_BLOCK)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = error_set(err, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
            break;
        }
        sha256_add(hash, block, (size_t)n);
    }
    sha256_end(hash, hex);
    if (status != STATUS_OK)
        hex[0] = 0;
    else if (!block || !hex[0])
        status = error_set(err, STATUS_SYSTEM, "no memory to hash %s", path);
    free(block);
    close(fd);
    return status;
}
