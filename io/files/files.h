/* Small file services: atomic replacement, folders, hashes. Nothing here knows formats. */
#ifndef EXCON_IO_FILES_H
#define EXCON_IO_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* mkdir -p. STATUS_CANNOT_CREATE names the folder. */
Status files_make_dirs(const char *path, Error *err);

/* Writes `size` bytes to PATH atomically: PATH.tmp, write (short writes and EINTR handled), fsync, read back and compare
 * when `verify`, rename, fsync of the folder. On failure the temporary is removed and PATH is as before. */
Status files_write_atomic(const char *path, const void *data, size_t size, int verify, Error *err);

/* Whole file; *data is malloc'ed with a terminating 0 beyond *size. At most `limit` bytes, else STATUS_DATA. */
Status files_read(const char *path, size_t limit, char **data, size_t *size, Error *err);

int files_exists(const char *path);

typedef struct Sha256 Sha256;
Sha256 *sha256_new(void);
void sha256_add(Sha256 *hash, const void *data, size_t size);
void sha256_end(Sha256 *hash, char hex[65]); /* frees the state */
void sha256_of(const void *data, size_t size, char hex[65]);
Status sha256_of_file(const char *path, char hex[65], Error *err);

/* Run folder lock: DIR/lock holds "host pid start-time". STATUS_CANNOT_CREATE naming the holder when it is alive; a stale
 * lock is taken over. Held by an fcntl lock on the descriptor for as long as the process lives. */
Status files_lock(const char *path, int *fd, Error *err);
void files_unlock(const char *path, int fd);

#endif
