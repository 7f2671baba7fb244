#include "tests/support/files/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int holds, const char *path) {
    if (!holds) {
        perror(path);
        abort();
    }
}

static FILE *open_file(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    must(file != NULL, path);
    return file;
}

char *file_read(const char *path, size_t *size) {
    FILE *file = open_file(path, "re");
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

void file_write(const char *path, const void *data, size_t size) {
    FILE *file = open_file(path, "we");
    must(fwrite(data, 1, size, file) == size, path);
    must(fclose(file) == 0, path);
}

int64_t file_size(const char *path) {
    struct stat info;
    must(stat(path, &info) == 0, path);
    return info.st_size;
}

void file_flip(const char *path, int64_t offset) {
    FILE *file = open_file(path, "r+e");
    must(fseek(file, (long)offset, offset < 0 ? SEEK_END : SEEK_SET) == 0, path);
    const int byte = fgetc(file);
    must(byte != EOF, path);
    must(fseek(file, -1, SEEK_CUR) == 0, path);
    must(fputc(byte ^ 4, file) != EOF, path);
    must(fclose(file) == 0, path);
}

void file_truncate(const char *path, int64_t size) {
    must(truncate(path, size) == 0, path);
}
