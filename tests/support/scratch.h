/* Scratch folders and files for tests of the io room. Failures abort the test through cmocka. */
#ifndef EXCON_TESTS_SCRATCH_H
#define EXCON_TESTS_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

enum { SCRATCH_BYTES = 512 };

/* A new, empty folder under $TMPDIR or /tmp. */
void scratch_new(char path[SCRATCH_BYTES]);
/* Removes the folder and everything in it. */
void scratch_remove(const char *path);

/* "dir/name", in a buffer of SCRATCH_BYTES + 256. */
const char *scratch_file(char buffer[SCRATCH_BYTES + 256], const char *dir, const char *name);

void file_write(const char *path, const void *data, size_t size);
int64_t file_size(const char *path);
/* Inverts one bit of the byte at `offset` (negative: from the end). */
void file_flip(const char *path, int64_t offset);
void file_truncate(const char *path, int64_t size);

#endif
