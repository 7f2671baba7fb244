#include "io/records/append.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/files/files.h"

Status append_whole(int fd, const char *path, const void *data, size_t size, int64_t *end, Error *err) {
    ssize_t n;
    do
        n = write(fd, data, size);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)size) {
        *end += (int64_t)size;
        return STATUS_OK;
    }
    int code = n < 0 ? errno : ENOSPC;
    if (n > 0 && ftruncate(fd, (off_t)*end) != 0)
        *end += (int64_t)n;
    return error_set(err, files_errno_status(code), "cannot append to %s: %s: %s", path, strerror(code),
                     files_errno_advice(code));
}
