/* Struct -> file image, in memory by HDF5's core driver without a backing store. No time stamps are kept and the format
 * version is fixed, so equal inputs give equal bytes. */
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/internal.h"

enum { CORE_INCREMENT = 1 << 20 };

static Status hdf5_failed(const char *what, Error *err) {
    return error_set(err, STATUS_SYSTEM, "HDF5 could not %s a checkpoint in memory: free some memory and try again",
                     what);
}

static int timeless(hid_t properties) {
    return properties >= 0 && H5Pset_obj_track_times(properties, 0) >= 0;
}

/* Opens or makes the group of a tensor's name and returns it; *leaf is the part behind the last slash. */
static hid_t open_group(hid_t file, const char *name, const char **leaf, hid_t group_creation) {
    char path[sizeof((CheckpointTensor *)0)->name];
    *leaf = name;
    for (const char *slash; (slash = strchr(*leaf, '/')); *leaf = slash + 1) {
        size_t n = (size_t)(slash - name);
        memcpy(path, name, n);
        path[n] = 0;
        if (H5Lexists(file, path, H5P_DEFAULT) > 0)
            continue;
        hid_t group = H5Gcreate2(file, path, H5P_DEFAULT, group_creation, H5P_DEFAULT);
        if (group < 0)
            return -1;
        H5Gclose(group);
    }
    if (*leaf == name)
        return H5Gopen2(file, "/", H5P_DEFAULT);
    path[*leaf - name - 1] = 0;
    return H5Gopen2(file, path, H5P_DEFAULT);
}

static int write_tensor(hid_t file, const CheckpointTensor *tensor, hid_t group_creation, hid_t data_creation) {
    hsize_t extents[4];
    for (int d = 0; d < tensor->rank; d++)
        extents[d] = (hsize_t)tensor->shape[d];
    const char *leaf;
    hid_t group = open_group(file, tensor->name, &leaf, group_creation);
    hid_t space = tensor->rank ? H5Screate_simple(tensor->rank, extents, NULL) : H5Screate(H5S_SCALAR);
    hid_t data = group < 0 || space < 0
                     ? -1
                     : H5Dcreate2(group, leaf, H5T_IEEE_F32LE, space, H5P_DEFAULT, data_creation, H5P_DEFAULT);
    int ok = data >= 0 && H5Dwrite(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor->data) >= 0;
    if (data >= 0)
        H5Dclose(data);
    if (space >= 0)
        H5Sclose(space);
    if (group >= 0)
        H5Gclose(group);
    return ok;
}

/* /class_names: fixed-length strings, as long as the longest needs. */
static int write_class_names(hid_t file, char *const *names, int64_t n, hid_t data_creation) {
    const hsize_t extent = (hsize_t)n;
    size_t longest = 1;
    for (int64_t c = 0; c < n; c++)
        longest = strlen(names[c]) > longest ? strlen(names[c]) : longest;
    char *text = calloc((size_t)n, longest);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &extent, NULL), data = -1;
    int ok = text && type >= 0 && space >= 0 && H5Tset_size(type, longest) >= 0 &&
             H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    for (int64_t c = 0; ok && c < n; c++)
        memcpy(text + (size_t)c * longest, names[c], strlen(names[c]));
    if (ok)
        data = H5Dcreate2(file, CHECKPOINT_CLASS_NAMES, type, space, H5P_DEFAULT, data_creation, H5P_DEFAULT);
    ok = ok && data >= 0 && H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
    if (data >= 0)
        H5Dclose(data);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    free(text);
    return ok;
}

static int name_valid(const CheckpointTensor *tensor) {
    size_t n = strnlen(tensor->name, sizeof tensor->name);
    return n > 0 && n < sizeof tensor->name && tensor->name[0] != '/' && tensor->name[n - 1] != '/' &&
           !strstr(tensor->name, "//");
}

static Status check_tensors(const CheckpointTensor *tensors, int count, Error *err) {
    if (count < 0 || count > CHECKPOINT_MAX_TENSORS)
        return error_set(err, STATUS_INTERNAL, "a checkpoint of %d tensors", count);
    for (int i = 0; i < count; i++) {
        int ok = name_valid(&tensors[i]) && tensors[i].rank >= 0 && tensors[i].rank <= 4 && tensors[i].data;
        for (int d = 0; ok && d < tensors[i].rank; d++)
            ok = tensors[i].shape[d] > 0;
        if (!ok)
            return error_set(err, STATUS_INTERNAL, "checkpoint tensor %d (%.190s) has a bad name, shape or no data", i,
                             tensors[i].name);
    }
    return STATUS_OK;
}

/* The core driver's memory, which this file hands out and takes over when HDF5 closes the file: only then is the image
 * complete. (H5Fget_file_image() clears a flag in the superblock and leaves its checksum wrong.) */
typedef struct Memory {
    void *block;
    size_t size;
} Memory;

static void *memory_malloc(size_t size, H5FD_file_image_op_t op, void *ctx) {
    Memory *memory = ctx;
    (void)op;
    memory->block = malloc(size);
    memory->size = memory->block ? size : 0;
    return memory->block;
}

static void *memory_realloc(void *block, size_t size, H5FD_file_image_op_t op, void *ctx) {
    Memory *memory = ctx;
    (void)op;
    void *larger = realloc(block, size);
    if (larger)
        *memory = (Memory){larger, size};
    return larger;
}

static void *memory_copy(void *to, const void *from, size_t size, H5FD_file_image_op_t op, void *ctx) {
    (void)op;
    (void)ctx;
    return memcpy(to, from, size);
}

static herr_t memory_keep(void *block, H5FD_file_image_op_t op, void *ctx) {
    (void)block;
    (void)op;
    (void)ctx;
    return 0;
}

static void *context_share(void *ctx) {
    return ctx;
}

static herr_t context_keep(void *ctx) {
    (void)ctx;
    return 0;
}

static int set_memory_driver(hid_t access, Memory *memory) {
    H5FD_file_image_callbacks_t callbacks = {
        .image_malloc = memory_malloc,
        .image_memcpy = memory_copy,
        .image_realloc = memory_realloc,
        .image_free = memory_keep,
        .udata_copy = context_share,
        .udata_free = context_keep,
        .udata = memory,
    };
    return access >= 0 && H5Pset_fapl_core(access, CORE_INCREMENT, 0) >= 0 &&
           H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
           H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0;
}

/* End of a closed image according to its version 2 superblock; 0 when that does not hold together. */
static size_t image_end(const Memory *memory) {
    enum { VERSION_AT = 8, OFFSET_BYTES_AT = 9, END_AT = 28 };
    const unsigned char *bytes = memory->block;
    uint64_t end;
    if (memory->size < END_AT + sizeof end || bytes[VERSION_AT] != 2 || bytes[OFFSET_BYTES_AT] != sizeof end)
        return 0;
    memcpy(&end, bytes + END_AT, sizeof end);
    return end <= memory->size ? end : 0;
}

/* Trims the memory to the image, adds the seal and hands it over. */
static Status seal_image(Memory *memory, char **data, size_t *size, Error *err) {
    size_t bytes = image_end(memory);
    if (bytes == 0)
        return hdf5_failed("finish", err);
    char *block = realloc(memory->block, bytes + SEAL_BYTES);
    if (!block)
        return hdf5_failed("seal", err);
    memory->block = block;
    RETURN_IF(seal_write(block, bytes, err));
    *data = block;
    *size = bytes + SEAL_BYTES;
    memory->block = NULL;
    return STATUS_OK;
}

static Status write_all(hid_t file, const CheckpointFile *what, Error *err) {
    const CheckpointTensor *tensors = what->tensors;
    Status status;
    hid_t groups = H5Pcreate(H5P_GROUP_CREATE), contiguous = H5Pcreate(H5P_DATASET_CREATE);
    if (!timeless(groups) || !timeless(contiguous) || H5Pset_layout(contiguous, H5D_CONTIGUOUS) < 0 ||
        H5Pset_fill_time(contiguous, H5D_FILL_TIME_NEVER) < 0) {
        status = hdf5_failed("start", err);
        goto done;
    }
    GOTO_IF(checkpoint_write_meta(file, &what->meta, err), done);
    if (what->class_names && what->meta.classes > 0 &&
        !write_class_names(file, what->class_names, what->meta.classes, contiguous)) {
        status = hdf5_failed("store the class names of", err);
        goto done;
    }
    for (int i = 0; i < what->count; i++)
        if (!write_tensor(file, &tensors[i], groups, contiguous)) {
            status = error_set(err, STATUS_SYSTEM, "HDF5 could not store %s in a checkpoint: named twice, or no memory",
                               tensors[i].name);
            goto done;
        }
done:
    if (groups >= 0)
        H5Pclose(groups);
    if (contiguous >= 0)
        H5Pclose(contiguous);
    return status;
}

static Status encode(const CheckpointFile *what, char **data, size_t *size, Error *err) {
    Status status = STATUS_OK;
    Memory memory = {NULL, 0};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (set_memory_driver(access, &memory) && timeless(creation))
        file = H5Fcreate("checkpoint", H5F_ACC_TRUNC, creation, access);
    if (file < 0) {
        status = hdf5_failed("start", err);
    } else {
        status = write_all(file, what, err);
        if (H5Fclose(file) < 0 && status == STATUS_OK)
            status = hdf5_failed("close", err);
    }
    if (status == STATUS_OK)
        status = seal_image(&memory, data, size, err);
    free(memory.block);
    if (access >= 0)
        H5Pclose(access);
    if (creation >= 0)
        H5Pclose(creation);
    return status;
}

Status checkpoint_encode(const CheckpointFile *file, char **data, size_t *size, Error *err) {
    Status status;
    *data = NULL;
    *size = 0;
    RETURN_IF(check_tensors(file->tensors, file->count, err));
    H5E_BEGIN_TRY {
        status = encode(file, data, size, err);
    }
    H5E_END_TRY
    return status;
}
