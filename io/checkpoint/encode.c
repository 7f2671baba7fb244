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

static Status take_image(hid_t file, char **data, size_t *size, Error *err) {
    ssize_t bytes = H5Fflush(file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(file, NULL, 0);
    if (bytes <= 0)
        return hdf5_failed("flush", err);
    char *block = malloc((size_t)bytes + SEAL_BYTES);
    if (!block || H5Fget_file_image(file, block, (size_t)bytes) != bytes) {
        free(block);
        return hdf5_failed("copy", err);
    }
    Status status = seal_write(block, (size_t)bytes, err);
    if (status != STATUS_OK) {
        free(block);
        return status;
    }
    *data = block;
    *size = (size_t)bytes + SEAL_BYTES;
    return STATUS_OK;
}

static Status encode(const CheckpointMeta *meta, const CheckpointTensor *tensors, int count, char **data, size_t *size,
                     Error *err) {
    Status status;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE), file = -1;
    hid_t groups = H5Pcreate(H5P_GROUP_CREATE), contiguous = H5Pcreate(H5P_DATASET_CREATE);
    if (access < 0 || !timeless(creation) || !timeless(groups) || !timeless(contiguous) ||
        H5Pset_fapl_core(access, CORE_INCREMENT, 0) < 0 ||
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) < 0 ||
        H5Pset_layout(contiguous, H5D_CONTIGUOUS) < 0 || H5Pset_fill_time(contiguous, H5D_FILL_TIME_NEVER) < 0 ||
        (file = H5Fcreate("checkpoint", H5F_ACC_TRUNC, creation, access)) < 0) {
        status = hdf5_failed("start", err);
        goto done;
    }
    GOTO_IF(checkpoint_write_meta(file, meta, err), done);
    for (int i = 0; i < count; i++)
        if (!write_tensor(file, &tensors[i], groups, contiguous)) {
            status = error_set(err, STATUS_SYSTEM, "HDF5 could not store %s in a checkpoint: named twice, or no memory",
                               tensors[i].name);
            goto done;
        }
    status = take_image(file, data, size, err);
done:
    if (file >= 0)
        H5Fclose(file);
    const hid_t properties[] = {access, creation, groups, contiguous};
    for (int i = 0; i < 4; i++)
        if (properties[i] >= 0)
            H5Pclose(properties[i]);
    return status;
}

Status checkpoint_encode(const CheckpointMeta *meta, const CheckpointTensor *tensors, int count, char **data,
                         size_t *size, Error *err) {
    Status status;
    *data = NULL;
    *size = 0;
    RETURN_IF(check_tensors(tensors, count, err));
    H5E_BEGIN_TRY {
        status = encode(meta, tensors, count, data, size, err);
    }
    H5E_END_TRY
    return status;
}
