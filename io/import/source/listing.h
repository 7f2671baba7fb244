/* A folder of images held against the list that names them. */
#ifndef EXCON_IO_LISTING_H
#define EXCON_IO_LISTING_H

#include <stdint.h>

#include "kernels/base/status.h"

/* Images (by their name's ending, in any case) that lie in `folder` must be among `names` [count], which come from the
 * file `list`; files that macOS and Windows leave are passed over. STATUS_DATA when the list names one twice, or when
 * the folder holds images that it does not name: says how many, and one of them. STATUS_NO_INPUT when the folder is
 * missing. That each listed image exists shows when it is read. `names` is sorted. */
Status listing_check(const char *folder, const char *list, const char **names, int64_t count, Error *err);

/* Folders in `parent` must be among `names` [count, sorted]; else STATUS_DATA, naming the first and the file `list`. */
Status listing_check_folders(const char *parent, const char *list, char *const *names, int64_t count, Error *err);

#endif
