/* Struct -> file image, built in memory. No time stamps are kept and the format version is fixed, so equal inputs give
 * equal bytes. */
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/hdf5/h5_write.h"

static Status hdf5_failed(const char *what, Error *err) {
    return error_set(err, STATUS_SYSTEM, "HDF5 could not %s a checkpoint in memory: free some memory and try again",
                     what);
}

/* /class_names: fixed-length strings, as long as the longest needs. */
static bool put_class_names(H5Handle file, char *const *names, int64_t n) {
    size_t longest = 1;
    for (int64_t c = 0; c < n; c++)
        longest = strlen(names[c]) > longest ? strlen(names[c]) : longest;
    char *text = calloc((size_t)n, longest);
    if (!text)
        return false;
    for (int64_t c = 0; c < n; c++)
        memcpy(text + (size_t)c * longest, names[c], strlen(names[c]));
    const bool put = h5_put_strings_block(file, CHECKPOINT_CLASS_NAMES, n, longest, text);
    free(text);
    return put;
}

static bool name_valid(const CheckpointTensor *tensor) {
    size_t n = strnlen(tensor->name, sizeof tensor->name);
    return n > 0 && n < sizeof tensor->name && tensor->name[0] != '/' && tensor->name[n - 1] != '/' &&
           !strstr(tensor->name, "//");
}

static Status check_tensors(const CheckpointTensor *tensors, int count, Error *err) {
    if (count < 0 || count > CHECKPOINT_MAX_TENSORS)
        return error_set(err, STATUS_INTERNAL, "a checkpoint of %d tensors", count);
    for (int i = 0; i < count; i++) {
        bool ok = name_valid(&tensors[i]) && tensors[i].rank >= 0 && tensors[i].rank <= 4 && tensors[i].data;
        for (int d = 0; ok && d < tensors[i].rank; d++)
            ok = tensors[i].shape[d] > 0;
        if (!ok)
            return error_set(err, STATUS_INTERNAL, "checkpoint tensor %d (%.190s) has a bad name, shape or no data", i,
                             tensors[i].name);
    }
    return STATUS_OK;
}

static Status put_all(H5Handle file, const CheckpointFile *what, Error *err) {
    RETURN_IF(checkpoint_write_meta(file, &what->meta, err));
    if (what->class_names && what->meta.classes > 0 && !put_class_names(file, what->class_names, what->meta.classes))
        return hdf5_failed("store the class names of", err);
    for (int i = 0; i < what->count; i++) {
        const CheckpointTensor *tensor = &what->tensors[i];
        if (!h5_put_block(file, tensor->name, H5_F32, tensor->rank, tensor->shape, tensor->data))
            return error_set(err, STATUS_SYSTEM, "HDF5 could not store %s in a checkpoint: named twice, or no memory",
                             tensor->name);
    }
    return STATUS_OK;
}

/* Adds the seal to a file's bytes, and hands them over. */
static Status seal_image(char **data, size_t *size, Error *err) {
    char *sealed = realloc(*data, *size + SEAL_BYTES);
    if (!sealed)
        return hdf5_failed("seal", err);
    *data = sealed;
    RETURN_IF(seal_write(sealed, *size, err));
    *size += SEAL_BYTES;
    return STATUS_OK;
}

Status checkpoint_encode(const CheckpointFile *file, char **data, size_t *size, Error *err) {
    H5Memory memory;
    *data = NULL;
    *size = 0;
    RETURN_IF(check_tensors(file->tensors, file->count, err));
    if (h5_memory_begin(&memory, H5_FORMAT_1_8, NULL) != STATUS_OK)
        return hdf5_failed("start", err);
    Status status = put_all(memory.file, file, err);
    if (status != STATUS_OK)
        h5_memory_drop(&memory);
    else if (!h5_memory_finish(&memory, data, size))
        status = hdf5_failed("finish", err);
    else
        status = seal_image(data, size, err);
    if (status != STATUS_OK) {
        free(*data);
        *data = NULL;
        *size = 0;
    }
    return status;
}
