/* Named float32 and int32 arrays in a plain HDF5 file: what `excon probe` reads and writes, for talking to other
 * frameworks. What is read may be foreign: links out of the file, values outside of it and filters other than gzip,
 * shuffle and fletcher32 are refused, claims are held against the file's size. */
#ifndef EXCON_IO_ARRAYS_H
#define EXCON_IO_ARRAYS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

enum { ARRAY_RANK_MAX = 4 };

typedef struct Array {
    int rank; /* 1..4 */
    int64_t shape[ARRAY_RANK_MAX];
    int64_t count; /* product of shape */
    float *f32;    /* one of the three is set, malloc'ed */
    int32_t *i32;
    uint8_t *u8;
} Array;

typedef enum ArrayType { ARRAY_F32, ARRAY_I32, ARRAY_U8 } ArrayType;

typedef struct ArrayFile ArrayFile;

/* STATUS_NO_INPUT when absent, STATUS_DATA when it is no HDF5 file, STATUS_CANNOT_CREATE when another program has it
 * open for writing. A failed open, or creation, has unwound itself: *out is NULL. */
Status array_file_open(ArrayFile **out, const char *path, Error *err);
/* A new file, built beside PATH as PATH.tmp; what is at PATH stays until array_file_publish() puts the new one there.
 * STATUS_CANNOT_CREATE also when something else than a plain file is at PATH. */
Status array_file_create(ArrayFile **out, const char *path, Error *err);
/* Closes a created file and gives it its name; STATUS_IO when it could not be written whole. Frees `file` in any case.
 */
Status array_file_publish(ArrayFile *file, Error *err);
/* An unpublished created file is removed. NULL is allowed. */
void array_file_close(ArrayFile *file);

/* Is there something of that name? It may lie in groups. */
bool array_exists(const ArrayFile *file, const char *name);
/* Length of a dataset's first dimension, of whatever type. */
Status array_length(const ArrayFile *file, const char *name, int64_t *length, Error *err);
/* Reads a whole dataset as `type`; `rank` -1: any. Kinds are kept apart: ARRAY_F32 wants floating-point numbers
 * (float64 is rounded), the others integers, of any width. STATUS_DATA for another kind, and for a number that `type`
 * cannot hold; NaN and infinities are numbers. Element count is checked against the file's size before memory is taken.
 * STATUS_DATA names dataset and file. */
Status array_read(const ArrayFile *file, const char *name, ArrayType type, int rank, Array *out, Error *err);
void array_free(Array *array);
/* Groups in `name` ("grad/encoder.conv1.weight") are made as needed. Exactly one of the data pointers is set. */
Status array_write(ArrayFile *file, const char *name, const Array *array, Error *err);

#endif
