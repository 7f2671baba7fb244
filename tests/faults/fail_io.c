/* LD_PRELOAD shim: makes the k-th file call of a program fail, fall short, or kill the program there.
 *
 *   FAIL_IO_PATH   count only calls whose path contains this text (required; without it nothing is touched)
 *   FAIL_IO_CALLS  comma-separated names: create write fsync rename unlink symlink link truncate; default all
 *   FAIL_IO_AT     which counted call is hit, from 1
 *   FAIL_IO_ERRNO  errno it fails with; 0: the process is killed by SIGKILL before the call is made
 *   FAIL_IO_STICKY 1: every counted call from that one on fails
 *   FAIL_IO_SHORT  1: every counted write() stores at most 1000 bytes
 *   FAIL_IO_CORRUPT 1: every counted write() of up to 64 KiB stores its first byte inverted
 *
 * `create` is open() with O_CREAT. Calls on descriptors are counted by the path the descriptor was opened at. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { SHORT_WRITE = 1000, CORRUPT_LIMIT = 1 << 16 };

static atomic_int calls;

static int setting(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int chosen(const char *call, const char *path) {
    const char *part = getenv("FAIL_IO_PATH"), *names = getenv("FAIL_IO_CALLS");
    if (!part || !path || !strstr(path, part))
        return 0;
    if (!names || !*names)
        return 1;
    size_t n = strlen(call);
    for (const char *at = names; (at = strstr(at, call)); at += n)
        if ((at == names || at[-1] == ',') && (at[n] == 0 || at[n] == ','))
            return 1;
    return 0;
}

/* 1 when this call is to fail (errno is set). */
static int hit(const char *call, const char *path) {
    if (!chosen(call, path))
        return 0;
    int now = atomic_fetch_add(&calls, 1) + 1, at = setting("FAIL_IO_AT");
    if (at <= 0 || now < at || (now > at && !setting("FAIL_IO_STICKY")))
        return 0;
    int code = setting("FAIL_IO_ERRNO");
    if (code == 0)
        kill(getpid(), SIGKILL);
    errno = code;
    return 1;
}

static const char *path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (hit("write", path))
        return -1;
    if (size > SHORT_WRITE && setting("FAIL_IO_SHORT") && chosen("write", path))
        size = SHORT_WRITE;
    if (size > 0 && size <= CORRUPT_LIMIT && setting("FAIL_IO_CORRUPT") && chosen("write", path)) {
        unsigned char other[CORRUPT_LIMIT];
        memcpy(other, data, size);
        other[0] ^= 0xFF;
        return REAL(write)(fd, other, size);
    }
    return REAL(write)(fd, data, size);
}

int fsync(int fd) {
    char path[PATH_MAX];
    return hit("fsync", path_of(fd, path)) ? -1 : REAL(fsync)(fd);
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    return hit("truncate", path_of(fd, path)) ? -1 : REAL(ftruncate)(fd, size);
}

int rename(const char *from, const char *to) {
    return hit("rename", to) ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path) {
    return hit("unlink", path) ? -1 : REAL(unlink)(path);
}

int symlink(const char *target, const char *link) {
    return hit("symlink", link) ? -1 : REAL(symlink)(target, link);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    return hit("link", to) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if ((flags & O_CREAT) && hit("create", path))
        return -1;
    return REAL(open)(path, flags, mode);
}
