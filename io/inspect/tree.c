#include "io/inspect/tree.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/hdf5/h5_read.h"

enum { MAX_DEPTH = 8 };

typedef struct Walk {
    const char *path;
    Status (*visit)(void *ctx, const TreeItem *item, Error *err);
    void *ctx;
    char prefix[512]; /* "model/", "" at the root */
    int depth;
    Status status;
    Error *err;
} Walk;

static herr_t end_walk(Walk *walk, Status status) {
    walk->status = status;
    return status == STATUS_OK ? 0 : -1;
}

static void describe_type(hid_t type, char out[32]) {
    int bits = (int)(8 * H5Tget_size(type));
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        snprintf(out, 32, "%sint%d", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
        break;
    case H5T_FLOAT:
        snprintf(out, 32, "float%d", bits);
        break;
    case H5T_STRING:
        snprintf(out, 32, H5Tis_variable_str(type) ? "string, heap" : "string");
        break;
    default:
        snprintf(out, 32, "other");
    }
}

static void describe_space(hid_t space, TreeItem *item) {
    hsize_t extents[TREE_MAX_RANK];
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank > 0 && rank <= TREE_MAX_RANK && H5Sget_simple_extent_dims(space, extents, NULL) == rank) {
        item->rank = rank;
        for (int d = 0; d < rank; d++)
            item->shape[d] = (int64_t)extents[d];
    }
}

/* Appends one text of `length` bytes without its padding. 0: no room. */
static int keep_text(TreeItem *item, size_t *used, const char *bytes, size_t length, H5T_str_t padding) {
    length = strnlen(bytes, length);
    while (padding == H5T_STR_SPACEPAD && length > 0 && bytes[length - 1] == ' ')
        length--;
    length = length < TREE_MAX_TEXT ? length : TREE_MAX_TEXT - 1;
    if (*used + length + 1 > sizeof item->texts)
        return 0;
    memcpy(item->texts + *used, bytes, length);
    *used += length + 1;
    item->text_count++;
    return 1;
}

/* The first texts of an attribute (which HDF5 reads whole) or a dataset (of which it reads those). */
static void read_texts(hid_t object, hid_t type, hid_t space, int64_t values, TreeItem *item) {
    enum { LIMIT = 1 << 16 };
    const size_t length = H5Tget_size(type);
    const int attribute = item->kind == TREE_ATTRIBUTE;
    if (length == 0 || length > LIMIT || values < 1)
        return;
    const int64_t room = LIMIT / (int64_t)length, wanted = attribute || values < room ? values : room;
    char *bytes = wanted > room ? NULL : malloc((size_t)wanted * length);
    if (!bytes)
        return;
    herr_t result = -1;
    if (attribute) {
        result = H5Aread(object, type, bytes);
    } else if (item->rank <= 1) {
        const hsize_t start = 0, count = (hsize_t)wanted;
        hid_t memory = H5Screate_simple(1, &count, NULL);
        if (item->rank == 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) >= 0)
            result = H5Dread(object, type, memory, space, H5P_DEFAULT, bytes);
        H5Sclose(memory);
    }
    size_t used = 0;
    if (result >= 0) {
        for (int64_t i = 0; i < wanted; i++)
            if (!keep_text(item, &used, bytes + (size_t)i * length, length, H5Tget_strpad(type)))
                break;
        item->texts_left = values - item->text_count;
    }
    free(bytes);
}

/* Reads the values of an attribute or dataset as far as they are short: up to TREE_MAX_VALUES numbers, or texts. */
static void read_values(hid_t object, hid_t type, hid_t space, TreeItem *item) {
    hssize_t values = H5Sget_simple_extent_type(space) == H5S_NULL ? 0 : H5Sget_simple_extent_npoints(space);
    int attribute = item->kind == TREE_ATTRIBUTE;
    H5T_class_t kind = H5Tget_class(type);
    if ((kind == H5T_INTEGER || kind == H5T_FLOAT) && values >= 1 && values <= TREE_MAX_VALUES) {
        herr_t result = attribute ? H5Aread(object, H5T_NATIVE_DOUBLE, item->numbers)
                                  : H5Dread(object, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, item->numbers);
        item->count = result < 0 ? 0 : (int)values;
    } else if (kind == H5T_STRING && H5Tis_variable_str(type) == 0) {
        read_texts(object, type, space, values, item);
    }
}

/* Values in the file itself, behind no filter but HDF5's own checksum: nothing foreign runs to read them. */
static int is_plain(hid_t creation, int filters) {
    for (int i = 0; i < filters; i++) {
        unsigned flags, config;
        size_t count = 0;
        if (H5Pget_filter2(creation, (unsigned)i, &flags, &count, NULL, 0, NULL, &config) != H5Z_FILTER_FLETCHER32)
            return 0;
    }
    return H5Pget_external_count(creation) == 0 && H5Pget_layout(creation) != H5D_VIRTUAL;
}

static void describe(hid_t object, TreeItem *item) {
    int attribute = item->kind == TREE_ATTRIBUTE;
    hid_t type = attribute ? H5Aget_type(object) : H5Dget_type(object);
    hid_t space = attribute ? H5Aget_space(object) : H5Dget_space(object);
    hid_t creation = attribute ? -1 : H5Dget_create_plist(object);
    if (type >= 0 && space >= 0) {
        describe_type(type, item->type);
        describe_space(space, item);
        item->filters = creation >= 0 ? H5Pget_nfilters(creation) : 0;
        item->stored_bytes = attribute ? 0 : (int64_t)H5Dget_storage_size(object);
        if (creation < 0 || is_plain(creation, item->filters))
            read_values(object, type, space, item);
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (creation >= 0)
        H5Pclose(creation);
}

static herr_t visit_attribute(hid_t object, const char *name, const H5A_info_t *info, void *ctx) {
    Walk *walk = ctx;
    TreeItem item = {.kind = TREE_ATTRIBUTE};
    (void)info;
    size_t length = strlen(walk->prefix);
    snprintf(item.path, sizeof item.path, "%.*s@%s", (int)(length ? length - 1 : 0), walk->prefix, name);
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute >= 0) {
        describe(attribute, &item);
        H5Aclose(attribute);
    }
    return end_walk(walk, walk->visit(walk->ctx, &item, walk->err));
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx);

/* The object's attributes and, of a group, its members, under prefix "NAME/". */
static Status visit_below(Walk *walk, hid_t object, const char *name, int is_group) {
    size_t length = strlen(walk->prefix);
    int n = snprintf(walk->prefix + length, sizeof walk->prefix - length, "%s/", name);
    Status status = STATUS_OK;
    if (walk->depth >= MAX_DEPTH || n < 0 || (size_t)n >= sizeof walk->prefix - length) {
        status = error_set(walk->err, STATUS_DATA, "%s is nested too deeply", walk->path);
    } else {
        walk->depth++;
        herr_t result = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, walk);
        if (result >= 0 && is_group)
            result = H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, walk);
        walk->depth--;
        status = walk->status;
        if (result < 0 && status == STATUS_OK)
            status = error_set(walk->err, STATUS_DATA, "%s: /%s%.100s cannot be read: the file is damaged", walk->path,
                               walk->prefix, name);
    }
    walk->prefix[length] = 0;
    return status;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx) {
    Walk *walk = ctx;
    TreeItem item = {.kind = TREE_LINK};
    snprintf(item.path, sizeof item.path, "%s%s", walk->prefix, name);
    if (info->type != H5L_TYPE_HARD)
        return end_walk(walk, walk->visit(walk->ctx, &item, walk->err));
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0)
        return end_walk(walk, error_set(walk->err, STATUS_DATA, "%s: /%s cannot be opened: the file is damaged",
                                        walk->path, item.path));
    H5I_type_t kind = H5Iget_type(object);
    item.kind = kind == H5I_GROUP ? TREE_GROUP : kind == H5I_DATASET ? TREE_DATASET : TREE_OTHER;
    if (kind == H5I_DATASET)
        describe(object, &item);
    Status status = walk->visit(walk->ctx, &item, walk->err);
    if (status == STATUS_OK && kind != H5I_DATATYPE)
        status = visit_below(walk, object, name, kind == H5I_GROUP);
    H5Oclose(object);
    return end_walk(walk, status);
}

Status tree_read(const char *path, Status (*visit)(void *ctx, const TreeItem *item, Error *err), void *ctx,
                 Error *err) {
    Walk walk = {.path = path, .visit = visit, .ctx = ctx, .err = err};
    hid_t file;
    RETURN_IF(h5_open_file(path, "use another copy", &file, err));
    H5E_BEGIN_TRY {
        if ((H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &walk) < 0 ||
             H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, &walk) < 0) &&
            walk.status == STATUS_OK)
            walk.status = error_set(err, STATUS_DATA, "%s cannot be listed: the file is damaged", path);
        H5Fclose(file);
    }
    H5E_END_TRY
    return walk.status;
}
