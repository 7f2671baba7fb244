/* File image -> struct. The file is hostile until proven otherwise: only hard links, groups a few levels deep,
 * contiguous unfiltered float32 datasets of rank <= 4 whose bytes are all in the file (and one of strings, the class
 * names); sizes are added up and held against the file's before anything is allocated. */
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/hdf5/h5_describe.h"
#include "io/hdf5/h5_read.h"
#include "io/hdf5/h5_walk.h"

enum { MAX_DEPTH = 4, MAX_RANK = 4, NAME_BYTES = sizeof((CheckpointTensor *)0)->name };

typedef struct Reader {
    const char *path;
    CheckpointFile *out;
    int capacity;
    uint64_t bytes_left; /* of the file, not yet claimed by a dataset */
} Reader;

static Status refuse(const Reader *reader, const char *name, const char *why, Error *err) {
    return error_set(err, STATUS_DATA, "%s: /%.340s %s", reader->path, name, why);
}

static Status no_memory(const Reader *reader, Error *err) {
    return error_set(err, STATUS_SYSTEM, "no memory to load %s", reader->path);
}

/* In one piece in the file itself, as it stands. */
static bool is_plain(const H5Description *stored) {
    return stored->contiguous && stored->in_file && stored->filters == 0;
}

/* Shape of a dataset and whether its bytes lie in the file. */
static Status check_tensor(const Reader *reader, const char *name, const H5Description *stored,
                           CheckpointTensor *tensor, uint64_t *bytes, Error *err) {
    if (!stored->readable)
        return refuse(reader, name, "cannot be read", err);
    if (stored->number != H5_F32)
        return refuse(reader, name, "is not of type float32", err);
    if (!is_plain(stored))
        return refuse(reader, name, "is not a plain contiguous dataset", err);
    if (stored->rank < 0 || stored->rank > MAX_RANK)
        return refuse(reader, name, "has more than four dimensions or none that can be read", err);
    tensor->rank = stored->rank;
    *bytes = sizeof(float);
    for (int d = 0; d < tensor->rank; d++) {
        const uint64_t extent = (uint64_t)stored->shape[d];
        if (extent == 0 || extent > reader->bytes_left / *bytes)
            return refuse(reader, name, "has a shape larger than the file, or empty", err);
        *bytes *= extent;
        tensor->shape[d] = stored->shape[d];
    }
    if (*bytes > reader->bytes_left || (uint64_t)stored->stored_bytes != *bytes)
        return refuse(reader, name, "has fewer bytes in the file than its shape needs", err);
    return STATUS_OK;
}

static Status copy_class_names(const Reader *reader, const H5Description *stored, const char *text, Error *err) {
    reader->out->class_names = calloc((size_t)stored->count, sizeof *reader->out->class_names);
    if (!reader->out->class_names)
        return no_memory(reader, err);
    for (int64_t c = 0; c < stored->count; c++) {
        reader->out->class_names[c] = strndup(text + (size_t)c * stored->size, stored->size);
        if (!reader->out->class_names[c])
            return no_memory(reader, err);
    }
    return STATUS_OK;
}

/* /class_names: one fixed-length string for each of the attribute's classes. */
static Status read_class_names(Reader *reader, H5Handle data, Error *err) {
    const char *const name = CHECKPOINT_CLASS_NAMES;
    const H5Description stored = h5_describe(data);
    const uint64_t n = (uint64_t)reader->out->meta.classes;
    if (!stored.readable || stored.kind != H5_STRINGS || stored.size == 0 || stored.size > CHECKPOINT_NAME_LIMIT ||
        !is_plain(&stored) || stored.rank != 1 || n == 0 || (uint64_t)stored.count != n ||
        n > reader->bytes_left / stored.size || (uint64_t)stored.stored_bytes != n * stored.size ||
        reader->out->class_names)
        return refuse(reader, name, "is not one plain string for each class", err);
    char *text = malloc(n * stored.size);
    if (!text)
        return no_memory(reader, err);
    Status status = h5_read_texts(data, &stored, stored.count, text)
                        ? copy_class_names(reader, &stored, text, err)
                        : refuse(reader, name, "cannot be read: the file is truncated or damaged", err);
    reader->bytes_left -= n * stored.size;
    free(text);
    return status;
}

static Status grow(Reader *reader, Error *err) {
    CheckpointFile *out = reader->out;
    if (out->count < reader->capacity)
        return STATUS_OK;
    if (out->count >= CHECKPOINT_MAX_TENSORS)
        return error_set(err, STATUS_DATA, "%s holds more than %d tensors", reader->path, CHECKPOINT_MAX_TENSORS);
    int capacity = reader->capacity ? 2 * reader->capacity : 64;
    CheckpointTensor *larger = realloc(out->tensors, (size_t)capacity * sizeof *larger);
    if (!larger)
        return no_memory(reader, err);
    out->tensors = larger;
    reader->capacity = capacity;
    return STATUS_OK;
}

static Status read_tensor(Reader *reader, const char *name, H5Handle data, Error *err) {
    uint64_t bytes = 0;
    CheckpointTensor tensor = {.rank = 0};
    const H5Description stored = h5_describe(data);
    if (strlen(name) >= NAME_BYTES)
        return refuse(reader, name, "has too long a name", err);
    strcpy(tensor.name, name);
    RETURN_IF(check_tensor(reader, name, &stored, &tensor, &bytes, err));
    RETURN_IF(grow(reader, err));
    tensor.data = malloc(bytes);
    if (!tensor.data)
        return error_set(err, STATUS_SYSTEM, "no memory to load %s: /%s has %llu bytes", reader->path, tensor.name,
                         (unsigned long long)bytes);
    if (!h5_read_values(data, H5_F32, tensor.data)) {
        free(tensor.data);
        return refuse(reader, name, "cannot be read: the file is truncated or damaged", err);
    }
    reader->bytes_left -= bytes;
    reader->out->tensors[reader->out->count++] = tensor;
    return STATUS_OK;
}

static Status read_member(void *ctx, const H5Member *member, Error *err) {
    Reader *reader = ctx;
    switch (member->kind) {
    case H5_GROUP:
        return STATUS_OK;
    case H5_DATASET:
        return strcmp(member->path, CHECKPOINT_CLASS_NAMES) == 0
                   ? read_class_names(reader, member->object, err)
                   : read_tensor(reader, member->path, member->object, err);
    case H5_LINK:
        return refuse(reader, member->path, "is a soft or external link, which a checkpoint never has", err);
    case H5_OBJECT:
        break;
    }
    return refuse(reader, member->path, "is neither a group nor a dataset", err);
}

Status checkpoint_decode(char *image, size_t size, const char *path, CheckpointFile *out, Error *err) {
    Reader reader = {.path = path, .out = out, .bytes_left = size};
    const H5Walk walk = {.file = path, .depth = MAX_DEPTH, .member = read_member, .ctx = &reader};
    H5Handle file;
    *out = (CheckpointFile){0};
    RETURN_IF(h5_open_image(image, size, path, &file, err));
    Status status = checkpoint_read_meta(file, path, &out->meta, err);
    if (status == STATUS_OK)
        status = h5_walk(file, &walk, err);
    h5_close(file);
    if (status != STATUS_OK)
        checkpoint_free(out);
    return status;
}
