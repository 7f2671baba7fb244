/* New HDF5 files. See h5_write.h.
 *
 * The bytes of a file in memory are taken from the core driver's own buffer when it closes the file, through its image
 * callbacks: H5Fget_file_image() clears the in-use mark of the superblock without renewing its checksum, and the result
 * does not open. New room is zeroed, so gaps between objects do not carry what the process's memory held. */
#include "io/hdf5/h5_write.h"

#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"
#include "io/hdf5/h5_library.h"

enum { GROW_BYTES = 16 << 20, MAX_RANK = 4, COMPACT_ATTRIBUTES = 64 };
enum { VERSION_AT = 8, OFFSET_BYTES_AT = 9, END_AT = 28 }; /* in a superblock of version 2 or 3 */

/* ---- files in memory ---- */

static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *memory) {
    (void)op;
    ((H5Memory *)memory)->room = size;
    return calloc(1, size);
}

static void *image_realloc(void *image, size_t size, H5FD_file_image_op_t op, void *memory) {
    H5Memory *own = memory;
    (void)op;
    char *grown = realloc(image, size);
    if (grown && size > own->room)
        memset(grown + own->room, 0, size - own->room);
    own->room = grown ? size : own->room;
    return grown;
}

/* Keeps the buffer of the closing file. */
static herr_t image_free(void *image, H5FD_file_image_op_t op, void *memory) {
    if (op == H5FD_FILE_IMAGE_OP_FILE_CLOSE)
        ((H5Memory *)memory)->image = image;
    else
        free(image);
    return 0;
}

static void *share_memory(void *memory) {
    return memory;
}

static herr_t leave_memory(void *memory) {
    (void)memory;
    return 0;
}

/* Without times; `list` may be negative. */
static bool set_timeless(hid_t list) {
    return list >= 0 && H5Pset_obj_track_times(list, 0) >= 0;
}

static bool set_memory_driver(hid_t access_list, H5Format format, H5Memory *memory) {
    H5FD_file_image_callbacks_t callbacks = {image_malloc, NULL,         image_realloc, image_free,
                                             share_memory, leave_memory, memory};
    const H5F_libver_t version = format == H5_FORMAT_1_8 ? H5F_LIBVER_V18 : H5F_LIBVER_V110;
    return access_list >= 0 && H5Pset_fapl_core(access_list, GROW_BYTES, 0) >= 0 &&
           H5Pset_file_image_callbacks(access_list, &callbacks) >= 0 &&
           H5Pset_libver_bounds(access_list, version, version) >= 0 &&
           H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG) >= 0;
}

Status h5_memory_begin(H5Memory *memory, H5Format format, Error *err) {
    h5_library_begin();
    *memory = (H5Memory){.file = -1};
    const hid_t access_list = H5Pcreate(H5P_FILE_ACCESS), create_list = H5Pcreate(H5P_FILE_CREATE);
    bool set = set_memory_driver(access_list, format, memory) && set_timeless(create_list);
    if (set && format == H5_FORMAT_1_10) /* attributes as plain messages, no heap */
        set = H5Pset_attr_phase_change(create_list, COMPACT_ATTRIBUTES, 0) >= 0;
    if (set)
        memory->file = H5Fcreate(H5_NO_FILE, H5F_ACC_TRUNC, create_list, access_list);
    if (create_list >= 0)
        H5Pclose(create_list);
    if (access_list >= 0)
        H5Pclose(access_list);
    if (memory->file >= 0)
        return STATUS_OK;
    h5_memory_drop(memory);
    return error_set(err, STATUS_SYSTEM, "HDF5 cannot build a file in memory");
}

void h5_memory_drop(H5Memory *memory) {
    h5_close(memory->file);
    free(memory->image);
    *memory = (H5Memory){.file = -1};
}

/* Size of a closed file according to its superblock; 0 when that does not hold together. */
static size_t image_end(const H5Memory *memory) {
    const unsigned char *bytes = memory->image;
    uint64_t end;
    if (!bytes || memory->room < END_AT + sizeof end || bytes[VERSION_AT] < 2 || bytes[OFFSET_BYTES_AT] != sizeof end)
        return 0;
    memcpy(&end, bytes + END_AT, sizeof end);
    return end <= memory->room ? end : 0;
}

bool h5_memory_finish(H5Memory *memory, char **data, size_t *size) {
    const bool closed = h5_close(memory->file);
    memory->file = -1;
    *size = closed ? image_end(memory) : 0;
    *data = *size > 0 ? memory->image : NULL;
    if (*size > 0)
        memory->image = NULL;
    h5_memory_drop(memory);
    return *data != NULL;
}

Status h5_memory_publish(H5Memory *memory, const char *path, char sha256[65], Error *err) {
    char *data;
    size_t size;
    if (!h5_memory_finish(memory, &data, &size))
        return error_set(err, STATUS_SYSTEM, "%s: out of memory while building the file", path);
    if (sha256)
        sha256_of(data, size, sha256);
    const Status status = files_write_atomic(path, data, size, false, err);
    free(data);
    return status;
}

H5Handle h5_create_file(const char *path) {
    h5_library_begin();
    return H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
}

/* ---- attributes ---- */

static bool put_attribute(hid_t object, const char *name, hid_t type, hid_t memory_type, hid_t space,
                          const void *value) {
    const hid_t attribute =
        space < 0 || type < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool put = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return put;
}

bool h5_put_numbers(H5Handle object, const char *name, H5Number number, int64_t n, const void *values) {
    const hsize_t dims[1] = {(hsize_t)n};
    const hid_t space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, dims, NULL);
    return put_attribute(object, name, h5_stored_type(number), h5_memory_type(number), space, values);
}

bool h5_put_int(H5Handle object, const char *name, int64_t value) {
    return h5_put_numbers(object, name, H5_I64, 1, &value);
}

/* Of `size` bytes: UTF-8 with zeros behind it, or ASCII that ends with a zero. Negative without memory. */
static hid_t string_type(size_t size, H5T_str_t padding, H5T_cset_t set) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && H5Tset_size(type, size) >= 0 && H5Tset_strpad(type, padding) >= 0 && H5Tset_cset(type, set) >= 0)
        return type;
    if (type >= 0)
        H5Tclose(type);
    return -1;
}

static hid_t padded_string(size_t size) {
    return string_type(size, H5T_STR_NULLPAD, H5T_CSET_UTF8);
}

static bool put_text(hid_t object, const char *name, hid_t type, const char *text) {
    const bool put = put_attribute(object, name, type, type, H5Screate(H5S_SCALAR), text);
    if (type >= 0)
        H5Tclose(type);
    return put;
}

bool h5_put_string(H5Handle object, const char *name, const char *text) {
    return put_text(object, name, padded_string(strlen(text) > 0 ? strlen(text) : 1), text);
}

bool h5_put_field(H5Handle object, const char *name, const char *text, size_t size) {
    char *field = calloc(1, size);
    if (!field)
        return false;
    memcpy(field, text, strnlen(text, size - 1));
    const bool put = put_text(object, name, string_type(size, H5T_STR_NULLTERM, H5T_CSET_ASCII), field);
    free(field);
    return put;
}

/* ---- groups and datasets ---- */

H5Handle h5_put_group(H5Handle parent, const char *name) {
    const hid_t create_list = H5Pcreate(H5P_GROUP_CREATE);
    const hid_t group =
        set_timeless(create_list) ? H5Gcreate2(parent, name, H5P_DEFAULT, create_list, H5P_DEFAULT) : -1;
    if (create_list >= 0)
        H5Pclose(create_list);
    return group;
}

/* The groups that `name` lies in, where they are missing. */
static bool make_groups(hid_t parent, const char *name) {
    char path[H5_PATH_BYTES];
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        const size_t n = (size_t)(slash - name);
        if (n >= sizeof path)
            return false;
        memcpy(path, name, n);
        path[n] = 0;
        if (n == 0 || H5Lexists(parent, path, H5P_DEFAULT) > 0)
            continue;
        const hid_t group = h5_put_group(parent, path);
        if (group < 0)
            return false;
        H5Gclose(group);
    }
    return true;
}

enum { ONE_BLOCK = -1 }; /* in the place of chunk_rows */

/* Sets how a dataset is stored: in one block, or in chunks with fletcher32; without rows there are none. */
static bool set_storage(hid_t create_list, int rank, const hsize_t *extent, int64_t chunk_rows) {
    hsize_t chunk[MAX_RANK];
    if (!set_timeless(create_list))
        return false;
    if (chunk_rows == ONE_BLOCK)
        return H5Pset_layout(create_list, H5D_CONTIGUOUS) >= 0 &&
               H5Pset_fill_time(create_list, H5D_FILL_TIME_NEVER) >= 0;
    if (extent[0] == 0)
        return true;
    memcpy(chunk, extent, (size_t)rank * sizeof *chunk);
    if ((hsize_t)chunk_rows < chunk[0])
        chunk[0] = (hsize_t)chunk_rows;
    return H5Pset_chunk(create_list, rank, chunk) >= 0 && H5Pset_fletcher32(create_list) >= 0 &&
           H5Pset_fill_time(create_list, H5D_FILL_TIME_NEVER) >= 0;
}

static bool put_values(hid_t parent, const char *name, hid_t type, hid_t memory_type, int rank, const hsize_t *extent,
                       hid_t create_list, const void *values) {
    const hid_t space = rank > 0 ? H5Screate_simple(rank, extent, NULL) : H5Screate(H5S_SCALAR);
    const hid_t dataset =
        space < 0 || type < 0 ? -1 : H5Dcreate2(parent, name, type, space, H5P_DEFAULT, create_list, H5P_DEFAULT);
    bool put = dataset >= 0;
    if (put && H5Sget_simple_extent_npoints(space) > 0)
        put = H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    if (dataset >= 0)
        put = H5Dclose(dataset) >= 0 && put;
    if (space >= 0)
        H5Sclose(space);
    return put;
}

static bool put_dataset(hid_t parent, const char *name, hid_t type, hid_t memory_type, int rank, const int64_t *dims,
                        int64_t chunk_rows, const void *values) {
    hsize_t extent[MAX_RANK];
    if (rank > MAX_RANK)
        return false;
    for (int d = 0; d < rank; d++)
        extent[d] = (hsize_t)dims[d];
    const hid_t create_list = H5Pcreate(H5P_DATASET_CREATE);
    const bool put = set_storage(create_list, rank, extent, chunk_rows) &&
                     put_values(parent, name, type, memory_type, rank, extent, create_list, values);
    if (create_list >= 0)
        H5Pclose(create_list);
    return put;
}

bool h5_put_dataset(H5Handle parent, const char *name, H5Number number, int rank, const int64_t *dims,
                    int64_t chunk_rows, const void *values) {
    return put_dataset(parent, name, h5_stored_type(number), h5_memory_type(number), rank, dims, chunk_rows, values);
}

bool h5_put_block(H5Handle parent, const char *name, H5Number number, int rank, const int64_t *dims,
                  const void *values) {
    return make_groups(parent, name) &&
           put_dataset(parent, name, h5_stored_type(number), h5_memory_type(number), rank, dims, ONE_BLOCK, values);
}

static bool put_strings(hid_t parent, const char *name, int64_t n, size_t size, int64_t chunk_rows,
                        const char *values) {
    const hid_t type = padded_string(size);
    const bool put = type >= 0 && put_dataset(parent, name, type, type, 1, &n, chunk_rows, values);
    if (type >= 0)
        H5Tclose(type);
    return put;
}

bool h5_put_strings(H5Handle parent, const char *name, int64_t n, size_t size, const char *values) {
    return put_strings(parent, name, n, size, n, values);
}

bool h5_put_strings_block(H5Handle parent, const char *name, int64_t n, size_t size, const char *values) {
    return put_strings(parent, name, n, size, ONE_BLOCK, values);
}
