#include "io/arrays/arrays.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/hdf5/h5_describe.h"
#include "io/hdf5/h5_read.h"
#include "io/hdf5/h5_write.h"

struct ArrayFile {
    H5Handle handle;
    int64_t bytes;
    char path[1024];
    char temporary[1040]; /* of a created file; "": opened for reading */
};

static Status wrap(H5Handle handle, const char *path, ArrayFile **out, Error *err) {
    ArrayFile *file = calloc(1, sizeof *file);
    if (!file) {
        h5_close(handle);
        return error_set(err, STATUS_SYSTEM, "out of memory opening %s", path);
    }
    file->handle = handle;
    file->bytes = h5_file_bytes(handle);
    snprintf(file->path, sizeof file->path, "%s", path);
    *out = file;
    return STATUS_OK;
}

Status array_file_open(ArrayFile **out, const char *path, Error *err) {
    H5Handle handle;
    *out = NULL;
    RETURN_IF(h5_open_file(path, "write it again", &handle, err));
    return wrap(handle, path, out, err);
}

Status array_file_create(ArrayFile **out, const char *path, Error *err) {
    char temporary[sizeof(*out)->temporary];
    struct stat info;
    *out = NULL;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return error_set(err, STATUS_CANNOT_CREATE, "%s is not a plain file; choose another name", path);
    const int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    const H5Handle handle = n < (int)sizeof temporary ? h5_create_file(temporary) : -1;
    if (handle < 0)
        return error_set(err, STATUS_CANNOT_CREATE, "cannot create %s; check the folder and its permissions", path);
    Status status = wrap(handle, path, out, err);
    if (status == STATUS_OK)
        memcpy((*out)->temporary, temporary, sizeof temporary);
    else
        unlink(temporary);
    return status;
}

Status array_file_publish(ArrayFile *file, Error *err) {
    Status status = STATUS_OK;
    if (!h5_close(file->handle))
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
    h5_close(file->handle);
    if (file->temporary[0])
        unlink(file->temporary);
    free(file);
}

bool array_exists(const ArrayFile *file, const char *name) {
    return h5_has(file->handle, name);
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

/* Into array->f32 [count]; `narrow`: no number of the file is too large for it. */
static Status read_floats(const ArrayFile *file, const char *name, H5Handle data, bool narrow, Array *array,
                          Error *err) {
    if (narrow)
        return h5_read_values(data, H5_F32, array->f32) ? STATUS_OK : cannot_read(file, name, err);
    double *wide = malloc(sizeof *wide * (size_t)array->count + 1);
    if (!wide)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    Status status = STATUS_OK;
    if (!h5_read_values(data, H5_F64, wide))
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

static Status read_integers(const ArrayFile *file, const char *name, H5Handle data, Array *array, Error *err) {
    const int64_t low = array->i32 ? INT32_MIN : 0, high = array->i32 ? INT32_MAX : UINT8_MAX;
    int64_t *wide = malloc(sizeof *wide * (size_t)array->count + 1);
    if (!wide)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    Status status = STATUS_OK;
    /* Of unsigned numbers beyond 63 bits the library makes the largest of 63, which is too large here as well. */
    if (!h5_read_values(data, H5_I64, wide))
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
static Status check_shape(const ArrayFile *file, const char *name, const H5Description *stored, int rank, Array *out,
                          Error *err) {
    if (stored->rank < 1 || stored->rank > ARRAY_RANK_MAX || (rank >= 0 && stored->rank != rank))
        return error_set(err, STATUS_DATA, "%s: dataset %s has %d dimensions, %d expected", file->path, name,
                         stored->rank > 0 ? stored->rank : 0, rank < 0 ? 1 : rank);
    out->rank = stored->rank;
    out->count = 1;
    for (int i = 0; i < out->rank; i++) {
        out->shape[i] = stored->shape[i];
        if (out->shape[i] > INT32_MAX ||
            (out->shape[i] > 0 && out->count > file->bytes * H5_PACKED_AT_MOST / out->shape[i]))
            return error_set(err, STATUS_DATA, "%s: dataset %s claims more elements than the file can hold", file->path,
                             name);
        out->count *= out->shape[i];
    }
    return STATUS_OK;
}

static Status check_type(const ArrayFile *file, const char *name, const H5Description *stored, ArrayType type,
                         Error *err) {
    enum { WIDEST = 16 }; /* bytes of an element: long double */
    static const char *const wanted[] = {"floating-point numbers (float32)", "integers (int32)",
                                         "integers from 0 to 255 (uint8)"};
    const bool plain = stored->size <= WIDEST;
    if (plain && stored->kind == (type == ARRAY_F32 ? H5_FLOATS : H5_INTEGERS))
        return STATUS_OK;
    return error_set(err, STATUS_DATA, "%s: dataset %s holds %s, %s expected", file->path, name,
                     plain && stored->kind == H5_FLOATS     ? "floating-point numbers"
                     : plain && stored->kind == H5_INTEGERS ? "integers"
                                                            : "no plain numbers",
                     wanted[type]);
}

static Status read_open(const ArrayFile *file, const char *name, H5Handle data, ArrayType type, int rank, Array *out,
                        Error *err) {
    static const size_t sizes[] = {sizeof(float), sizeof(int32_t), 1};
    const H5Description stored = h5_describe(data);
    RETURN_IF(check_shape(file, name, &stored, rank, out, err));
    RETURN_IF(check_type(file, name, &stored, type, err));
    void *memory = calloc((size_t)out->count + 1, sizes[type]);
    if (!memory)
        return error_set(err, STATUS_SYSTEM, "out of memory reading %s of %s", name, file->path);
    out->f32 = type == ARRAY_F32 ? memory : NULL;
    out->i32 = type == ARRAY_I32 ? memory : NULL;
    out->u8 = type == ARRAY_U8 ? memory : NULL;
    Status status = STATUS_OK;
    if (out->count > 0)
        status = type == ARRAY_F32 ? read_floats(file, name, data, stored.size <= sizeof(float), out, err)
                                   : read_integers(file, name, data, out, err);
    if (status != STATUS_OK)
        array_free(out);
    return status;
}

static Status open_data(const ArrayFile *file, const char *name, H5Handle *data, Error *err) {
    if (!array_exists(file, name))
        return error_set(err, STATUS_DATA, "%s has no dataset '%s'", file->path, name);
    return h5_open_foreign(file->handle, file->path, name, data, err);
}

Status array_length(const ArrayFile *file, const char *name, int64_t *length, Error *err) {
    Array shape;
    H5Handle data;
    *length = 0;
    RETURN_IF(open_data(file, name, &data, err));
    const H5Description stored = h5_describe(data);
    h5_close(data);
    RETURN_IF(check_shape(file, name, &stored, -1, &shape, err));
    *length = shape.shape[0];
    return STATUS_OK;
}

Status array_read(const ArrayFile *file, const char *name, ArrayType type, int rank, Array *out, Error *err) {
    H5Handle data;
    *out = (Array){0};
    RETURN_IF(open_data(file, name, &data, err));
    Status status = read_open(file, name, data, type, rank, out, err);
    h5_close(data);
    return status;
}

void array_free(Array *array) {
    free(array->f32);
    free(array->i32);
    free(array->u8);
    *array = (Array){0};
}

Status array_write(ArrayFile *file, const char *name, const Array *array, Error *err) {
    const H5Number number = array->f32 ? H5_F32 : array->i32 ? H5_I32 : H5_U8;
    const void *from = array->f32 ? (const void *)array->f32 : array->i32 ? (const void *)array->i32 : array->u8;
    if (!h5_put_block(file->handle, name, number, array->rank, array->shape, from))
        return error_set(err, STATUS_IO, "cannot write dataset %s of %s; is the disk full?", name, file->path);
    return STATUS_OK;
}
