#include "io/inspect/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/hdf5/h5_describe.h"
#include "io/hdf5/h5_read.h"
#include "io/hdf5/h5_walk.h"

_Static_assert(sizeof((TreeItem *)0)->shape == sizeof((H5Description *)0)->shape,
               "a shape is copied as it is described");

enum { MAX_DEPTH = 8 };

typedef struct Reader {
    Status (*visit)(void *ctx, const TreeItem *item, Error *err);
    void *ctx;
} Reader;

static void name_type(const H5Description *stored, char out[32]) {
    const int bits = (int)(8 * stored->size);
    switch (stored->kind) {
    case H5_INTEGERS:
        snprintf(out, 32, "%sint%d", stored->is_unsigned ? "u" : "", bits);
        break;
    case H5_FLOATS:
        snprintf(out, 32, "float%d", bits);
        break;
    case H5_STRINGS:
        snprintf(out, 32, "string");
        break;
    case H5_HEAP_STRINGS:
        snprintf(out, 32, "string, heap");
        break;
    case H5_OTHER:
        snprintf(out, 32, "other");
    }
}

/* Appends one text of `length` bytes. False: no room. */
static bool keep_text(TreeItem *item, size_t *used, const char *bytes, size_t length) {
    length = length < TREE_MAX_TEXT ? length : TREE_MAX_TEXT - 1;
    if (*used + length + 1 > sizeof item->texts)
        return false;
    memcpy(item->texts + *used, bytes, length);
    *used += length + 1;
    item->text_count++;
    return true;
}

/* The first texts of an attribute (which HDF5 reads whole) or a dataset (of which it reads those). */
static void read_texts(H5Handle object, const H5Description *stored, TreeItem *item) {
    enum { LIMIT = 1 << 16 };
    const bool attribute = item->kind == TREE_ATTRIBUTE;
    if (stored->size == 0 || stored->size > LIMIT || stored->count < 1 || (!attribute && stored->rank > 1))
        return;
    const int64_t room = LIMIT / (int64_t)stored->size;
    const int64_t wanted = attribute || stored->count < room ? stored->count : room;
    char *bytes = wanted > room ? NULL : malloc((size_t)wanted * stored->size);
    if (!bytes)
        return;
    size_t used = 0;
    if (h5_read_texts(object, stored, wanted, bytes)) {
        for (int64_t i = 0; i < wanted; i++) {
            const char *text = bytes + (size_t)i * stored->size;
            if (!keep_text(item, &used, text, h5_text_length(stored, text)))
                break;
        }
        item->texts_left = stored->count - item->text_count;
    }
    free(bytes);
}

/* Reads the values as far as they are short: up to TREE_MAX_VALUES numbers, or texts. */
static void read_values(H5Handle object, const H5Description *stored, TreeItem *item) {
    const bool numbers = stored->kind == H5_INTEGERS || stored->kind == H5_FLOATS;
    if (numbers && stored->count >= 1 && stored->count <= TREE_MAX_VALUES)
        item->count = h5_read_values(object, H5_F64, item->numbers) ? (int)stored->count : 0;
    else if (stored->kind == H5_STRINGS)
        read_texts(object, stored, item);
}

/* Values are read that lie in the file itself, behind no filter but HDF5's own checksum. */
static void describe(H5Handle object, TreeItem *item) {
    const H5Description stored = h5_describe(object);
    if (!stored.readable)
        return;
    name_type(&stored, item->type);
    item->rank = stored.rank > 0 ? stored.rank : 0;
    memcpy(item->shape, stored.shape, sizeof item->shape);
    item->filters = stored.filters;
    item->stored_bytes = stored.stored_bytes;
    if (stored.in_file && stored.only_checksums)
        read_values(object, &stored, item);
}

static Status visit_member(void *ctx, const H5Member *member, Error *err) {
    const Reader *reader = ctx;
    TreeItem item = {.kind = member->kind == H5_GROUP     ? TREE_GROUP
                             : member->kind == H5_DATASET ? TREE_DATASET
                             : member->kind == H5_LINK    ? TREE_LINK
                                                          : TREE_OTHER};
    snprintf(item.path, sizeof item.path, "%s", member->path);
    if (item.kind == TREE_DATASET)
        describe(member->object, &item);
    return reader->visit(reader->ctx, &item, err);
}

static Status visit_attribute(void *ctx, const char *path, H5Handle attribute, Error *err) {
    const Reader *reader = ctx;
    TreeItem item = {.kind = TREE_ATTRIBUTE};
    snprintf(item.path, sizeof item.path, "%.*s", (int)sizeof item.path - 1, path);
    if (attribute >= 0)
        describe(attribute, &item);
    return reader->visit(reader->ctx, &item, err);
}

Status tree_read(const char *path, Status (*visit)(void *ctx, const TreeItem *item, Error *err), void *ctx,
                 Error *err) {
    Reader reader = {visit, ctx};
    const H5Walk walk = {
        .file = path, .depth = MAX_DEPTH, .member = visit_member, .attribute = visit_attribute, .ctx = &reader};
    H5Handle file;
    RETURN_IF(h5_open_file(path, "use another copy", &file, err));
    Status status = h5_walk(file, &walk, err);
    h5_close(file);
    return status;
}
