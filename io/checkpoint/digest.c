/* The digest: what training state is, apart from how it is stored. Fed in this order, integers as little-endian int64:
 * step, epoch, cursor, phase, tensor count; then by name (strcmp order) name with its 0, rank, extents, float32 values.
 */
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/files/files.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are hashed and stored as they lie in memory");

static int by_name(const void *a, const void *b) {
    const CheckpointTensor *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static void add_integer(Sha256 *hash, int64_t value) {
    sha256_add(hash, &value, sizeof value);
}

Status checkpoint_digest(const CheckpointFile *file, char hex[65], Error *err) {
    const CheckpointTensor **sorted = calloc((size_t)file->count + 1, sizeof *sorted);
    hex[0] = 0;
    if (!sorted)
        return error_set(err, STATUS_SYSTEM, "no memory to hash a checkpoint");
    for (int i = 0; i < file->count; i++)
        sorted[i] = &file->tensors[i];
    qsort(sorted, (size_t)file->count, sizeof *sorted, by_name);
    Sha256 *hash = sha256_new();
    const int64_t cursor[] = {file->meta.step, file->meta.epoch, file->meta.cursor, file->meta.phase, file->count};
    sha256_add(hash, cursor, sizeof cursor);
    for (int i = 0; i < file->count; i++) {
        size_t values = 1;
        sha256_add(hash, sorted[i]->name, strlen(sorted[i]->name) + 1);
        add_integer(hash, sorted[i]->rank);
        for (int d = 0; d < sorted[i]->rank; d++) {
            add_integer(hash, sorted[i]->shape[d]);
            values *= (size_t)sorted[i]->shape[d];
        }
        sha256_add(hash, sorted[i]->data, values * sizeof(float));
    }
    sha256_end(hash, hex);
    free(sorted);
    return hex[0] ? STATUS_OK : error_set(err, STATUS_SYSTEM, "no memory to hash a checkpoint");
}

const CheckpointTensor *checkpoint_find(const CheckpointFile *file, const char *name) {
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

void checkpoint_free(CheckpointFile *file) {
    for (int64_t c = 0; file->class_names && c < file->meta.classes; c++)
        free(file->class_names[c]);
    free(file->class_names);
    for (int i = 0; i < file->count; i++)
        free(file->tensors[i].data);
    free(file->tensors);
    *file = (CheckpointFile){0};
}
