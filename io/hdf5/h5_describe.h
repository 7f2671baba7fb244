/* What a dataset or an attribute says about itself, as plain numbers, so that a caller can hold it against a schema
 * before taking memory; and reading it then. */
#ifndef EXCON_IO_H5_DESCRIBE_H
#define EXCON_IO_H5_DESCRIBE_H

#include <stddef.h>

#include "io/hdf5/h5_handle.h"

enum { H5_MAX_RANK = 32 };

typedef enum H5Class {
    H5_OTHER, /* compounds, references, enumerations ..., and what cannot be told */
    H5_INTEGERS,
    H5_FLOATS,
    H5_STRINGS,     /* of one fixed length */
    H5_HEAP_STRINGS /* of variable length, in a heap of the file that nothing vouches for: never read */
} H5Class;

typedef struct H5Description {
    bool readable; /* false: type, shape or storage could not be told; the rest is zeros */
    H5Class kind;
    H5Number number;       /* the little-endian number that the elements are; H5_NUMBERS: none of ours */
    size_t size;           /* bytes of an element */
    bool is_unsigned;      /* of integers */
    bool padded_by_spaces; /* of strings; else by zeros */
    bool utf8;             /* of strings; else ASCII */
    int rank;              /* 0: a single value; -1: none at all (a null dataspace) */
    int64_t shape[H5_MAX_RANK];
    int64_t count; /* product of shape, at most INT64_MAX; 0 without values */
    /* Datasets; an attribute's values lie in its header, plain. */
    bool contiguous;      /* one block */
    bool in_file;         /* neither in another file nor put together from other datasets */
    bool only_checksums;  /* no filter but fletcher32 */
    int filters;          /* of the chunk pipeline */
    int64_t stored_bytes; /* in the file */
} H5Description;

/* Of an open dataset or attribute. Reads nothing of its values. */
H5Description h5_describe(H5Handle object);

/* All values of a dataset or attribute of numbers, converted to `number`, into out [count]. False: cannot be read. */
bool h5_read_values(H5Handle object, H5Number number, void *out);

/* The first `n` fixed-length strings as they lie in the file into out [n, description->size]; of an attribute `n` must
 * be its count, of a dataset of more than one dimension too. */
bool h5_read_texts(H5Handle object, const H5Description *description, int64_t n, char *out);

/* Length of one such string without its padding. */
size_t h5_text_length(const H5Description *description, const char *text);

#endif
