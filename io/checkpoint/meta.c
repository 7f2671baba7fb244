/* CheckpointMeta as attributes of the root group: one table drives both directions. Strings are fixed-length and
 * 0-terminated; a variable-length one, which lives in a heap of the file, is refused. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "io/checkpoint/internal.h"

typedef enum Kind { KIND_INTEGER, KIND_DOUBLE, KIND_FLOAT3, KIND_STRING, KIND_TALLY } Kind;

typedef struct Field {
    const char *name;
    Kind kind;
    size_t offset, size; /* in CheckpointMeta; size counts for strings */
    int optional;        /* older checkpoints lack it */
} Field;

#define FIELD(name, kind)                                                                                              \
    { #name, kind, offsetof(CheckpointMeta, name), sizeof((CheckpointMeta *)0)->name, 0 }
#define LATER(name, kind)                                                                                              \
    { #name, kind, offsetof(CheckpointMeta, name), sizeof((CheckpointMeta *)0)->name, 1 }
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

static hsize_t extent_of(const Field *field) {
    return field->kind == KIND_FLOAT3 ? 3 : field->kind == KIND_TALLY ? TALLY_NUMBERS : 1;
}

static hid_t stored_type(const Field *field) {
    hid_t type = H5Tcopy(field->kind == KIND_INTEGER  ? H5T_STD_I64LE
                         : field->kind == KIND_DOUBLE ? H5T_IEEE_F64LE
                         : field->kind == KIND_TALLY  ? H5T_IEEE_F64LE
                         : field->kind == KIND_FLOAT3 ? H5T_IEEE_F32LE
                                                      : H5T_C_S1);
    if (type >= 0 && field->kind == KIND_STRING && H5Tset_size(type, field->size) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static int write_attribute(hid_t root, const char *name, hid_t type, hsize_t extent, const void *value) {
    hid_t space = extent > 1 ? H5Screate_simple(1, &extent, NULL) : H5Screate(H5S_SCALAR);
    hid_t attribute = space < 0 ? -1 : H5Acreate2(root, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int ok = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return ok;
}

Status checkpoint_write_meta(hid_t root, const CheckpointMeta *meta, Error *err) {
    const int64_t schema = CHECKPOINT_SCHEMA;
    int ok = write_attribute(root, "schema", H5T_STD_I64LE, 1, &schema);
    for (int i = 0; i < FIELDS && ok; i++) {
        const char *value = (const char *)meta + fields[i].offset;
        char padded[sizeof meta->settings] = {0};
        if (fields[i].kind == KIND_STRING && fields[i].optional && !*value)
            continue;
        if (fields[i].kind == KIND_STRING) {
            memcpy(padded, value, strnlen(value, fields[i].size - 1));
            value = padded;
        }
        hid_t type = stored_type(&fields[i]);
        ok = type >= 0 && write_attribute(root, fields[i].name, type, extent_of(&fields[i]), value);
        if (type >= 0)
            H5Tclose(type);
    }
    return ok ? STATUS_OK : error_set(err, STATUS_SYSTEM, "HDF5 could not store the attributes of a checkpoint");
}

/* 1 when an attribute's type and extent are the ones the table names; strings may be shorter than their field. */
static int attribute_fits(hid_t type, hid_t space, const Field *field) {
    size_t size = H5Tget_size(type);
    hssize_t values = H5Sget_simple_extent_type(space) == H5S_NULL ? 0 : H5Sget_simple_extent_npoints(space);
    if (values != (hssize_t)extent_of(field) || size == 0)
        return 0;
    switch (field->kind) {
    case KIND_INTEGER:
        return H5Tget_class(type) == H5T_INTEGER && size <= sizeof(int64_t);
    case KIND_DOUBLE:
    case KIND_TALLY:
    case KIND_FLOAT3:
        return H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F32LE) > 0;
    case KIND_STRING:
        return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && size <= field->size;
    }
    return 0;
}

static int read_string(hid_t attribute, const Field *field, char *value) {
    hid_t memory = stored_type(field);
    int ok = memory >= 0 && H5Tset_strpad(memory, H5T_STR_NULLTERM) >= 0 && H5Aread(attribute, memory, value) >= 0;
    value[field->size - 1] = 0;
    if (memory >= 0)
        H5Tclose(memory);
    return ok;
}

static int read_field(hid_t root, const Field *field, void *value) {
    hid_t attribute = H5Aopen(root, field->name, H5P_DEFAULT);
    if (attribute < 0)
        return 0;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    int ok = type >= 0 && space >= 0 && attribute_fits(type, space, field);
    if (ok && field->kind == KIND_STRING)
        ok = read_string(attribute, field, value);
    else if (ok)
        ok = H5Aread(attribute,
                     field->kind == KIND_INTEGER  ? H5T_NATIVE_INT64
                     : field->kind == KIND_FLOAT3 ? H5T_NATIVE_FLOAT
                                                  : H5T_NATIVE_DOUBLE,
                     value) >= 0;
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    H5Aclose(attribute);
    return ok;
}

static int meta_sane(const CheckpointMeta *meta) {
    const int64_t limit = INT64_C(1) << 48;
    const int64_t counts[] = {meta->step,  meta->epoch,   meta->cursor,     meta->world_size,
                              meta->width, meta->classes, meta->image_size, meta->projection};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] < 0 || counts[i] > limit)
            return 0;
    for (int c = 0; c < 3; c++)
        if (!isfinite(meta->mean[c]) || !isfinite(meta->std[c]))
            return 0;
    const CheckpointTally *t = &meta->tally;
    const double sums[] = {t->steps,      t->skipped,    t->accepted,        t->masked,
                           t->background, t->loss_steps, t->classifier_steps};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        if (!(sums[i] >= 0 && sums[i] <= (double)limit))
            return 0;
    if (!isfinite(t->loss) || !isfinite(t->classifier_loss))
        return 0;
    return meta->phase >= 0 && meta->phase <= 1 && meta->finished >= 0 && meta->finished <= 1 &&
           meta->best_step >= -1 && meta->best_step <= limit && isfinite(meta->best);
}

Status checkpoint_read_meta(hid_t root, const char *path, CheckpointMeta *meta, Error *err) {
    static const Field schema_field = {"schema", KIND_INTEGER, 0, sizeof(int64_t), 0};
    int64_t schema = 0;
    memset(meta, 0, sizeof *meta);
    if (!read_field(root, &schema_field, &schema))
        return error_set(err, STATUS_DATA, "%s is not a checkpoint: it has no attribute schema", path);
    if (schema != CHECKPOINT_SCHEMA)
        return error_set(err, STATUS_DATA, "%s has checkpoint schema %lld, this program reads %d", path,
                         (long long)schema, CHECKPOINT_SCHEMA);
    for (int i = 0; i < FIELDS; i++)
        if (!(fields[i].optional && H5Aexists(root, fields[i].name) == 0) &&
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
