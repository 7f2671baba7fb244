/* Checked reading of HDF5. See h5_read.h. */
#include "io/hdf5/h5_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/files/files.h"
#include "io/hdf5/h5_describe.h"
#include "io/hdf5/h5_library.h"

enum { MAX_RANK = 4 };

/* ---- files ---- */

/* True when the file's first block says that a program opened it for writing and has not closed it: byte 11 of HDF5's
 * superblock from version 3 on. */
static bool left_open(const char *path) {
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[12] = {0};
    FILE *file = fopen(path, "rbe");
    const size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file)
        fclose(file);
    return n == sizeof head && memcmp(head, signature, sizeof signature) == 0 && head[8] >= 3 && (head[11] & 1);
}

Status h5_open_file(const char *path, const char *advice, H5Handle *file, Error *err) {
    *file = -1;
    h5_library_begin();
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

/* Closing the file closes every object left open in it, also those the library lost track of in a damaged file, so that
 * nothing points into the block afterwards. */
Status h5_open_image(char *image, size_t size, const char *path, H5Handle *file, Error *err) {
    H5FD_file_image_callbacks_t callbacks = {
        .image_malloc = image_lend,
        .image_memcpy = image_copy,
        .image_realloc = image_resize,
        .image_free = image_keep,
        .udata_copy = image_share,
        .udata_free = image_unshare,
        .udata = image,
    };
    *file = -1;
    h5_library_begin();
    const hid_t access_list = size > 0 ? H5Pcreate(H5P_FILE_ACCESS) : -1;
    if (access_list >= 0 && H5Pset_fapl_core(access_list, 1 << 16, 0) >= 0 &&
        H5Pset_file_image_callbacks(access_list, &callbacks) >= 0 && H5Pset_file_image(access_list, image, size) >= 0 &&
        H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG) >= 0)
        *file = H5Fopen(H5_NO_FILE, H5F_ACC_RDONLY, access_list);
    if (access_list >= 0)
        H5Pclose(access_list);
    return *file >= 0 ? STATUS_OK
                      : error_set(err, STATUS_DATA, "%s is not a complete HDF5 file: truncated or damaged", path);
}

int64_t h5_file_bytes(H5Handle file) {
    hsize_t bytes = 0;
    return H5Fget_filesize(file, &bytes) >= 0 ? (int64_t)bytes : 0;
}

/* ---- links ---- */

typedef enum Link { LINK_MISSING, LINK_FOREIGN, LINK_HARD } Link;

/* Follows `name` through the groups it names, as long as the links are hard ones. */
static Link find_link(hid_t parent, const char *name) {
    char part[H5_PATH_BYTES];
    const size_t length = strlen(name);
    if (length == 0 || length >= sizeof part)
        return LINK_MISSING;
    for (size_t end = 1; end <= length; end++) {
        H5L_info_t link;
        if (name[end] != '/' && name[end] != 0)
            continue;
        memcpy(part, name, end);
        part[end] = 0;
        if (H5Lexists(parent, part, H5P_DEFAULT) <= 0)
            return LINK_MISSING;
        if (H5Lget_info(parent, part, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
            return LINK_FOREIGN;
    }
    return LINK_HARD;
}

bool h5_has(H5Handle parent, const char *name) {
    return find_link(parent, name) != LINK_MISSING;
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
    const Link link = find_link(parent, name);
    if (link == LINK_MISSING)
        return error_set(err, STATUS_DATA, "%s: /%s is missing", path, name);
    if (link == LINK_FOREIGN)
        return error_set(err, STATUS_DATA, "%s: /%s is a soft or external link, which is refused", path, name);
    if (object_type(parent, name) != wanted)
        return error_set(err, STATUS_DATA, "%s: /%s is damaged or not a %s", path, name,
                         wanted == H5O_TYPE_GROUP ? "group" : "dataset");
    return STATUS_OK;
}

Status h5_open_group(H5Handle parent, const char *path, const char *name, H5Handle *group, Error *err) {
    *group = -1;
    RETURN_IF(check_link(parent, path, name, H5O_TYPE_GROUP, err));
    *group = H5Gopen2(parent, name, H5P_DEFAULT);
    return *group < 0 ? error_set(err, STATUS_DATA, "%s: group %s cannot be opened", path, name) : STATUS_OK;
}

/* ---- attributes ---- */

bool h5_has_attribute(H5Handle object, const char *name) {
    return H5Aexists(object, name) != 0;
}

H5Handle h5_open_attribute(H5Handle object, const char *name) {
    return H5Aexists(object, name) > 0 ? H5Aopen(object, name, H5P_DEFAULT) : -1;
}

static Status open_attribute(hid_t object, const char *path, const char *name, H5Handle *attribute, Error *err) {
    *attribute = h5_open_attribute(object, name);
    return *attribute < 0 ? error_set(err, STATUS_DATA, "%s: attribute %s is missing or damaged", path, name)
                          : STATUS_OK;
}

Status h5_read_numbers(H5Handle object, const char *path, const char *name, H5Number number, int64_t n, void *out,
                       Error *err) {
    H5Handle attribute;
    RETURN_IF(open_attribute(object, path, name, &attribute, err));
    const H5Description stored = h5_describe(attribute);
    const bool good = stored.count == n && stored.number == number;
    const bool read = good && h5_read_values(attribute, number, out);
    h5_close(attribute);
    if (!good)
        return error_set(err, STATUS_DATA, "%s: attribute %s has the wrong type or length", path, name);
    return read ? STATUS_OK : error_set(err, STATUS_DATA, "%s: attribute %s cannot be read", path, name);
}

Status h5_read_int(H5Handle object, const char *path, const char *name, int64_t low, int64_t high, int64_t *out,
                   Error *err) {
    int64_t value = 0;
    RETURN_IF(h5_read_numbers(object, path, name, H5_I64, 1, &value, err));
    if (value < low || value > high)
        return error_set(err, STATUS_DATA, "%s: attribute %s is %lld, expected %lld to %lld", path, name,
                         (long long)value, (long long)low, (long long)high);
    *out = value;
    return STATUS_OK;
}

/* Strings of one fixed length below `size`. */
static bool are_short_strings(const H5Description *stored, size_t size) {
    return stored->kind == H5_STRINGS && stored->size > 0 && stored->size < size;
}

Status h5_read_string(H5Handle object, const char *path, const char *name, char *out, size_t size, Error *err) {
    H5Handle attribute;
    memset(out, 0, size);
    RETURN_IF(open_attribute(object, path, name, &attribute, err));
    const H5Description stored = h5_describe(attribute);
    const bool read =
        stored.count == 1 && are_short_strings(&stored, size) && h5_read_texts(attribute, &stored, 1, out);
    h5_close(attribute);
    return read ? STATUS_OK
                : error_set(err, STATUS_DATA, "%s: attribute %s is not a short fixed-length string", path, name);
}

/* ---- datasets ---- */

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

/* Are all bytes of a dataset of the right shape in the file, in a layout that we accept? */
static Status check_storage(hid_t dataset, const char *path, const char *name, const H5Description *stored,
                            const int64_t *dims, int64_t *chunk, Error *err) {
    const hid_t plist = H5Dget_create_plist(dataset);
    const int64_t bytes = plist < 0 ? -1 : expected_storage(plist, stored->rank, dims, (int64_t)stored->size, chunk);
    if (plist >= 0)
        H5Pclose(plist);
    if (bytes < 0)
        return error_set(err, STATUS_DATA,
                         "%s: dataset /%s uses a storage layout or filter that is not accepted (plain, or chunks "
                         "with fletcher32)",
                         path, name);
    if (bytes != stored->stored_bytes)
        return error_set(err, STATUS_DATA, "%s: dataset /%s is incomplete: %lld of %lld bytes are stored", path, name,
                         (long long)stored->stored_bytes, (long long)bytes);
    return STATUS_OK;
}

static bool has_shape(const H5Description *stored, int rank, const int64_t *dims) {
    return stored->rank == rank && memcmp(stored->shape, dims, (size_t)rank * sizeof *dims) == 0;
}

/* Opens what must be a dataset; the library's chunk cache is off, callers read whole chunks. */
static Status open_dataset(hid_t parent, const char *path, const char *name, hid_t *dataset, Error *err) {
    *dataset = -1;
    RETURN_IF(check_link(parent, path, name, H5O_TYPE_DATASET, err));
    const hid_t access_list = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access_list, 0, 0, 1.0);
    *dataset = H5Dopen2(parent, name, access_list);
    H5Pclose(access_list);
    return *dataset < 0 ? error_set(err, STATUS_DATA, "%s: dataset /%s cannot be opened", path, name) : STATUS_OK;
}

Status h5_open_dataset(H5Handle parent, const char *path, const char *name, H5Number number, int rank,
                       const int64_t *dims, int64_t *chunk, H5Handle *dataset, Error *err) {
    int64_t chunk_shape[MAX_RANK];
    RETURN_IF(open_dataset(parent, path, name, dataset, err));
    const H5Description stored = h5_describe(*dataset);
    Status status = STATUS_OK;
    if (stored.number != number)
        status = error_set(err, STATUS_DATA, "%s: dataset /%s has the wrong element type", path, name);
    else if (!has_shape(&stored, rank, dims))
        status = error_set(err, STATUS_DATA, "%s: dataset /%s has the wrong shape", path, name);
    else
        status = check_storage(*dataset, path, name, &stored, dims, chunk ? chunk : chunk_shape, err);
    if (status != STATUS_OK) {
        h5_close(*dataset);
        *dataset = -1;
    }
    return status;
}

/* A chunk is read whole, and unpacked: it may not be much larger than the file. */
static Status check_foreign_chunk(hid_t dataset, hid_t plist, const char *path, const char *name,
                                  const H5Description *stored, Error *err) {
    enum { SMALL_CHUNK = 16 << 20 };
    hsize_t shape[H5_MAX_RANK];
    const hid_t file = H5Iget_file_id(dataset);
    const int64_t limit = H5_PACKED_AT_MOST * h5_file_bytes(file) + SMALL_CHUNK;
    int64_t bytes = (int64_t)stored->size;
    H5Fclose(file);
    const int rank = H5Pget_chunk(plist, H5_MAX_RANK, shape);
    for (int d = 0; d < rank; d++)
        if (shape[d] > (hsize_t)limit || __builtin_mul_overflow(bytes, (int64_t)shape[d], &bytes))
            bytes = INT64_MAX;
    return rank >= 1 && bytes <= limit
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s: dataset /%s has chunks larger than the file", path, name);
}

static Status check_foreign_filters(hid_t plist, const char *path, const char *name, Error *err) {
    for (int i = 0; i < H5Pget_nfilters(plist); i++) {
        unsigned flags = 0;
        size_t values = 0;
        char label[64] = "";
        const H5Z_filter_t filter =
            H5Pget_filter2(plist, (unsigned)i, &flags, &values, NULL, sizeof label, label, NULL);
        label[sizeof label - 1] = 0;
        if ((filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) ||
            H5Zfilter_avail(filter) <= 0)
            return error_set(err, STATUS_DATA,
                             "%s: dataset /%s lies behind filter %d (%.40s), which this program does not have; write "
                             "it with gzip or without compression",
                             path, name, (int)filter, label[0] ? label : "unnamed");
    }
    return STATUS_OK;
}

Status h5_open_foreign(H5Handle parent, const char *path, const char *name, H5Handle *dataset, Error *err) {
    RETURN_IF(open_dataset(parent, path, name, dataset, err));
    const H5Description stored = h5_describe(*dataset);
    const hid_t plist = H5Dget_create_plist(*dataset);
    Status status = STATUS_OK;
    if (plist < 0 || !stored.readable)
        status = error_set(err, STATUS_DATA, "%s: dataset /%s cannot be opened", path, name);
    else if (!stored.in_file)
        status = error_set(err, STATUS_DATA, "%s: dataset /%s keeps its values outside the file, which is refused",
                           path, name);
    else
        status = check_foreign_filters(plist, path, name, err);
    if (status == STATUS_OK && H5Pget_layout(plist) == H5D_CHUNKED)
        status = check_foreign_chunk(*dataset, plist, path, name, &stored, err);
    if (plist >= 0)
        H5Pclose(plist);
    if (status != STATUS_OK) {
        h5_close(*dataset);
        *dataset = -1;
    }
    return status;
}

bool h5_read_rows(H5Handle dataset, H5Number number, int rank, const int64_t *tail, int64_t first, int64_t n,
                  void *out) {
    hsize_t start[MAX_RANK] = {(hsize_t)first}, count[MAX_RANK] = {(hsize_t)n};
    for (int d = 1; d < rank; d++)
        count[d] = (hsize_t)tail[d - 1];
    const hid_t file_space = H5Dget_space(dataset), memory_space = H5Screate_simple(rank, count, NULL);
    const bool read = file_space >= 0 && memory_space >= 0 &&
                      H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                      H5Dread(dataset, h5_memory_type(number), memory_space, file_space, H5P_DEFAULT, out) >= 0;
    if (memory_space >= 0)
        H5Sclose(memory_space);
    if (file_space >= 0)
        H5Sclose(file_space);
    return read;
}

static Status vector_damaged(const char *path, const char *name, int64_t n, Error *err) {
    return error_set(err, STATUS_DATA, "%s: dataset /%s (%lld values) is damaged: a checksum does not match", path,
                     name, (long long)n);
}

Status h5_read_vector(H5Handle parent, const char *path, const char *name, H5Number number, int64_t n, void *out,
                      Error *err) {
    H5Handle dataset;
    RETURN_IF(h5_open_dataset(parent, path, name, number, 1, &n, NULL, &dataset, err));
    const bool read = n == 0 || h5_read_values(dataset, number, out);
    h5_close(dataset);
    return read ? STATUS_OK : vector_damaged(path, name, n, err);
}

/* Strings of an open dataset. */
static Status read_strings(hid_t dataset, const char *path, const char *name, int64_t n, size_t size, char *out,
                           Error *err) {
    const H5Description stored = h5_describe(dataset);
    int64_t chunk[1];
    if (!are_short_strings(&stored, size))
        return error_set(err, STATUS_DATA, "%s: /%s does not hold short fixed-length strings", path, name);
    if (!has_shape(&stored, 1, &n))
        return error_set(err, STATUS_DATA, "%s: dataset /%s has the wrong shape", path, name);
    RETURN_IF(check_storage(dataset, path, name, &stored, &n, chunk, err));
    char *packed = calloc((size_t)n + 1, stored.size);
    if (!packed)
        return error_set(err, STATUS_SYSTEM, "%s: out of memory for /%s", path, name);
    Status status = STATUS_OK;
    if (n > 0 && !h5_read_texts(dataset, &stored, n, packed))
        status = vector_damaged(path, name, n, err);
    for (int64_t i = 0; status == STATUS_OK && i < n; i++) {
        memset(out + (size_t)i * size, 0, size);
        memcpy(out + (size_t)i * size, packed + (size_t)i * stored.size, stored.size);
    }
    free(packed);
    return status;
}

Status h5_read_strings(H5Handle parent, const char *path, const char *name, int64_t n, size_t size, char *out,
                       Error *err) {
    hid_t dataset;
    RETURN_IF(open_dataset(parent, path, name, &dataset, err));
    const Status status = read_strings(dataset, path, name, n, size, out, err);
    h5_close(dataset);
    return status;
}
