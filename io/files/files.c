/* Atomic replacement, folders and whole-file reads. A temporary is PATH.tmp; it is unlinked first, so a leftover of a
 * killed run (or a planted link) is never written through. */
#include "io/files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BLOCK = 1 << 16 };

Status files_errno_status(int code) {
    switch (code) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case ELOOP:
    case ENAMETOOLONG:
        return STATUS_CANNOT_CREATE;
    default:
        return STATUS_IO;
    }
}

const char *files_errno_advice(int code) {
    switch (code) {
    case ENOSPC:
    case EDQUOT:
        return "free some space there, or choose another folder";
    case EACCES:
    case EPERM:
        return "check the owner and permissions of the folder";
    case EROFS:
        return "the file system is read-only; choose another folder";
    case ENOENT:
    case ENOTDIR:
        return "check that the folder exists";
    case ENAMETOOLONG:
        return "choose a shorter path";
    case EIO:
        return "check that disk's health in the system log";
    default:
        return "check the folder and its disk";
    }
}

static Status fail(const char *verb, const char *path, int code, Error *err) {
    return error_set(err, files_errno_status(code), "cannot %s %s: %s: %s", verb, path, strerror(code),
                     files_errno_advice(code));
}

static Status path_join(char out[PATH_MAX], const char *path, const char *suffix, Error *err) {
    int n = snprintf(out, PATH_MAX, "%s%s", path, suffix);
    if (n < 0 || n >= PATH_MAX)
        return fail("name a file beside", path, ENAMETOOLONG, err);
    return STATUS_OK;
}

Status files_make_dirs(const char *path, Error *err) {
    char part[PATH_MAX];
    RETURN_IF(path_join(part, path, "", err));
    for (char *at = part + 1; part[0]; at++) {
        if (*at && *at != '/')
            continue;
        char kept = *at;
        *at = 0;
        struct stat info;
        if (mkdir(part, 0777) != 0) {
            int code = errno;
            if (stat(part, &info) != 0 || !S_ISDIR(info.st_mode))
                return error_set(err, STATUS_CANNOT_CREATE, "cannot create folder %s: %s: %s", part, strerror(code),
                                 files_errno_advice(code));
        }
        if (!kept)
            return STATUS_OK;
        *at = kept;
    }
    return error_set(err, STATUS_CANNOT_CREATE, "cannot create a folder without a name");
}

Status files_write_all(int fd, const char *path, const void *data, size_t size, Error *err) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail("write", path, n < 0 ? errno : EIO, err);
        at += n;
        size -= (size_t)n;
    }
    return STATUS_OK;
}

static Status sync_fd(int fd, const char *path, Error *err) {
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return fail("flush", path, errno, err);
    return STATUS_OK;
}

Status files_sync_parent(const char *path, Error *err) {
    char folder[PATH_MAX];
    RETURN_IF(path_join(folder, path, "", err));
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail("open", folder, errno, err);
    Status status = STATUS_OK;
    while (fsync(fd) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EINVAL) /* a file system that cannot sync folders says EINVAL */
            status = fail("flush", folder, errno, err);
        break;
    }
    close(fd);
    return status;
}

/* Compares what the descriptor's file holds with `data`, past the page cache where the kernel lets go of it. */
static Status read_back(int fd, const char *path, const void *data, size_t size, Error *err) {
    char block[READ_BLOCK];
    const char *want = data;
    size_t done = 0;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (;;) {
        ssize_t n = pread(fd, block, sizeof block, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail("read back", path, errno, err);
        if (n == 0)
            break;
        if ((size_t)n > size - done || memcmp(block, want + done, (size_t)n) != 0)
            return error_set(err, STATUS_IO, "%s reads back other bytes than were written near offset %zu: %s", path,
                             done, files_errno_advice(EIO));
        done += (size_t)n;
    }
    if (done != size)
        return error_set(err, STATUS_IO, "%s reads back %zu of %zu bytes: %s", path, done, size,
                         files_errno_advice(EIO));
    return STATUS_OK;
}

static Status write_temporary(const char *temporary, const void *data, size_t size, bool verify, Error *err) {
    if (unlink(temporary) != 0 && errno != ENOENT)
        return fail("replace", temporary, errno, err);
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail("create", temporary, errno, err);
    Status status;
    GOTO_IF(files_write_all(fd, temporary, data, size, err), done);
    GOTO_IF(sync_fd(fd, temporary, err), done);
    if (verify)
        status = read_back(fd, temporary, data, size, err);
done:
    if (close(fd) != 0 && status == STATUS_OK)
        status = fail("close", temporary, errno, err);
    return status;
}

Status files_write_atomic(const char *path, const void *data, size_t size, bool verify, Error *err) {
    char temporary[PATH_MAX];
    RETURN_IF(path_join(temporary, path, ".tmp", err));
    Status status = write_temporary(temporary, data, size, verify, err);
    if (status == STATUS_OK && rename(temporary, path) != 0)
        status = fail("replace", path, errno, err);
    if (status != STATUS_OK) {
        unlink(temporary);
        return status;
    }
    return files_sync_parent(path, err);
}

/* What vfat, exFAT and many FUSE, SMB and 9p mounts answer to symlink() and link(). */
static bool lacks_links(int code) {
    return code == EPERM || code == ENOSYS || code == EOPNOTSUPP || code == EINVAL || code == EACCES || code == EMLINK;
}

Status files_name_atomic(const char *file, const char *name, Error *err) {
    char temporary[PATH_MAX], *data;
    size_t size;
    RETURN_IF(path_join(temporary, name, ".tmp", err));
    if (unlink(temporary) != 0 && errno != ENOENT)
        return fail("replace", temporary, errno, err);
    if (linkat(AT_FDCWD, file, AT_FDCWD, temporary, AT_SYMLINK_FOLLOW) == 0) {
        Status status = rename(temporary, name) == 0 ? STATUS_OK : fail("replace", name, errno, err);
        unlink(temporary); /* rename() leaves it where both were names of one file already */
        return status == STATUS_OK ? files_sync_parent(name, err) : status;
    }
    RETURN_IF(files_read(file, SIZE_MAX, &data, &size, err));
    Status status = files_write_atomic(name, data, size, true, err);
    free(data);
    return status;
}

Status files_link_atomic(const char *target, const char *link, Error *err) {
    char temporary[PATH_MAX], file[PATH_MAX];
    RETURN_IF(path_join(temporary, link, ".tmp", err));
    if (unlink(temporary) != 0 && errno != ENOENT)
        return fail("replace", temporary, errno, err);
    if (symlink(target, temporary) != 0) {
        const int code = errno;
        const char *slash = target[0] == '/' ? NULL : strrchr(link, '/');
        int n = snprintf(file, sizeof file, "%.*s%s", slash ? (int)(slash + 1 - link) : 0, link, target);
        if (!lacks_links(code) || n < 0 || n >= (int)sizeof file || !files_exists(file))
            return fail("create", temporary, code, err);
        return files_name_atomic(file, link, err);
    }
    if (rename(temporary, link) != 0) {
        Status status = fail("replace", link, errno, err);
        unlink(temporary);
        return status;
    }
    return files_sync_parent(link, err);
}

static Status read_open(int fd, const char *path, size_t limit, char **data, size_t *size, Error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return error_set(err, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(err, STATUS_DATA, "%s is not a regular file", path);
    if (limit > SIZE_MAX / 4)
        limit = SIZE_MAX / 4;
    if ((uint64_t)info.st_size > limit)
        return error_set(err, STATUS_DATA, "%s has %lld bytes, more than the %zu allowed", path,
                         (long long)info.st_size, limit);
    size_t capacity = (size_t)info.st_size + 1, used = 0;
    char *text = malloc(capacity + 1);
    while (text) {
        ssize_t n = read(fd, text + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(text);
            return error_set(err, STATUS_IO, "cannot read %s: %s", path, strerror(errno));
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > limit) {
            free(text);
            return error_set(err, STATUS_DATA, "%s has more than the %zu bytes allowed", path, limit);
        }
        if (used == capacity) {
            capacity = capacity > limit / 2 ? limit + 1 : 2 * capacity;
            char *larger = realloc(text, capacity + 1);
            if (!larger)
                free(text);
            text = larger;
        }
    }
    if (!text)
        return error_set(err, STATUS_SYSTEM, "no memory to read %s", path);
    text[used] = 0;
    *data = text;
    *size = used;
    return STATUS_OK;
}

Status files_read(const char *path, size_t limit, char **data, size_t *size, Error *err) {
    *data = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, STATUS_NO_INPUT, "cannot open %s: %s", path, strerror(errno));
    Status status = read_open(fd, path, limit, data, size, err);
    close(fd);
    return status;
}

bool files_expand_home(const char *path, char *out, size_t size) {
    const char *home = "";
    if (path[0] == '~') {
        home = getenv("HOME");
        path++;
        if (!home || !home[0] || (path[0] && path[0] != '/'))
            return false;
    }
    const int n = snprintf(out, size, "%s%s", home, path);
    return n >= 0 && (size_t)n < size;
}

bool files_exists(const char *path) {
    return access(path, F_OK) == 0;
}

Status files_check_free(const char *path, Error *err) {
    const char *wanted = getenv("HDF5_USE_FILE_LOCKING");
    if (wanted && (strcasecmp(wanted, "FALSE") == 0 || strcmp(wanted, "0") == 0))
        return STATUS_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return STATUS_OK;
    const int held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    if (held)
        return error_set(
            err, STATUS_CANNOT_CREATE,
            "%s is in use: another program has it open for writing; close it there (a notebook, h5py), and "
            "try again",
            path);
    return STATUS_OK;
}
