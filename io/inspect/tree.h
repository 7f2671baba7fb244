/* What an HDF5 file holds, item by item: attributes, groups and datasets with type, shape and, where short, the values.
 * The file may be foreign: nothing is followed out of it, nothing larger than a line is read. */
#ifndef EXCON_IO_TREE_H
#define EXCON_IO_TREE_H

#include <stdint.h>

#include "kernels/base/status.h"

enum { TREE_MAX_RANK = 32, TREE_MAX_VALUES = 16, TREE_MAX_TEXT = 256, TREE_TEXTS_BYTES = 1024 };

typedef enum TreeKind { TREE_GROUP, TREE_DATASET, TREE_ATTRIBUTE, TREE_LINK, TREE_OTHER } TreeKind;

typedef struct TreeItem {
    TreeKind kind;
    char path[512]; /* "model/conv.weight"; attributes "model/conv.weight@name", "@name" on the root */
    char type[32];  /* "float32", "uint8", "string", "other"; "" without data */
    int rank;
    int64_t shape[TREE_MAX_RANK];
    int64_t stored_bytes; /* datasets: bytes in the file */
    int filters;          /* datasets: filters of the chunk pipeline */
    int count;            /* values below: all of them when there are at most TREE_MAX_VALUES, else 0 */
    double numbers[TREE_MAX_VALUES];
    /* Texts of fixed length: the first ones, as many as fit, each 0-terminated and cut at TREE_MAX_TEXT - 1 bytes, one
     * behind the other. Those of variable length lie in a heap of the file that no checksum covers: not read. */
    int text_count;
    int64_t texts_left; /* how many more there are */
    char texts[TREE_TEXTS_BYTES];
} TreeItem;

/* Calls `visit` for every item, parents first, in name order. STATUS_NO_INPUT when the file is absent, STATUS_DATA when
 * it is not HDF5, damaged, or nested too deeply. A visitor's failure ends the walk and is returned. */
Status tree_read(const char *path, Status (*visit)(void *ctx, const TreeItem *item, Error *err), void *ctx, Error *err);

#endif
