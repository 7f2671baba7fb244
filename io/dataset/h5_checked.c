/* Checked reading of HDF5. See h5_checked.h. */
#include "io/dataset/h5_checked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/files/files.h"

enum { MAX_RANK = 4 };

/* 1 when the file's first block says that a program opened it for writing and has not closed it: byte 11 of HDF5's
 * superblock from version 3 on. */
static int left_open(const char *path) {
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[12] = {0};
    FILE *file = fopen(path, "rbe");
    const size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file)
        fclose(file);
    return n == sizeof head && memcmp(head, signature, sizeof signature) == 0 && head[8] >= 3 && (head[11] & 1);
}

Status h5_open_file(const char *path, const char *advice, hid_t *file, Error *err) {
    *file = -1;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    if (access(path, R_OK) != 0)
        return error_set(err, STATUS_NO_INPUT, "%s: %s", path,
                         errno == EACCES ? "no permission to read it" : "no such file");
    RETURN_IF(files_check_free(path, err));
    hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access_list, 0, 1);
#endif
    *file = H5Fopen(path, H5F_ACC_RDONLY, access_list);
    H5Pclose(access_list);
    if (*file >= 0)
        return STATUS_OK;
    if (left_open(path))
        return error_set(err, STATUS_DATA,
                         "%s: is open for writing elsewhere, or the program that wrote to it ended without closing it; "
                         "close it there, or look at it by h5clear -s; else %s",
                         path, advice);
    return error_set(err, STATUS_DATA, "%s: not an HDF5 file, truncated or damaged; %s", path, advice);
}

int h5_has(hid_t parent, const char *name) {
    return H5Lexists(parent, name, H5P_DEFAULT) > 0;
}

/* The type of object `name`, H5O_TYPE_UNKNOWN when it cannot be told. HDF5 1.12 changed the call and its structure. */
static H5O_type_t object_type(hid_t parent, const char *name) {
#if H5_VERSION_GE(1, 12, 0)
    H5O_info2_t object;
    const herr_t got = H5Oget_info_by_name3(parent, name, &object, H5O_INFO_BASIC, H5P_DEFAULT);
#else
    H5O_info_t object;
    const herr_t got = H5Oget_info_by_name2(parent, name, &object, H5O_INFO_BASIC, H5P_DEFAULT);
#endif
    return got < 0 ? H5O_TYPE_UNKNOWN : object.type;
}

static Status check_link(hid_t parent, const char *path, const char *name, H5O_type_t wanted, Error *err) {
    H5L_info_t link;
    if (!h5_has(parent, name))
        return error_set(err, STATUS_DATA, "%s: /%s is missing", path, name);
    if (H5Lget_info(parent, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return error_set(err, STATUS_DATA, "%s: /%s is a soft or external link, which is refused", path, name);
    if (object_type(parent, name) != wanted)
        return error_set(err, STATUS_DATA, "%s: /%s is damaged or not a %s", path, name,
                         wanted == H5O_TYPE_GROUP ? "group" : "dataset");
    return STATUS_OK;
}

Status h5_open_group(hid_t parent, const char *path, const char *name, hid_t *group, Error *err) {
    *group = -1;
    RETURN_IF(check_link(parent, path, name, H5O_TYPE_GROUP, err));
    *group = H5Gopen2(parent, name, H5P_DEFAULT);
    return *group < 0 ? error_set(err, STATUS_DATA, "%s: group %s cannot be opened", path, name) : STATUS_OK;
}

/* Opens attribute `name`; *points gets its number of elements. */
static Status open_attribute(hid_t object, const char *path, const char *name, hid_t *attribute, hssize_t *points,
                             Error *err) {
    *attribute = H5Aexists(object, name) > 0 ? H5Aopen(object, name, H5P_DEFAULT) : -1;
    if (*attribute < 0)
        return error_set(err, STATUS_DATA, "%s: attribute %s is missing or damaged", path, name);
    hid_t space = H5Aget_space(*attribute);
    *points = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    if (space >= 0)
        H5Sclose(space);
    return STATUS_OK;
}

Status h5_read_numbers(hid_t object, const char *path, const char *name, hid_t type, hid_t memory_type, int64_t n,
                       void *out, Error *err) {
    hid_t attribute;
    hssize_t points = -1;
    RETURN_IF(open_attribute(object, path, name, &attribute, &points, err));
    hid_t stored = H5Aget_type(attribute);
    int good = stored >= 0 && points == n && H5Tequal(stored, type) > 0;
    int read = good && H5Aread(attribute, memory_type, out) >= 0;
    if (stored >= 0)
        H5Tclose(stored);
    H5Aclose(attribute);
    if (!good)
        return error_set(err, STATUS_DATA, "%s: attribute %s has the wrong type or length", path, name);
    return read ? STATUS_OK : error_set(err, STATUS_DATA, "%s: attribute %s cannot be read", path, name);
}

Status h5_read_int(hid_t object, const char *path, const char *name, int64_t low, int64_t high, int64_t *out,
                   Error *err) {
    int64_t value = 0;
    RETURN_IF(h5_read_numbers(object, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &value, err));
    if (value < low || value > high)
        return error_set(err, STATUS_DATA, "%s: attribute %s is %lld, expected %lld to %lld", path, name,
                         (long long)value, (long long)low, (long long)high);
    *out = value;
    return STATUS_OK;
}

/* Length of a fixed-length string type below `size`; 0 when it is anything else. */
static size_t string_length(hid_t type, size_t size) {
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0)
        return 0;
    size_t length = H5Tget_size(type);
    return length < size ? length : 0;
}

Status h5_read_string(hid_t object, const char *path, const char *name, char *out, size_t size, Error *err) {
    hid_t attribute;
    hssize_t points = -1;
    memset(out, 0, size);
    RETURN_IF(open_attribute(object, path, name, &attribute, &points, err));
    hid_t stored = H5Aget_type(attribute);
    int read = points == 1 && string_length(stored, size) > 0 && H5Aread(attribute, stored, out) >= 0;
    if (stored >= 0)
        H5Tclose(stored);
    H5Aclose(attribute);
    return read ? STATUS_OK
                : error_set(err, STATUS_DATA, "%s: attribute %s is not a short fixed-length string", path, name);
}

/* Rank and extent of an open dataset against `dims`. */
static int check_shape(hid_t dataset, int rank, const int64_t *dims) {
    hsize_t extent[MAX_RANK];
    hid_t space = H5Dget_space(dataset);
    int good = space >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
               H5Sget_simple_extent_dims(space, extent, NULL) == rank;
    if (space >= 0)
        H5Sclose(space);
    for (int d = 0; good && d < rank; d++)
        good = extent[d] == (hsize_t)dims[d];
    return good;
}

/* Bytes the file must hold for this layout; -1 when the layout is not one we accept. */
static int64_t expected_storage(hid_t plist, int rank, const int64_t *dims, int64_t item_size, int64_t *chunk) {
    int64_t elements = 1, chunks = 1;
    for (int d = 0; d < rank; d++)
        elements *= dims[d];
    memset(chunk, 0, (size_t)rank * sizeof *chunk);
    if (H5Pget_external_count(plist) != 0)
        return -1;
    if (H5Pget_layout(plist) == H5D_CONTIGUOUS)
        return H5Pget_nfilters(plist) == 0 ? elements * item_size : -1;
    hsize_t shape[MAX_RANK];
    unsigned flags = 0;
    size_t values = 0;
    if (H5Pget_layout(plist) != H5D_CHUNKED || H5Pget_chunk(plist, rank, shape) != rank ||
        H5Pget_nfilters(plist) != 1 ||
        H5Pget_filter2(plist, 0, &flags, &values, NULL, 0, NULL, NULL) != H5Z_FILTER_FLETCHER32)
        return -1;
    int64_t chunk_bytes = item_size;
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 1 || shape[d] > (hsize_t)(dims[d] > 1 ? dims[d] : 1))
            return -1;
        chunk[d] = (int64_t)shape[d];
        chunk_bytes *= chunk[d];
        chunks *= (dims[d] + chunk[d] - 1) / chunk[d];
    }
    return chunks * (chunk_bytes + 4);
}

Status h5_open_dataset(hid_t parent, const char *path, const char *name, hid_t type, int rank, const int64_t *dims,
                       int64_t *chunk, hid_t *dataset, Error *err) {
    int64_t chunk_shape[MAX_RANK];
    *dataset = -1;
    RETURN_IF(check_link(parent, path, name, H5O_TYPE_DATASET, err));
    hid_t access_list = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access_list, 0, 0, 1.0);
    hid_t opened = H5Dopen2(parent, name, access_list);
    H5Pclose(access_list);
    if (opened < 0)
        return error_set(err, STATUS_DATA, "%s: dataset /%s cannot be opened", path, name);

    Status status = STATUS_OK;
    hid_t stored = H5Dget_type(opened), plist = H5Dget_create_plist(opened);
    if (stored < 0 || H5Tequal(stored, type) <= 0)
        status = error_set(err, STATUS_DATA, "%s: dataset /%s has the wrong element type", path, name);
    else if (!check_shape(opened, rank, dims))
        status = error_set(err, STATUS_DATA, "%s: dataset /%s has the wrong shape", path, name);
    else {
        int64_t bytes = plist < 0 ? -1 : expected_storage(plist, rank, dims, (int64_t)H5Tget_size(type), chunk_shape);
        if (bytes < 0)
            status = error_set(err, STATUS_DATA,
                               "%s: dataset /%s uses a storage layout or filter that is not accepted (plain, or chunks "
                               "with fletcher32)",
                               path, name);
        else if (bytes != (int64_t)H5Dget_storage_size(opened))
            status = error_set(err, STATUS_DATA, "%s: dataset /%s is incomplete: %lld of %lld bytes are stored", path,
                               name, (long long)H5Dget_storage_size(opened), (long long)bytes);
    }
    if (stored >= 0)
        H5Tclose(stored);
    if (plist >= 0)
        H5Pclose(plist);
    if (status != STATUS_OK) {
        H5Dclose(opened);
        return status;
    }
    if (chunk)
        memcpy(chunk, chunk_shape, (size_t)rank * sizeof *chunk);
    *dataset = opened;
    return STATUS_OK;
}

Status h5_read_vector(hid_t parent, const char *path, const char *name, hid_t type, hid_t memory_type, int64_t n,
                      void *out, Error *err) {
    hid_t dataset;
    RETURN_IF(h5_open_dataset(parent, path, name, type, 1, &n, NULL, &dataset, err));
    herr_t read = n > 0 ? H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) : 0;
    H5Dclose(dataset);
    if (read < 0)
        return error_set(err, STATUS_DATA, "%s: dataset /%s (%lld values) is damaged: a checksum does not match", path,
                         name, (long long)n);
    return STATUS_OK;
}

Status h5_read_strings(hid_t parent, const char *path, const char *name, int64_t n, size_t size, char *out,
                       Error *err) {
    RETURN_IF(check_link(parent, path, name, H5O_TYPE_DATASET, err));
    hid_t probe = H5Dopen2(parent, name, H5P_DEFAULT);
    hid_t type = probe < 0 ? -1 : H5Dget_type(probe);
    size_t length = string_length(type, size);
    Status status = STATUS_OK;
    char *packed = NULL;
    if (length == 0)
        status = error_set(err, STATUS_DATA, "%s: /%s does not hold short fixed-length strings", path, name);
    else if (!(packed = calloc((size_t)n + 1, length)))
        status = error_set(err, STATUS_SYSTEM, "%s: out of memory for /%s", path, name);
    else
        status = h5_read_vector(parent, path, name, type, type, n, packed, err);
    for (int64_t i = 0; status == STATUS_OK && i < n; i++) {
        memset(out + (size_t)i * size, 0, size);
        memcpy(out + (size_t)i * size, packed + (size_t)i * length, length);
    }
    free(packed);
    if (type >= 0)
        H5Tclose(type);
    if (probe >= 0)
        H5Dclose(probe);
    return status;
}
