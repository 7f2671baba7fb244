/* HDF5 files built in memory. See h5_memory.h.
 *
 * The bytes are taken from the core driver's own buffer when it closes the file, through its image callbacks:
 * H5Fget_file_image() clears the in-use mark of a 1.10 superblock without renewing its checksum, and the result does
 * not open. New room is zeroed, so gaps between objects do not carry what the process's memory held. */
#include "io/dataset/h5_memory.h"

#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"

enum { GROW_BYTES = 16 << 20, MAX_RANK = 4, END_OFFSET = 28, COMPACT_ATTRIBUTES = 64 };

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

Status h5_memory_begin(H5Memory *memory, Error *err) {
    H5FD_file_image_callbacks_t callbacks = {image_malloc, NULL,         image_realloc, image_free,
                                             share_memory, leave_memory, memory};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    *memory = (H5Memory){.file = -1};
    hid_t access_list = H5Pcreate(H5P_FILE_ACCESS), create_list = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_fapl_core(access_list, GROW_BYTES, 0);
    H5Pset_file_image_callbacks(access_list, &callbacks);
    H5Pset_libver_bounds(access_list, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
    H5Pset_obj_track_times(create_list, 0);
    H5Pset_attr_phase_change(create_list, COMPACT_ATTRIBUTES, 0); /* plain messages, no heap */
    memory->file = H5Fcreate("excon-in-memory.h5", H5F_ACC_TRUNC, create_list, access_list);
    H5Pclose(create_list);
    H5Pclose(access_list);
    return memory->file < 0 ? error_set(err, STATUS_SYSTEM, "HDF5 cannot build a file in memory") : STATUS_OK;
}

void h5_memory_drop(H5Memory *memory) {
    if (memory->file >= 0)
        H5Fclose(memory->file);
    free(memory->image);
    *memory = (H5Memory){.file = -1};
}

Status h5_memory_publish(H5Memory *memory, const char *path, char sha256[65], Error *err) {
    int closed = H5Fclose(memory->file) >= 0;
    uint64_t size = 0;
    Status status = STATUS_OK;
    memory->file = -1;
    if (closed && memory->image && memory->room >= END_OFFSET + sizeof size)
        memcpy(&size, (const char *)memory->image + END_OFFSET, sizeof size);
    if (size == 0 || size > memory->room)
        status = error_set(err, STATUS_SYSTEM, "%s: out of memory while building the file", path);
    else {
        if (sha256)
            sha256_of(memory->image, size, sha256);
        status = files_write_atomic(path, memory->image, size, 0, err);
    }
    h5_memory_drop(memory);
    return status;
}

static int put_attribute(hid_t object, const char *name, hid_t type, hid_t memory_type, hid_t space,
                         const void *value) {
    hid_t attribute = space < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int failed = attribute < 0 || H5Awrite(attribute, memory_type, value) < 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return failed ? -1 : 0;
}

int h5_put_numbers(hid_t object, const char *name, hid_t type, hid_t memory_type, int64_t n, const void *values) {
    hsize_t dims[1] = {(hsize_t)n};
    hid_t space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, dims, NULL);
    return put_attribute(object, name, type, memory_type, space, values);
}

int h5_put_int(hid_t object, const char *name, int64_t value) {
    return h5_put_numbers(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &value);
}

static hid_t string_type(size_t size) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

int h5_put_string(hid_t object, const char *name, const char *text) {
    hid_t type = string_type(strlen(text) > 0 ? strlen(text) : 1);
    int failed = put_attribute(object, name, type, type, H5Screate(H5S_SCALAR), text);
    H5Tclose(type);
    return failed;
}

int h5_put_dataset(hid_t parent, const char *name, hid_t type, hid_t memory_type, int rank, const int64_t *dims,
                   int64_t chunk_rows, const void *values) {
    hsize_t extent[MAX_RANK], chunk[MAX_RANK];
    for (int d = 0; d < rank; d++)
        extent[d] = chunk[d] = (hsize_t)dims[d];
    if (dims[0] > 0 && chunk_rows < dims[0])
        chunk[0] = (hsize_t)chunk_rows;
    hid_t space = H5Screate_simple(rank, extent, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, 0);
    if (dims[0] > 0) {
        H5Pset_chunk(plist, rank, chunk);
        H5Pset_fletcher32(plist);
        H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    }
    hid_t dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    int failed = dataset < 0 ||
                 (dims[0] > 0 && H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) ||
                 H5Dclose(dataset) < 0;
    H5Pclose(plist);
    H5Sclose(space);
    return failed ? -1 : 0;
}

int h5_put_strings(hid_t parent, const char *name, int64_t n, size_t size, const char *values) {
    hid_t type = string_type(size);
    int failed = h5_put_dataset(parent, name, type, type, 1, &n, n, values);
    H5Tclose(type);
    return failed;
}

hid_t h5_put_group(hid_t parent, const char *name) {
    hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(plist, 0);
    hid_t group = H5Gcreate2(parent, name, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Pclose(plist);
    return group;
}
