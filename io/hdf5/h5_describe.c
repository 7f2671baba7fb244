/* Descriptions of datasets and attributes. See h5_describe.h. */
#include "io/hdf5/h5_describe.h"

#include <string.h>

#include "io/hdf5/h5_library.h"

_Static_assert(H5_MAX_RANK == H5S_MAX_RANK, "any shape that the library knows has its place");

static bool is_attribute(hid_t object) {
    return H5Iget_type(object) == H5I_ATTR;
}

static void describe_type(hid_t type, H5Description *out) {
    out->size = H5Tget_size(type);
    out->number = H5_NUMBERS;
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        out->kind = H5_INTEGERS;
        out->is_unsigned = H5Tget_sign(type) == H5T_SGN_NONE;
        break;
    case H5T_FLOAT:
        out->kind = H5_FLOATS;
        break;
    case H5T_STRING:
        out->kind = H5Tis_variable_str(type) == 0 ? H5_STRINGS : H5_HEAP_STRINGS;
        out->padded_by_spaces = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
        out->utf8 = H5Tget_cset(type) == H5T_CSET_UTF8;
        break;
    default:
        out->kind = H5_OTHER;
    }
    for (int n = 0; n < H5_NUMBERS; n++)
        if (H5Tequal(type, h5_stored_type((H5Number)n)) > 0)
            out->number = (H5Number)n;
}

static bool describe_space(hid_t space, H5Description *out) {
    hsize_t extent[H5_MAX_RANK];
    const H5S_class_t class = H5Sget_simple_extent_type(space);
    out->rank = -1;
    if (class == H5S_NULL)
        return true;
    const int rank = H5Sget_simple_extent_ndims(space);
    if (class == H5S_NO_CLASS || rank < 0 || (rank > 0 && H5Sget_simple_extent_dims(space, extent, NULL) != rank))
        return false;
    out->rank = rank;
    out->count = 1;
    for (int d = 0; d < rank; d++) {
        out->shape[d] = extent[d] > INT64_MAX ? INT64_MAX : (int64_t)extent[d];
        if (__builtin_mul_overflow(out->count, out->shape[d], &out->count))
            out->count = INT64_MAX;
    }
    return true;
}

static void describe_storage(hid_t dataset, hid_t creation, H5Description *out) {
    const H5D_layout_t layout = H5Pget_layout(creation);
    out->contiguous = layout == H5D_CONTIGUOUS;
    out->in_file = layout != H5D_VIRTUAL && layout != H5D_LAYOUT_ERROR && H5Pget_external_count(creation) == 0;
    out->filters = H5Pget_nfilters(creation);
    out->stored_bytes = layout == H5D_VIRTUAL ? 0 : (int64_t)H5Dget_storage_size(dataset);
    out->only_checksums = out->filters >= 0;
    for (int i = 0; i < out->filters; i++) {
        unsigned flags = 0;
        size_t values = 0;
        if (H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, 0, NULL, NULL) != H5Z_FILTER_FLETCHER32)
            out->only_checksums = false;
    }
}

/* The dataspace of a virtual dataset is taken from its mapping: H5Dget_space() may open the files it is put together
 * from. */
static hid_t dataset_space(hid_t dataset, hid_t creation) {
    return H5Pget_layout(creation) == H5D_VIRTUAL ? H5Pget_virtual_vspace(creation, 0) : H5Dget_space(dataset);
}

H5Description h5_describe(H5Handle object) {
    const bool attribute = is_attribute(object);
    H5Description out = {.in_file = attribute, .only_checksums = attribute, .number = H5_NUMBERS};
    const hid_t type = attribute ? H5Aget_type(object) : H5Dget_type(object);
    const hid_t creation = attribute ? H5I_INVALID_HID : H5Dget_create_plist(object);
    const hid_t space = attribute ? H5Aget_space(object) : dataset_space(object, creation);
    if (type >= 0 && space >= 0 && (attribute || creation >= 0)) {
        describe_type(type, &out);
        if (!attribute)
            describe_storage(object, creation, &out);
        out.readable = describe_space(space, &out);
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (creation >= 0)
        H5Pclose(creation);
    return out.readable ? out : (H5Description){.number = H5_NUMBERS, .rank = -1};
}

bool h5_read_values(H5Handle object, H5Number number, void *out) {
    const hid_t type = h5_memory_type(number);
    return (is_attribute(object) ? H5Aread(object, type, out)
                                 : H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out)) >= 0;
}

/* The first `n` values of a one-dimensional dataset. */
static bool read_first(hid_t dataset, hid_t type, int64_t n, char *out) {
    const hsize_t start = 0, count = (hsize_t)n;
    const hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &count, NULL);
    const bool read = space >= 0 && memory >= 0 &&
                      H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) >= 0 &&
                      H5Dread(dataset, type, memory, space, H5P_DEFAULT, out) >= 0;
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    return read;
}

bool h5_read_texts(H5Handle object, const H5Description *description, int64_t n, char *out) {
    const bool attribute = is_attribute(object);
    const hid_t type = attribute ? H5Aget_type(object) : H5Dget_type(object);
    bool read = false;
    if (type >= 0 && attribute)
        read = n == description->count && H5Aread(object, type, out) >= 0;
    else if (type >= 0 && description->rank == 1)
        read = read_first(object, type, n, out);
    else if (type >= 0)
        read = n == description->count && H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    if (type >= 0)
        H5Tclose(type);
    return read;
}

size_t h5_text_length(const H5Description *description, const char *text) {
    size_t length = strnlen(text, description->size);
    while (description->padded_by_spaces && length > 0 && text[length - 1] == ' ')
        length--;
    return length;
}
