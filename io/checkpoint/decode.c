/* File image -> struct. The file is hostile until proven otherwise: only hard links, groups a few levels deep,
 * contiguous unfiltered float32 datasets of rank <= 4 whose bytes are all in the file (and one of strings, the class
 * names); sizes are added up and held against the file's before anything is allocated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/internal.h"

enum { MAX_DEPTH = 4, NAME_BYTES = sizeof((CheckpointTensor *)0)->name };

typedef struct Walk {
    const char *path;
    CheckpointFile *out;
    int capacity;
    uint64_t bytes_left; /* of the file, not yet claimed by a dataset */
    int depth;
    char prefix[NAME_BYTES]; /* "model/", "" at the root */
    Status status;
    Error *err;
} Walk;

static Status refuse(Walk *walk, const char *name, const char *why) {
    return error_set(walk->err, STATUS_DATA, "%s: /%s%.150s %s", walk->path, walk->prefix, name, why);
}

/* Shape of a dataset and whether its bytes lie in the file, as plain numbers. */
static Status check_dataset(Walk *walk, const char *name, hid_t data, CheckpointTensor *tensor, uint64_t *bytes) {
    hid_t type = H5Dget_type(data), space = H5Dget_space(data), creation = H5Dget_create_plist(data);
    Status status = STATUS_OK;
    hsize_t extents[4] = {0};
    if (type < 0 || space < 0 || creation < 0)
        status = refuse(walk, name, "cannot be read");
    else if (H5Tequal(type, H5T_IEEE_F32LE) <= 0)
        status = refuse(walk, name, "is not of type float32");
    else if (H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_nfilters(creation) != 0 ||
             H5Pget_external_count(creation) != 0)
        status = refuse(walk, name, "is not a plain contiguous dataset");
    else if (H5Sget_simple_extent_type(space) == H5S_NULL || (tensor->rank = H5Sget_simple_extent_ndims(space)) < 0 ||
             tensor->rank > 4)
        status = refuse(walk, name, "has more than four dimensions or none that can be read");
    else if (tensor->rank > 0 && H5Sget_simple_extent_dims(space, extents, NULL) != tensor->rank)
        status = refuse(walk, name, "has a shape that cannot be read");
    *bytes = sizeof(float);
    for (int d = 0; status == STATUS_OK && d < tensor->rank; d++) {
        if (extents[d] == 0 || extents[d] > walk->bytes_left / *bytes) {
            status = refuse(walk, name, "has a shape larger than the file, or empty");
            break;
        }
        *bytes *= extents[d];
        tensor->shape[d] = (int64_t)extents[d];
    }
    if (status == STATUS_OK && (*bytes > walk->bytes_left || H5Dget_storage_size(data) != *bytes))
        status = refuse(walk, name, "has fewer bytes in the file than its shape needs");
    if (creation >= 0)
        H5Pclose(creation);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

/* /class_names: one fixed-length string for each of the attribute's classes. */
static Status read_class_names(Walk *walk, hid_t data) {
    const char *const name = CHECKPOINT_CLASS_NAMES;
    const size_t n = (size_t)walk->out->meta.classes;
    Status status = STATUS_OK;
    char *text = NULL;
    hid_t type = H5Dget_type(data), space = H5Dget_space(data), creation = H5Dget_create_plist(data);
    const size_t size = type >= 0 ? H5Tget_size(type) : 0;
    if (type < 0 || space < 0 || creation < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        size == 0 || size > CHECKPOINT_NAME_LIMIT || H5Pget_layout(creation) != H5D_CONTIGUOUS ||
        H5Pget_nfilters(creation) != 0 || H5Pget_external_count(creation) != 0 ||
        H5Sget_simple_extent_ndims(space) != 1 || H5Sget_simple_extent_npoints(space) != (hssize_t)n || n == 0 ||
        n > walk->bytes_left / size || H5Dget_storage_size(data) != n * size) {
        status = refuse(walk, name, "is not one plain string for each class");
        goto done;
    }
    text = malloc(n * size);
    walk->out->class_names = calloc(n, sizeof *walk->out->class_names);
    if (!text || !walk->out->class_names)
        status = error_set(walk->err, STATUS_SYSTEM, "no memory to load %s", walk->path);
    else if (H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0)
        status = refuse(walk, name, "cannot be read: the file is truncated or damaged");
    for (size_t c = 0; status == STATUS_OK && c < n; c++) {
        walk->out->class_names[c] = strndup(text + c * size, size);
        if (!walk->out->class_names[c])
            status = error_set(walk->err, STATUS_SYSTEM, "no memory to load %s", walk->path);
    }
    if (status == STATUS_OK)
        walk->bytes_left -= n * size;
done:
    free(text);
    if (creation >= 0)
        H5Pclose(creation);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

static Status grow(Walk *walk) {
    CheckpointFile *out = walk->out;
    if (out->count < walk->capacity)
        return STATUS_OK;
    if (out->count >= CHECKPOINT_MAX_TENSORS)
        return error_set(walk->err, STATUS_DATA, "%s holds more than %d tensors", walk->path, CHECKPOINT_MAX_TENSORS);
    int capacity = walk->capacity ? 2 * walk->capacity : 64;
    CheckpointTensor *larger = realloc(out->tensors, (size_t)capacity * sizeof *larger);
    if (!larger)
        return error_set(walk->err, STATUS_SYSTEM, "no memory to load %s", walk->path);
    out->tensors = larger;
    walk->capacity = capacity;
    return STATUS_OK;
}

static Status read_dataset(Walk *walk, const char *name, hid_t data) {
    uint64_t bytes;
    CheckpointTensor tensor = {.rank = 0};
    if (walk->depth == 0 && strcmp(name, CHECKPOINT_CLASS_NAMES) == 0)
        return read_class_names(walk, data);
    int n = snprintf(tensor.name, sizeof tensor.name, "%s%s", walk->prefix, name);
    if (n < 0 || n >= NAME_BYTES)
        return refuse(walk, name, "has too long a name");
    RETURN_IF(check_dataset(walk, name, data, &tensor, &bytes));
    RETURN_IF(grow(walk));
    tensor.data = malloc(bytes);
    if (!tensor.data)
        return error_set(walk->err, STATUS_SYSTEM, "no memory to load %s: /%s has %llu bytes", walk->path, tensor.name,
                         (unsigned long long)bytes);
    if (H5Dread(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.data) < 0) {
        free(tensor.data);
        return refuse(walk, name, "cannot be read: the file is truncated or damaged");
    }
    walk->bytes_left -= bytes;
    walk->out->tensors[walk->out->count++] = tensor;
    return STATUS_OK;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx);

static Status read_group(Walk *walk, const char *name, hid_t group) {
    size_t length = strlen(walk->prefix);
    int n = snprintf(walk->prefix + length, sizeof walk->prefix - length, "%s/", name);
    if (walk->depth >= MAX_DEPTH || n < 0 || (size_t)n >= sizeof walk->prefix - length) {
        walk->prefix[length] = 0;
        return refuse(walk, name, "is nested too deeply");
    }
    walk->depth++;
    herr_t result = H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, walk);
    walk->depth--;
    walk->prefix[length] = 0;
    if (walk->status != STATUS_OK)
        return walk->status;
    return result < 0 ? refuse(walk, name, "cannot be listed: the file is damaged") : STATUS_OK;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx) {
    Walk *walk = ctx;
    if (info->type != H5L_TYPE_HARD) {
        walk->status = refuse(walk, name, "is a soft or external link, which a checkpoint never has");
        return -1;
    }
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
        walk->status = refuse(walk, name, "cannot be opened: the file is damaged");
        return -1;
    }
    H5I_type_t kind = H5Iget_type(object);
    Status status = kind == H5I_GROUP     ? read_group(walk, name, object)
                    : kind == H5I_DATASET ? read_dataset(walk, name, object)
                                          : refuse(walk, name, "is neither a group nor a dataset");
    H5Oclose(object);
    walk->status = status;
    return status == STATUS_OK ? 0 : -1;
}

/* Callbacks that lend the core driver the caller's block instead of copying it. Growing it is refused: nothing is
 * written. */
static void *image_lend(size_t size, H5FD_file_image_op_t op, void *image) {
    (void)size;
    (void)op;
    return image;
}

static void *image_copy(void *to, const void *from, size_t size, H5FD_file_image_op_t op, void *image) {
    (void)op;
    (void)image;
    return to == from ? to : memcpy(to, from, size);
}

static void *image_resize(void *block, size_t size, H5FD_file_image_op_t op, void *image) {
    (void)block;
    (void)size;
    (void)op;
    (void)image;
    return NULL;
}

static herr_t image_keep(void *block, H5FD_file_image_op_t op, void *image) {
    (void)block;
    (void)op;
    (void)image;
    return 0;
}

static void *image_share(void *image) {
    return image;
}

static herr_t image_unshare(void *image) {
    (void)image;
    return 0;
}

/* Opens the image where it lies. Closing the file closes every object left open in it, also those the library lost
 * track of in a damaged file, so that nothing points into the block afterwards. */
static hid_t open_image(char *image, size_t size) {
    H5FD_file_image_callbacks_t callbacks = {
        .image_malloc = image_lend,
        .image_memcpy = image_copy,
        .image_realloc = image_resize,
        .image_free = image_keep,
        .udata_copy = image_share,
        .udata_free = image_unshare,
        .udata = image,
    };
    hid_t file = -1, access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_file_image_callbacks(access, &callbacks) >= 0 && H5Pset_file_image(access, image, size) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        file = H5Fopen("checkpoint", H5F_ACC_RDONLY, access);
    if (access >= 0)
        H5Pclose(access);
    return file;
}

static Status decode(char *image, size_t size, const char *path, CheckpointFile *out, Error *err) {
    hid_t file = size > 0 ? open_image(image, size) : -1;
    if (file < 0)
        return error_set(err, STATUS_DATA, "%s is not a complete HDF5 file: truncated or damaged", path);
    Walk walk = {.path = path, .out = out, .bytes_left = size, .err = err};
    Status status = checkpoint_read_meta(file, path, &out->meta, err);
    if (status == STATUS_OK && H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, &walk) < 0)
        status = walk.status != STATUS_OK ? walk.status
                                          : error_set(err, STATUS_DATA, "%s cannot be listed: it is damaged", path);
    H5Fclose(file);
    return status;
}

Status checkpoint_decode(char *image, size_t size, const char *path, CheckpointFile *out, Error *err) {
    Status status;
    *out = (CheckpointFile){0};
    H5E_BEGIN_TRY {
        status = decode(image, size, path, out, err);
    }
    H5E_END_TRY
    if (status != STATUS_OK)
        checkpoint_free(out);
    return status;
}
