#include "tests/support/folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int folder_setup(void **state) {
    Folder *folder = calloc(1, sizeof *folder);
    const char *base = getenv("TMPDIR");
    if (!folder)
        return -1;
    snprintf(folder->path, sizeof folder->path, "%s/excon-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder->path)) {
        perror(folder->path);
        free(folder);
        return -1;
    }
    *state = folder;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

int folder_teardown(void **state) {
    Folder *folder = *state;
    int failed = nftw(folder->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    for (int i = 0; i < folder->name_count; i++)
        free(folder->names[i]);
    free(folder->names);
    free(folder);
    return failed;
}

const char *folder_file(Folder *folder, const char *name) {
    folder->names = realloc(folder->names, (size_t)(folder->name_count + 1) * sizeof *folder->names);
    if (!folder->names || asprintf(&folder->names[folder->name_count], "%s/%s", folder->path, name) < 0)
        abort();
    return folder->names[folder->name_count++];
}

static FILE *open_or_die(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        abort();
    }
    return file;
}

char *slurp(const char *path, size_t *size) {
    FILE *file = open_or_die(path, "re");
    char *data = NULL;
    size_t used = 0, n;
    do {
        data = realloc(data, used + 65537);
        if (!data)
            abort();
        n = fread(data + used, 1, 65536, file);
        used += n;
    } while (n > 0);
    data[used] = 0;
    fclose(file);
    if (size)
        *size = used;
    return data;
}

void spill(const char *path, const void *data, size_t size) {
    FILE *file = open_or_die(path, "we");
    if (fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

void fail_io_path(char *out, size_t size) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *tests = strstr(self, "/tests/"); /* the last one: folders above may be called so too */
    while (tests && strstr(tests + 1, "/tests/"))
        tests = strstr(tests + 1, "/tests/");
    if (tests)
        *tests = 0;
    snprintf(out, size, "%s/tests/faults/fail_io.so", self);
    if (access(out, R_OK) != 0) {
        fprintf(stderr, "%s is missing: build it with make\n", out);
        abort();
    }
}
