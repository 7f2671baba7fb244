/* CheckpointMeta as attributes of the root group: one table drives both directions. Strings are fixed-length and
 * 0-terminated; a variable-length one, which lives in a heap of the file, is refused. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/hdf5/h5_describe.h"
#include "io/hdf5/h5_read.h"
#include "io/hdf5/h5_write.h"

typedef enum Kind { KIND_INTEGER, KIND_DOUBLE, KIND_FLOAT3, KIND_STRING, KIND_TALLY } Kind;

typedef struct Field {
    const char *name;
    Kind kind;
    size_t offset, size; /* in CheckpointMeta; size counts for strings */
    bool optional;       /* older checkpoints lack it */
} Field;

#define FIELD(name, kind)                                                                                              \
    { #name, kind, offsetof(CheckpointMeta, name), sizeof((CheckpointMeta *)0)->name, false }
#define LATER(name, kind)                                                                                              \
    { #name, kind, offsetof(CheckpointMeta, name), sizeof((CheckpointMeta *)0)->name, true }
static const Field fields[] = {
    FIELD(step, KIND_INTEGER),    FIELD(epoch, KIND_INTEGER),      FIELD(cursor, KIND_INTEGER),
    FIELD(phase, KIND_INTEGER),   FIELD(world_size, KIND_INTEGER), FIELD(finished, KIND_INTEGER),
    FIELD(best, KIND_DOUBLE),     FIELD(best_step, KIND_INTEGER),  FIELD(config_hash, KIND_STRING),
    FIELD(method, KIND_STRING),   FIELD(encoder, KIND_STRING),     FIELD(width, KIND_INTEGER),
    FIELD(classes, KIND_INTEGER), FIELD(image_size, KIND_INTEGER), FIELD(projection, KIND_INTEGER),
    FIELD(mean, KIND_FLOAT3),     FIELD(std, KIND_FLOAT3),         LATER(data_hash, KIND_STRING),
    LATER(settings, KIND_STRING), LATER(tally, KIND_TALLY),
};
enum { FIELDS = sizeof fields / sizeof *fields };

enum { TALLY_NUMBERS = sizeof(CheckpointTally) / sizeof(double) };

static int64_t extent_of(const Field *field) {
    return field->kind == KIND_FLOAT3 ? 3 : field->kind == KIND_TALLY ? TALLY_NUMBERS : 1;
}

/* Of the value in the struct; strings are none. */
static H5Number number_of(const Field *field) {
    switch (field->kind) {
    case KIND_INTEGER:
        return H5_I64;
    case KIND_DOUBLE:
    case KIND_TALLY:
        return H5_F64;
    case KIND_FLOAT3:
        return H5_F32;
    case KIND_STRING:
        break;
    }
    return H5_NUMBERS;
}

Status checkpoint_write_meta(H5Handle root, const CheckpointMeta *meta, Error *err) {
    bool put = h5_put_int(root, "schema", CHECKPOINT_SCHEMA);
    for (int i = 0; i < FIELDS && put; i++) {
        const char *value = (const char *)meta + fields[i].offset;
        if (fields[i].kind != KIND_STRING)
            put = h5_put_numbers(root, fields[i].name, number_of(&fields[i]), extent_of(&fields[i]), value);
        else if (!fields[i].optional || *value)
            put = h5_put_field(root, fields[i].name, value, fields[i].size);
    }
    return put ? STATUS_OK : error_set(err, STATUS_SYSTEM, "HDF5 could not store the attributes of a checkpoint");
}

/* Are an attribute's type and extent the ones the table names? Strings may be shorter than their field. */
static bool attribute_fits(const H5Description *stored, const Field *field) {
    if (!stored->readable || stored->count != extent_of(field) || stored->size == 0)
        return false;
    switch (field->kind) {
    case KIND_INTEGER:
        return stored->kind == H5_INTEGERS && stored->size <= sizeof(int64_t);
    case KIND_DOUBLE:
    case KIND_TALLY:
    case KIND_FLOAT3:
        return stored->number == H5_F64 || stored->number == H5_F32;
    case KIND_STRING:
        return stored->kind == H5_STRINGS && !stored->utf8 && stored->size <= field->size;
    }
    return false;
}

static bool read_string(H5Handle attribute, const H5Description *stored, const Field *field, char *value) {
    memset(value, 0, field->size);
    if (!h5_read_texts(attribute, stored, 1, value))
        return false;
    const size_t length = h5_text_length(stored, value);
    memset(value + length, 0, field->size - length);
    value[field->size - 1] = 0;
    return true;
}

static bool read_field(H5Handle root, const Field *field, void *value) {
    const H5Handle attribute = h5_open_attribute(root, field->name);
    if (attribute < 0)
        return false;
    const H5Description stored = h5_describe(attribute);
    bool read = attribute_fits(&stored, field);
    if (read && field->kind == KIND_STRING)
        read = read_string(attribute, &stored, field, value);
    else if (read)
        read = h5_read_values(attribute, number_of(field), value);
    h5_close(attribute);
    return read;
}

static bool meta_sane(const CheckpointMeta *meta) {
    const int64_t limit = INT64_C(1) << 48;
    const int64_t counts[] = {meta->step,  meta->epoch,   meta->cursor,     meta->world_size,
                              meta->width, meta->classes, meta->image_size, meta->projection};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] < 0 || counts[i] > limit)
            return false;
    for (int c = 0; c < 3; c++)
        if (!isfinite(meta->mean[c]) || !isfinite(meta->std[c]))
            return false;
    const CheckpointTally *t = &meta->tally;
    const double sums[] = {t->steps,      t->skipped,    t->accepted,        t->masked,
                           t->background, t->loss_steps, t->classifier_steps};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        if (!(sums[i] >= 0 && sums[i] <= (double)limit))
            return false;
    if (!isfinite(t->loss) || !isfinite(t->classifier_loss))
        return false;
    return meta->phase >= 0 && meta->phase <= 1 && meta->finished >= 0 && meta->finished <= 1 &&
           meta->best_step >= -1 && meta->best_step <= limit && isfinite(meta->best);
}

Status checkpoint_read_meta(H5Handle root, const char *path, CheckpointMeta *meta, Error *err) {
    static const Field schema_field = {"schema", KIND_INTEGER, 0, sizeof(int64_t), false};
    int64_t schema = 0;
    memset(meta, 0, sizeof *meta);
    if (!read_field(root, &schema_field, &schema))
        return error_set(err, STATUS_DATA, "%s is not a checkpoint: it has no attribute schema", path);
    if (schema != CHECKPOINT_SCHEMA)
        return error_set(err, STATUS_DATA, "%s has checkpoint schema %lld, this program reads %d", path,
                         (long long)schema, CHECKPOINT_SCHEMA);
    for (int i = 0; i < FIELDS; i++)
        if (!(fields[i].optional && !h5_has_attribute(root, fields[i].name)) &&
            !read_field(root, &fields[i], (char *)meta + fields[i].offset))
            return error_set(err, STATUS_DATA, "%s: attribute %s is missing or of the wrong type", path,
                             fields[i].name);
    if (!meta_sane(meta))
        return error_set(err, STATUS_DATA, "%s: attributes out of range (step %lld, epoch %lld, cursor %lld)", path,
                         (long long)meta->step, (long long)meta->epoch, (long long)meta->cursor);
    return STATUS_OK;
}

int64_t checkpoint_epoch(const CheckpointMeta *meta) {
    return meta->cursor > 0 || meta->phase == 1 ? meta->epoch : meta->epoch - 1;
}
