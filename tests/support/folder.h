/* A temporary folder per test (cmocka setup and teardown; `*state` is a Folder) and whole-file helpers for tests. */
#ifndef EXCON_TESTS_FOLDER_H
#define EXCON_TESTS_FOLDER_H

#include <limits.h>
#include <stddef.h>

typedef struct Folder {
    char path[PATH_MAX / 2];
    char **names; /* what folder_file() gave out */
    int name_count;
} Folder;

int folder_setup(void **state);
int folder_teardown(void **state); /* removes everything below */

/* PATH/NAME; the result belongs to the folder. */
const char *folder_file(Folder *folder, const char *name);

/* Plain libc reads and writes, apart from the code under test; abort on failure. Caller frees the result. */
char *slurp(const char *path, size_t *size);
void spill(const char *path, const void *data, size_t size);

/* PATH of build/tests/faults/fail_io.so beside the running test program; fails the test when it was not built. */
void fail_io_path(char *out, size_t size);

#endif
