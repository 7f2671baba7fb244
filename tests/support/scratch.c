/* Scratch folders. See scratch.h. */
#include "tests/support/scratch.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void scratch_new(char path[SCRATCH_BYTES]) {
    const char *parent = getenv("TMPDIR");
    snprintf(path, SCRATCH_BYTES, "%s/excon-test-XXXXXX", parent && *parent ? parent : "/tmp");
    assert_non_null(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

void scratch_remove(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_file(char buffer[SCRATCH_BYTES + 256], const char *dir, const char *name) {
    snprintf(buffer, SCRATCH_BYTES + 256, "%s/%s", dir, name);
    return buffer;
}

void file_write(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

int64_t file_size(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

void file_flip(const char *path, int64_t offset) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_not_equal(byte, EOF);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 4, file);
    assert_int_equal(fclose(file), 0);
}

void file_truncate(const char *path, int64_t size) {
    assert_int_equal(truncate(path, size), 0);
}
