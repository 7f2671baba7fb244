/* metrics.jsonl. Records are in step order, so everything from the first record beyond the resumed step on is what a
 * killed run wrote too early: one ftruncate() cuts it off, atomically and while others may be reading the file. A
 * last line without its newline was torn by a kill or a full disk and is cut off always. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files/files.h"
#include "io/records/append.h"
#include "io/records/records.h"

struct Metrics {
    int fd;
    int64_t end; /* bytes of whole records in the file */
    char *path;
};

/* End of the JSON string that opens at `at` (its closing quote), or NULL. */
static const char *string_end(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1])
            at++;
    return *at ? at : NULL;
}

/* Value of the top-level key "step" of one line; 0 when there is none. */
static bool line_step(const char *line, int64_t *step) {
    static const char key[] = "\"step\"";
    int depth = 0;
    for (const char *at = line; *at; at++) {
        if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            depth--;
        } else if (*at == '"') {
            const char *end = string_end(at);
            if (!end)
                return false;
            const char *after = end + 1 + strspn(end + 1, " \t");
            if (depth == 1 && *after == ':' && (size_t)(end + 1 - at) == strlen(key) &&
                memcmp(at, key, strlen(key)) == 0) {
                char *stop;
                *step = strtoll(after + 1, &stop, 10);
                return stop != after + 1;
            }
            at = end;
        }
    }
    return false;
}

/* Bytes to keep: whole lines before the first one of a step beyond `after_step` (-1: all whole lines). */
static Status measure(int fd, const char *path, int64_t after_step, int64_t *keep, Error *err) {
    *keep = 0;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
    if (!file) {
        if (copy >= 0)
            close(copy);
        return error_set(err, STATUS_SYSTEM, "cannot read %s: %s", path, strerror(errno));
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, file)) > 0 && line[n - 1] == '\n') {
        int64_t step;
        if (after_step >= 0 && line_step(line, &step) && step > after_step)
            break;
        *keep += n;
    }
    int failed = ferror(file);
    free(line);
    fclose(file);
    return failed ? error_set(err, STATUS_IO, "cannot read %s", path) : STATUS_OK;
}

int64_t metrics_last_step(const char *path) {
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    int64_t last = 0, step;
    while (file && getline(&line, &capacity, file) > 0)
        if (line_step(line, &step) && step > last)
            last = step;
    free(line);
    if (file)
        fclose(file);
    return last;
}

static Status prepare(int fd, const char *path, int64_t after_step, int64_t *end, Error *err) {
    struct stat info;
    RETURN_IF(measure(fd, path, after_step, end, err));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return error_set(err, STATUS_CANNOT_CREATE, "%s is not a regular file: move it away", path);
    if (*end != (int64_t)info.st_size && (ftruncate(fd, (off_t)*end) != 0 || fsync(fd) != 0))
        return error_set(err, files_errno_status(errno), "cannot cut off later records of %s: %s: %s", path,
                         strerror(errno), files_errno_advice(errno));
    return STATUS_OK;
}

Status metrics_open(Metrics **out, const char *path, int64_t after_step, Error *err) {
    *out = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd < 0)
        return error_set(err, STATUS_CANNOT_CREATE, "cannot open %s: %s: %s", path, strerror(errno),
                         files_errno_advice(errno));
    Status status;
    Metrics *metrics = NULL;
    int64_t end;
    GOTO_IF(prepare(fd, path, after_step, &end, err), fail_file);
    metrics = calloc(1, sizeof *metrics);
    char *name = strdup(path);
    if (!metrics || !name) {
        free(name);
        status = error_set(err, STATUS_SYSTEM, "no memory for the metrics file");
        goto fail_memory;
    }
    *metrics = (Metrics){.fd = fd, .end = end, .path = name};
    *out = metrics;
    return STATUS_OK;
fail_memory:
    free(metrics);
fail_file:
    close(fd);
    return status;
}

Status metrics_write(Metrics *metrics, const Json *object, Error *err) {
    char *line = object->text ? malloc(object->size + 1) : NULL;
    if (!line)
        return error_set(err, STATUS_SYSTEM, "no memory for a record of %s", metrics->path);
    memcpy(line, object->text, object->size);
    line[object->size] = '\n';
    Status status = append_whole(metrics->fd, metrics->path, line, object->size + 1, &metrics->end, err);
    free(line);
    return status;
}

void metrics_close(Metrics *metrics) {
    if (!metrics)
        return;
    close(metrics->fd);
    free(metrics->path);
    free(metrics);
}
