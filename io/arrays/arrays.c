#include "io/arrays/arrays.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/dataset/h5_checked.h"

struct ArrayFile {
    hid_t id;
    hsize_t bytes;
    char path[1024];
    char temporary[1040]; /* of a created file; "": opened for reading */
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
    hid_t id;
    RETURN_IF(h5_open_file(path, "write it again", &id, err));
    return wrap(id, path, out, err);
}

Status array_file_create(ArrayFile **out, const char *path, Error *err) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    char temporary[sizeof(*out)->temporary];
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return error_set(err, STATUS_CANNOT_CREATE, "%s is not a plain file; choose another name", path);
    const int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    hid_t id = n < (int)sizeof temporary ? H5Fcreate(temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT) : -1;
    if (id < 0)
        return error_set(err, STATUS_CANNOT_CREATE, "cannot create %s; check the folder and its permissions", path);
    Status status = wrap(id, path, out, err);
    if (status == STATUS_OK)
        memcpy((*out)->temporary, temporary, sizeof temporary);
    else
        unlink(temporary);
    return status;
}

Status array_file_publish(ArrayFile *file, Error *err) {
    Status status = STATUS_OK;
    if (H5Fclose(file->id) < 0)
        status = error_set(err, STATUS_IO, "cannot write %s; is the disk full?", file->path);
    else if (rename(file->temporary, file->path) != 0)
        status = error_set(err, STATUS_CANNOT_CREATE, "cannot create %s: %s", file->path, strerror(errno));
    if (status != STATUS_OK)
        unlink(file->temporary);
    free(file);
    return status;
}

void array_file_close(ArrayFile *file) {
    if (!file)
        return;
    H5Fclose(file->id);
    if (file->temporary[0])
        unlink(file->temporary);
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

/* Element `index` of a dataset as a person would write it: "labels[3]", "images[0,1,2,5]". */
static void element_name(const char *name, const Array *array, int64_t index, char *text, size_t size) {
    int64_t place[ARRAY_RANK_MAX];
    for (int i = array->rank - 1; i >= 0; i--) {
        place[i] = index % array->shape[i];
        index /= array->shape[i];
    }
    int used = snprintf(text, size, "%.80s[", name);
    for (int i = 0; i < array->rank; i++)
        used += snprintf(text + used, size - (size_t)used, "%s%lld", i ? "," : "", (long long)place[i]);
    snprintf(text + used, size - (size_t)used, "]");
}

static Status cannot_read(const ArrayFile *file, const char *name, Error *err) {
    return error_set(err, STATUS_DATA, "%s: dataset %s cannot be read", file->path, name);
}

/* Into `to` [array->count] of float. */
static Status read_floats(const ArrayFile *file, const char *name, hid_t data, int narrow, Array *array, Error *err) {
    if (narrow)
        return H5Dread(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, array->f32) < 0
                   ? cannot_read(file, name, err)
                   : STATUS_OK;
    double *wide = malloc(sizeof *wide * (size_t)array->count + 1);
    if (!wide)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    Status status = STATUS_OK;
    if (H5Dread(data, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, wide) < 0)
        status = cannot_read(file, name, err);
    for (int64_t i = 0; i < array->count && status == STATUS_OK; i++) {
        array->f32[i] = (float)wide[i];
        if (isinf(array->f32[i]) && !isinf(wide[i])) {
            char element[160];
            element_name(name, array, i, element, sizeof element);
            status = error_set(err, STATUS_DATA, "%s: %s = %g is beyond float32", file->path, element, wide[i]);
        }
    }
    free(wide);
    return status;
}

static Status read_integers(const ArrayFile *file, const char *name, hid_t data, Array *array, Error *err) {
    const int64_t low = array->i32 ? INT32_MIN : 0, high = array->i32 ? INT32_MAX : UINT8_MAX;
    int64_t *wide = malloc(sizeof *wide * (size_t)array->count + 1);
    if (!wide)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    Status status = STATUS_OK;
    /* Of unsigned numbers beyond 63 bits the library makes the largest of 63, which is too large here as well. */
    if (H5Dread(data, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, wide) < 0)
        status = cannot_read(file, name, err);
    for (int64_t i = 0; i < array->count && status == STATUS_OK; i++) {
        if (wide[i] < low || wide[i] > high) {
            char element[160];
            element_name(name, array, i, element, sizeof element);
            status = error_set(err, STATUS_DATA, "%s: %s = %lld is outside %lld..%lld", file->path, element,
                               (long long)wide[i], (long long)low, (long long)high);
        } else if (array->i32) {
            array->i32[i] = (int32_t)wide[i];
        } else {
            array->u8[i] = (uint8_t)wide[i];
        }
    }
    free(wide);
    return status;
}

/* Shape and number of elements, which the file must be able to hold. */
static Status read_shape(const ArrayFile *file, const char *name, hid_t data, int rank, Array *out, Error *err) {
    hid_t space = H5Dget_space(data);
    hsize_t dims[ARRAY_RANK_MAX] = {0};
    int has = H5Sget_simple_extent_ndims(space);
    if (has < 1 || has > ARRAY_RANK_MAX || (rank >= 0 && has != rank)) {
        H5Sclose(space);
        return error_set(err, STATUS_DATA, "%s: dataset %s has %d dimensions, %d expected", file->path, name, has,
                         rank < 0 ? 1 : rank);
    }
    H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    out->rank = has;
    out->count = 1;
    for (int i = 0; i < has; i++) {
        if (dims[i] > INT32_MAX || (dims[i] > 0 && out->count > (int64_t)(file->bytes * 64 / dims[i])))
            return error_set(err, STATUS_DATA, "%s: dataset %s claims more elements than the file can hold", file->path,
                             name);
        out->shape[i] = (int64_t)dims[i];
        out->count *= out->shape[i];
    }
    return STATUS_OK;
}

static Status read_open(const ArrayFile *file, const char *name, hid_t data, ArrayType type, int rank, Array *out,
                        Error *err) {
    static const size_t sizes[] = {sizeof(float), sizeof(int32_t), 1};
    RETURN_IF(read_shape(file, name, data, rank, out, err));
    hid_t stored = H5Dget_type(data);
    const H5T_class_t class = H5Tget_class(stored);
    const int narrow = H5Tget_size(stored) <= sizeof(float);
    H5Tclose(stored);
    if (class != (type == ARRAY_F32 ? H5T_FLOAT : H5T_INTEGER))
        return error_set(err, STATUS_DATA, "%s: dataset %s holds %s, %s expected", file->path, name,
                         class == H5T_FLOAT     ? "floating-point numbers"
                         : class == H5T_INTEGER ? "integers"
                                                : "no plain numbers",
                         type == ARRAY_F32   ? "floating-point numbers (float32)"
                         : type == ARRAY_I32 ? "integers (int32)"
                                             : "integers from 0 to 255 (uint8)");
    void *memory = calloc((size_t)out->count + 1, sizes[type]);
    if (!memory)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    out->f32 = type == ARRAY_F32 ? memory : NULL;
    out->i32 = type == ARRAY_I32 ? memory : NULL;
    out->u8 = type == ARRAY_U8 ? memory : NULL;
    Status status = STATUS_OK;
    if (out->count > 0)
        status = type == ARRAY_F32 ? read_floats(file, name, data, narrow, out, err)
                                   : read_integers(file, name, data, out, err);
    if (status != STATUS_OK)
        array_free(out);
    return status;
}

static Status open_data(const ArrayFile *file, const char *name, hid_t *data, Error *err) {
    if (!array_exists(file, name))
        return error_set(err, STATUS_DATA, "%s has no dataset '%s'", file->path, name);
    *data = H5Dopen2(file->id, name, H5P_DEFAULT);
    return *data < 0 ? error_set(err, STATUS_DATA, "%s: '%s' is not a dataset", file->path, name) : STATUS_OK;
}

Status array_length(const ArrayFile *file, const char *name, int64_t *length, Error *err) {
    Array shape;
    hid_t data = -1;
    RETURN_IF(open_data(file, name, &data, err));
    Status status = read_shape(file, name, data, -1, &shape, err);
    H5Dclose(data);
    *length = status == STATUS_OK ? shape.shape[0] : 0;
    return status;
}

Status array_read(const ArrayFile *file, const char *name, ArrayType type, int rank, Array *out, Error *err) {
    hid_t data = -1;
    *out = (Array){0};
    RETURN_IF(open_data(file, name, &data, err));
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
