/* The run lock. The kernel's lock decides; the text only tells a person who holds it, and decides alone where the file
 * system has no locks. The file is removed while its lock is still held, so whoever gets a lock must check that the
 * name still leads to the file it locked. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/files/files.h"

enum { HOLDER_TEXT = 512, LOCK_ATTEMPTS = 16 };

typedef struct Holder {
    char host[HOST_NAME_MAX + 1];
    long pid;
    long long since; /* seconds of the epoch when the lock was taken */
    char boot[64];   /* the kernel's boot id, "-" when unknown */
    long long start; /* clock ticks from boot to the start of the process, 0 when unknown */
} Holder;

/* Start of a process in clock ticks since boot: field 22 of /proc/PID/stat, counted after the command's last ')'. */
static long long process_start(long pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : 0;
}

static void boot_id(char *out, size_t size) {
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(out, (int)size, file))
        snprintf(out, size, "-");
    if (file)
        fclose(file);
    out[strcspn(out, " \r\n")] = 0;
}

static Holder holder_self(void) {
    Holder self = {.pid = (long)getpid(), .since = (long long)time(NULL)};
    if (gethostname(self.host, sizeof self.host - 1) != 0 || !self.host[0])
        snprintf(self.host, sizeof self.host, "unknown");
    boot_id(self.boot, sizeof self.boot);
    self.start = process_start(self.pid);
    return self;
}

/* True when the descriptor holds a complete holder line. */
static bool holder_read(int fd, Holder *out) {
    char text[HOLDER_TEXT] = {0};
    memset(out, 0, sizeof *out);
    if (pread(fd, text, sizeof text - 1, 0) <= 0)
        return false;
    _Static_assert(HOST_NAME_MAX >= 64, "the scan below stores up to 64 characters of host name");
    return sscanf(text, "%64s %ld %lld %63s %lld", out->host, &out->pid, &out->since, out->boot, &out->start) == 5 &&
           out->pid > 0;
}

static bool holder_alive(const Holder *holder) {
    Holder self = holder_self();
    if (strcmp(holder->host, self.host) != 0)
        return true;
    if (strcmp(holder->boot, self.boot) != 0 || (kill((pid_t)holder->pid, 0) != 0 && errno == ESRCH))
        return false;
    return holder->start == process_start(holder->pid);
}

static Status locked_by(const char *path, int fd, Error *err) {
    Holder holder;
    if (!holder_read(fd, &holder))
        return error_set(err, STATUS_CANNOT_CREATE,
                         "%s is held by another process: wait for it, or choose another folder", path);
    char since[32] = "unknown time";
    struct tm utc;
    time_t seconds = (time_t)holder.since;
    if (gmtime_r(&seconds, &utc))
        strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", &utc);
    return error_set(err, STATUS_CANNOT_CREATE,
                     "%s is held by process %ld on %s since %s: wait for it, stop it, or choose another folder", path,
                     holder.pid, holder.host, since);
}

/* Takes the kernel's lock. *held_by_text: the file system has none, the text decides. */
static bool take_lock(int fd, int *held_by_text) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *held_by_text = 0;
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return true;
    *held_by_text = errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL;
    return false;
}

static bool still_named(const char *path, int fd) {
    struct stat here, there;
    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static Status write_holder(const char *path, int fd, Error *err) {
    Holder self = holder_self();
    char text[HOLDER_TEXT];
    int n =
        snprintf(text, sizeof text, "%s %ld %lld %s %lld\n", self.host, self.pid, self.since, self.boot, self.start);
    if (ftruncate(fd, 0) != 0)
        return error_set(err, files_errno_status(errno), "cannot write %s: %s", path, strerror(errno));
    return files_write_all(fd, path, text, (size_t)n, err);
}

Status files_lock(const char *path, int *fd, Error *err) {
    *fd = -1;
    for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
        int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        if (file < 0)
            return error_set(err, STATUS_CANNOT_CREATE, "cannot create %s: %s: %s", path, strerror(errno),
                             files_errno_advice(errno));
        int by_text;
        Holder holder;
        if (!take_lock(file, &by_text) && (!by_text || (holder_read(file, &holder) && holder_alive(&holder)))) {
            Status status = locked_by(path, file, err);
            close(file);
            return status;
        }
        if (!still_named(path, file)) {
            close(file);
            continue;
        }
        Status status = write_holder(path, file, err);
        if (status != STATUS_OK) {
            close(file);
            return status;
        }
        *fd = file;
        return STATUS_OK;
    }
    return error_set(err, STATUS_CANNOT_CREATE, "%s keeps being replaced by other runs: choose another folder", path);
}

void files_unlock(const char *path, int fd) {
    if (fd < 0)
        return;
    if (still_named(path, fd))
        unlink(path);
    close(fd);
}
