/* Small file services: atomic replacement, folders, hashes, the run lock. Nothing here knows formats.
 *
 * Failures carry errno's text and what to do next. STATUS_CANNOT_CREATE: the place refuses us (permission, read-only,
 * missing folder, lock held); STATUS_IO: the place broke (full disk, EIO). */
#ifndef EXCON_IO_FILES_H
#define EXCON_IO_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* mkdir -p. STATUS_CANNOT_CREATE names the folder. */
Status files_make_dirs(const char *path, Error *err);

/* Writes `size` bytes to PATH atomically: PATH.tmp, write (short writes and EINTR handled), fsync, read back and
 * compare when `verify`, rename, fsync of the folder. On failure the temporary is removed and PATH is as before; only
 * when the folder's fsync fails may PATH already be the new content. One writer per PATH at a time. */
Status files_write_atomic(const char *path, const void *data, size_t size, bool verify, Error *err);

/* Writes all of `data` to a descriptor; short writes and EINTR handled. `path` is for the message only. */
Status files_write_all(int fd, const char *path, const void *data, size_t size, Error *err);

/* Makes LINK a symbolic link to `target` (used as it stands, relative to LINK's folder), atomically replacing what was
 * there, and fsyncs the folder. On a file system without symbolic links LINK becomes a hard link of the target, or a
 * copy of it where there are none of those either. */
Status files_link_atomic(const char *target, const char *link, Error *err);

/* Gives FILE the second name NAME, a hard link, or a copy of it where there are none; replaces what was there. */
Status files_name_atomic(const char *file, const char *name, Error *err);

/* fsync of the folder that holds PATH, so that a rename or unlink in it survives a power cut. */
Status files_sync_parent(const char *path, Error *err);

/* Whole regular file; *data is malloc'ed with a terminating 0 beyond *size. At most `limit` bytes, else STATUS_DATA.
 * STATUS_NO_INPUT when absent or unreadable. */
Status files_read(const char *path, size_t limit, char **data, size_t *size, Error *err);

/* STATUS_CANNOT_CREATE when another program holds PATH locked for writing (flock, as the HDF5 library takes it on files
 * that it writes): what can be read of it may be half of a change. Where the file system has no such locks, and with
 * HDF5_USE_FILE_LOCKING set to FALSE or 0, every file counts as free. An absent file is free too. */
Status files_check_free(const char *path, Error *err);

/* PATH with a leading ~ replaced by the home folder (HOME), as a shell does, in out [size]. False when that cannot be
 * done: ~name (another user's), no HOME, too long. */
bool files_expand_home(const char *path, char *out, size_t size);

/* Is something there (a dangling symbolic link is not)? */
bool files_exists(const char *path);

/* Status that fits an errno of a call that creates or writes files. */
Status files_errno_status(int code);

/* What a user can do about an errno, as the end of a message ("free some space on that disk"). */
const char *files_errno_advice(int code);

/* SHA-256. Out of memory is reported at the end as an empty string, which equals no digest. */
typedef struct Sha256 Sha256;
Sha256 *sha256_new(void);
void sha256_add(Sha256 *hash, const void *data, size_t size);
void sha256_end(Sha256 *hash, char hex[65]); /* frees the state */
void sha256_of(const void *data, size_t size, char hex[65]);
Status sha256_of_file(const char *path, char hex[65], Error *err);

/* Run folder lock: the file holds "host pid since-seconds boot-id start-ticks". STATUS_CANNOT_CREATE naming the holder
 * when it is alive; a stale lock is taken over. Held by an open-file-description lock for as long as the descriptor is
 * open; where the file system has no locks, by the text alone (a holder on another host then counts as alive). */
Status files_lock(const char *path, int *fd, Error *err);

/* Removes the lock file and closes the descriptor; fd -1 does nothing. */
void files_unlock(const char *path, int fd);

#endif
