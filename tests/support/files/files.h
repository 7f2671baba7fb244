/* Whole files for tests, read, written and damaged by plain libc, apart from the code under test. A failure ends the
 * program. */
#ifndef EXCON_TESTS_FILES_H
#define EXCON_TESTS_FILES_H

#include <stddef.h>
#include <stdint.h>

/* The contents and a NUL after them, to be freed by the caller; their length in *size unless that is NULL. */
char *file_read(const char *path, size_t *size);
void file_write(const char *path, const void *data, size_t size);
int64_t file_size(const char *path);
/* Inverts one bit of the byte at `offset` (negative: from the end). */
void file_flip(const char *path, int64_t offset);
void file_truncate(const char *path, int64_t size);

#endif
