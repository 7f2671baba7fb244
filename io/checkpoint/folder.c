/* Names in a checkpoint folder: step-NNNNNNNN.h5 (at least eight digits), their temporaries, and what was set aside. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/files/files.h"

enum { MIN_DIGITS = 8, MAX_DIGITS = 15, ASIDE_ATTEMPTS = 1000 };

void checkpoint_name(char out[CHECKPOINT_NAME_BYTES], int64_t step) {
    snprintf(out, CHECKPOINT_NAME_BYTES, "step-%08lld.h5", (long long)step);
}

/* Digits behind "step-" and what follows them; -1 when the name does not start so. */
static int64_t parse_name(const char *name, const char **rest) {
    if (strncmp(name, "step-", 5) != 0)
        return -1;
    size_t digits = strspn(name + 5, "0123456789");
    if (digits < MIN_DIGITS || digits > MAX_DIGITS || (digits > MIN_DIGITS && name[5] == '0'))
        return -1;
    *rest = name + 5 + digits;
    return strtoll(name + 5, NULL, 10);
}

int64_t checkpoint_name_step(const char *name) {
    const char *rest;
    int64_t step = parse_name(name, &rest);
    return step >= 0 && strcmp(rest, ".h5") == 0 ? step : -1;
}

Status checkpoint_path(char out[PATH_MAX], const char *dir, const char *name, Error *err) {
    int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX)
        return error_set(err, STATUS_CANNOT_CREATE, "path too long: %.200s/%s: choose a shorter run.dir", dir, name);
    return STATUS_OK;
}

static int by_value(const void *a, const void *b) {
    const int64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* Makes room for one more element of a growing array; capacities are powers of two. */
static bool make_room(void **array, int count, size_t element) {
    if (count & (count - 1))
        return true;
    void *larger = realloc(*array, (size_t)(count ? 2 * count : 1) * element);
    if (larger)
        *array = larger;
    return larger != NULL;
}

static bool add_name(CheckpointList *list, const char *name) {
    const char *rest;
    int64_t step = parse_name(name, &rest);
    if (step < 0) {
        const size_t n = strlen(name);
        list->traces += n > 3 && strcmp(name + n - 3, ".h5") == 0;
        return true;
    }
    if (strcmp(rest, ".h5") == 0) {
        if (!make_room((void **)&list->steps, list->count, sizeof *list->steps))
            return false;
        list->steps[list->count++] = step;
    } else if (strncmp(rest, ".h5.bad", 7) == 0) {
        list->bad++;
    } else if (strncmp(rest, ".h5.superseded", 14) == 0) {
        list->traces++;
    } else if (strcmp(rest, ".h5.tmp") == 0) {
        if (!make_room((void **)&list->leftovers, list->leftover_count, sizeof *list->leftovers))
            return false;
        char *copy = strdup(name);
        if (!copy)
            return false;
        list->leftovers[list->leftover_count++] = copy;
    }
    return true;
}

Status checkpoint_list(const char *dir, CheckpointList *out, Error *err) {
    *out = (CheckpointList){0};
    DIR *folder = opendir(dir);
    if (!folder)
        return errno == ENOENT ? STATUS_OK
                               : error_set(err, STATUS_IO, "cannot list %s: %s: %s", dir, strerror(errno),
                                           files_errno_advice(errno));
    Status status = STATUS_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                status = error_set(err, STATUS_IO, "cannot list %s: %s", dir, strerror(errno));
            break;
        }
        if (!add_name(out, entry->d_name)) {
            status = error_set(err, STATUS_SYSTEM, "no memory to list %s", dir);
            break;
        }
    }
    closedir(folder);
    if (status != STATUS_OK)
        checkpoint_list_free(out);
    else if (out->count)
        qsort(out->steps, (size_t)out->count, sizeof *out->steps, by_value);
    return status;
}

void checkpoint_list_free(CheckpointList *list) {
    for (int i = 0; i < list->leftover_count; i++)
        free(list->leftovers[i]);
    free(list->leftovers);
    free(list->steps);
    *list = (CheckpointList){0};
}

bool checkpoint_listed(const CheckpointList *list, int64_t step) {
    for (int i = 0; i < list->count; i++)
        if (list->steps[i] == step)
            return true;
    return false;
}

/* The name in a symbolic link, or in the small file that zip, Windows and some network mounts make of one; false when
 * PATH is neither. */
static bool link_text(const char *path, char text[PATH_MAX]) {
    ssize_t n = readlink(path, text, PATH_MAX - 1);
    if (n < 0) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        n = fd < 0 ? -1 : read(fd, text, CHECKPOINT_NAME_BYTES);
        if (fd >= 0)
            close(fd);
        if (n >= CHECKPOINT_NAME_BYTES)
            return false;
    }
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\r\n")] = 0;
    return checkpoint_name_step(text) >= 0;
}

/* A regular file that should be a symbolic link. */
static bool is_text(const char *path) {
    char text[PATH_MAX];
    struct stat info;
    return lstat(path, &info) == 0 && S_ISREG(info.st_mode) && link_text(path, text);
}

int64_t checkpoint_link_step(const char *dir, const char *name, const CheckpointList *list) {
    char path[PATH_MAX], text[PATH_MAX], other[CHECKPOINT_NAME_BYTES];
    struct stat info;
    if (checkpoint_path(path, dir, name, NULL) != STATUS_OK || lstat(path, &info) != 0)
        return LINK_NOWHERE;
    if (link_text(path, text)) {
        const int64_t step = checkpoint_name_step(text);
        return checkpoint_listed(list, step) ? step : LINK_NOWHERE;
    }
    if (stat(path, &info) != 0)
        return LINK_NOWHERE;
    for (int i = list->count; i-- > 0;) {
        checkpoint_name(other, list->steps[i]);
        if (checkpoint_path(text, dir, other, NULL) == STATUS_OK && seal_equal(path, text))
            return list->steps[i];
    }
    return LINK_OWN;
}

Status checkpoint_point(const char *dir, const char *link, int64_t step, Error *err) {
    char name[CHECKPOINT_NAME_BYTES], path[PATH_MAX];
    CheckpointList only = {.steps = &step, .count = 1};
    RETURN_IF(checkpoint_path(path, dir, link, err));
    if (checkpoint_link_step(dir, link, &only) == step && !is_text(path))
        return STATUS_OK;
    checkpoint_name(name, step);
    return files_link_atomic(name, path, err);
}

bool checkpoint_locate(const char *dir, const char *name, char *out) {
    CheckpointList list;
    char file[CHECKPOINT_NAME_BYTES];
    if (checkpoint_list(dir, &list, NULL) != STATUS_OK)
        return false;
    const int64_t newest = list.count > 0 ? list.steps[list.count - 1] : LINK_NOWHERE;
    const int64_t step = name ? checkpoint_link_step(dir, name, &list) : newest;
    checkpoint_list_free(&list);
    if (step == LINK_NOWHERE)
        return false;
    if (name && checkpoint_path(out, dir, name, NULL) == STATUS_OK && !is_text(out))
        return true;
    checkpoint_name(file, step);
    return checkpoint_path(out, dir, file, NULL) == STATUS_OK;
}

Status checkpoint_set_aside(const char *dir, const char *name, const char *suffix, char aside[PATH_MAX], Error *err) {
    char path[PATH_MAX], number[16] = "";
    RETURN_IF(checkpoint_path(path, dir, name, err));
    for (int attempt = 2; attempt < ASIDE_ATTEMPTS; attempt++) {
        int n = snprintf(aside, PATH_MAX, "%s.%s%s", path, suffix, number);
        if (n < 0 || n >= PATH_MAX)
            return error_set(err, STATUS_CANNOT_CREATE, "path too long: %.200s.%s", path, suffix);
        if (!files_exists(aside)) {
            if (rename(path, aside) != 0)
                return error_set(err, files_errno_status(errno), "cannot rename %.400s to .%s: %s", path, suffix,
                                 strerror(errno));
            return files_sync_parent(path, err);
        }
        snprintf(number, sizeof number, ".%d", attempt);
    }
    return error_set(err, STATUS_CANNOT_CREATE, "too many files %s.%s: remove some", path, suffix);
}
