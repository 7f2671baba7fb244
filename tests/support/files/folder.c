#include "tests/support/files/folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

void folder_make(char path[FOLDER_BYTES]) {
    const char *parent = getenv("TMPDIR");
    snprintf(path, FOLDER_BYTES, "%s/excon-test-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        abort();
    }
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

int folder_remove(const char *path) {
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -1;
}

const char *folder_join(char buffer[PATH_BYTES], const char *folder, const char *name) {
    snprintf(buffer, PATH_BYTES, "%s/%s", folder, name);
    return buffer;
}

int folder_setup(void **state) {
    Folder *folder = calloc(1, sizeof *folder);
    if (!folder)
        return -1;
    folder_make(folder->path);
    *state = folder;
    return 0;
}

int folder_teardown(void **state) {
    Folder *folder = *state;
    int failed = folder_remove(folder->path);
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
