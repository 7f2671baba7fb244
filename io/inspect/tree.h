/* What an HDF5 file holds, item by item: attributes, groups and datasets with type, shape and, where short, the values.
 * The file may be foreign: nothing is followed out of it, nothing larger than a line is read. */
#ifndef EXCON_IO_TREE_H
#define EXCON_IO_TREE_H

#include <stdint.h>

#include "kernels/base/status.h"

enum { TREE_MAX_RANK = 32, TREE_MAX_VALUES = 16, TREE_MAX_TEXT = 256 };

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
    int is_text; /* `text` holds the single value */
    char text[TREE_MAX_TEXT];
} TreeItem;

/* Calls `visit` for every item, parents first, in name order. STATUS_NO_INPUT when the file is absent, STATUS_DATA when
 * it is not HDF5, damaged, or nested too deeply. A visitor's failure ends the walk and is returned. */
Status tree_read(const char *path, Status (*visit)(void *ctx, const TreeItem *item, Error *err), void *ctx, Error *err);

#endif
