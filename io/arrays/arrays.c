#include "io/arrays/arrays.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ArrayFile {
    hid_t id;
    hsize_t bytes;
    char path[1024];
};

static Status wrap(hid_t id, const char *path, ArrayFile **out, Error *err) {
    ArrayFile *file = calloc(1, sizeof *file);
    if (!file) {
        H5Fclose(id);
        return error_set(err, STATUS_SYSTEM, "out of memory opening %s", path);
    }
    file->id = id;
    H5Fget_filesize(id, &file->bytes);
    snprintf(file->path, sizeof file->path, "%s", path);
    *out = file;
    return STATUS_OK;
}

Status array_file_open(ArrayFile **out, const char *path, Error *err) {
    if (access(path, R_OK) != 0)
        return error_set(err, STATUS_NO_INPUT, "cannot read %s", path);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0)
        return error_set(err, STATUS_DATA, "%s is not a readable HDF5 file", path);
    return wrap(id, path, out, err);
}

Status array_file_create(ArrayFile **out, const char *path, Error *err) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (id < 0)
        return error_set(err, STATUS_CANNOT_CREATE, "cannot create %s; check the folder and its permissions", path);
    return wrap(id, path, out, err);
}

void array_file_close(ArrayFile *file) {
    if (!file)
        return;
    H5Fclose(file->id);
    free(file);
}

int array_exists(const ArrayFile *file, const char *name) {
    char part[256];
    snprintf(part, sizeof part, "%s", name);
    for (char *slash = strchr(part, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (part[0] && H5Lexists(file->id, part, H5P_DEFAULT) <= 0)
            return 0;
        *slash = '/';
    }
    return H5Lexists(file->id, part, H5P_DEFAULT) > 0;
}

static Status read_open(const ArrayFile *file, const char *name, hid_t data, ArrayType type, int rank, Array *out,
                        Error *err) {
    hid_t space = H5Dget_space(data);
    hsize_t dims[ARRAY_RANK_MAX] = {0};
    int has = H5Sget_simple_extent_ndims(space);
    if (has < 1 || has > ARRAY_RANK_MAX || (rank >= 0 && has != rank)) {
        H5Sclose(space);
        return error_set(err, STATUS_DATA, "%s: dataset %s has %d dimensions, %d expected", file->path, name, has,
                         rank);
    }
    H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    hid_t stored = H5Dget_type(data);
    H5T_class_t class = H5Tget_class(stored);
    H5Tclose(stored);
    if (class != H5T_FLOAT && class != H5T_INTEGER)
        return error_set(err, STATUS_DATA, "%s: dataset %s is neither float nor integer", file->path, name);
    out->rank = has;
    out->count = 1;
    for (int i = 0; i < has; i++) {
        if (dims[i] > INT32_MAX || (dims[i] > 0 && out->count > (int64_t)(file->bytes * 64 / dims[i])))
            return error_set(err, STATUS_DATA, "%s: dataset %s claims more elements than the file can hold", file->path,
                             name);
        out->shape[i] = (int64_t)dims[i];
        out->count *= out->shape[i];
    }
    static const size_t sizes[] = {sizeof(float), sizeof(int32_t), 1};
    const hid_t types[] = {H5T_NATIVE_FLOAT, H5T_NATIVE_INT32, H5T_NATIVE_UINT8};
    void *memory = malloc(sizes[type] * (size_t)out->count + 1);
    if (!memory)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    if (out->count > 0 && H5Dread(data, types[type], H5S_ALL, H5S_ALL, H5P_DEFAULT, memory) < 0) {
        free(memory);
        return error_set(err, STATUS_DATA, "%s: dataset %s cannot be read", file->path, name);
    }
    out->f32 = type == ARRAY_F32 ? memory : NULL;
    out->i32 = type == ARRAY_I32 ? memory : NULL;
    out->u8 = type == ARRAY_U8 ? memory : NULL;
    return STATUS_OK;
}

Status array_read(const ArrayFile *file, const char *name, ArrayType type, int rank, Array *out, Error *err) {
    *out = (Array){0};
    if (!array_exists(file, name))
        return error_set(err, STATUS_DATA, "%s has no dataset '%s'", file->path, name);
    hid_t data = H5Dopen2(file->id, name, H5P_DEFAULT);
    if (data < 0)
        return error_set(err, STATUS_DATA, "%s: '%s' is not a dataset", file->path, name);
    Status status = read_open(file, name, data, type, rank, out, err);
    H5Dclose(data);
    return status;
}

void array_free(Array *array) {
    free(array->f32);
    free(array->i32);
    free(array->u8);
    *array = (Array){0};
}

Status array_write(ArrayFile *file, const char *name, const Array *array, Error *err) {
    hsize_t dims[ARRAY_RANK_MAX];
    for (int i = 0; i < array->rank; i++)
        dims[i] = (hsize_t)array->shape[i];
    const hid_t type = array->f32 ? H5T_NATIVE_FLOAT : array->i32 ? H5T_NATIVE_INT32 : H5T_NATIVE_UINT8;
    const void *from = array->f32 ? (const void *)array->f32 : array->i32 ? (const void *)array->i32 : array->u8;
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t space = H5Screate_simple(array->rank, dims, NULL);
    hid_t data = H5Dcreate2(file->id, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    herr_t wrote = data < 0 ? -1 : from ? H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, from) : 0;
    if (data >= 0)
        H5Dclose(data);
    H5Sclose(space);
    H5Pclose(links);
    if (wrote < 0)
        return error_set(err, STATUS_IO, "cannot write dataset %s of %s; is the disk full?", name, file->path);
    return STATUS_OK;
}
