/* Reading and writing index.h5. See index.h. */
#include "io/dataset/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/hdf5/h5_read.h"
#include "io/hdf5/h5_write.h"

enum { MAX_SHARDS = 10000, HASH_BYTES = 65, PATH_BYTES = 1100 };
static const int64_t MAX_ROWS = (int64_t)1 << 31;

void index_shard_name(Split split, int number, char file[64]) {
    snprintf(file, 64, "%s-%04d.h5", split_name(split), number);
}

/* Nothing when no shard has a record of its pictures. */
static bool put_sources(H5Handle group, const Dataset *dataset, Split split) {
    const int64_t n = dataset->shard_count[split];
    char *sources = calloc((size_t)n + 1, HASH_BYTES);
    bool known = false;
    for (int64_t s = 0; sources && s < n; s++) {
        memcpy(sources + (size_t)s * HASH_BYTES, dataset->shards[split][s].source, HASH_BYTES);
        known = known || dataset->shards[split][s].source[0];
    }
    const bool put = sources && (!known || h5_put_strings(group, "source", n, HASH_BYTES, sources));
    free(sources);
    return put;
}

static bool put_split(H5Handle file, const Dataset *dataset, Split split) {
    const int64_t n = dataset->shard_count[split];
    int64_t *numbers = calloc((size_t)n * 2 + 1, sizeof *numbers);
    char *hashes = calloc((size_t)n + 1, HASH_BYTES);
    const H5Handle group = h5_put_group(file, split_name(split));
    bool put = numbers && hashes && group >= 0;
    for (int64_t s = 0; put && s < n; s++) {
        numbers[s] = dataset->shards[split][s].rows;
        numbers[n + s] = dataset->shards[split][s].chunk_rows;
        memcpy(hashes + (size_t)s * HASH_BYTES, dataset->shards[split][s].sha256, HASH_BYTES);
    }
    put = put && h5_put_int(group, "count", dataset->count[split]) && h5_put_int(group, "shards", n) &&
          h5_put_dataset(group, "rows", H5_I64, 1, &n, n, numbers) &&
          h5_put_dataset(group, "chunk_rows", H5_I64, 1, &n, n, numbers + n) &&
          h5_put_strings(group, "sha256", n, HASH_BYTES, hashes) && put_sources(group, dataset, split);
    h5_close(group);
    free(numbers);
    free(hashes);
    return put;
}

static bool put_class_names(H5Handle file, const Dataset *dataset) {
    char *names = calloc((size_t)dataset->classes, DATASET_NAME_BYTES);
    if (!names)
        return false;
    for (int c = 0; c < dataset->classes; c++)
        snprintf(names + (size_t)c * DATASET_NAME_BYTES, DATASET_NAME_BYTES, "%s", dataset->class_names[c]);
    const bool put = h5_put_strings(file, "class_names", dataset->classes, DATASET_NAME_BYTES, names);
    free(names);
    return put;
}

static bool put_attributes(H5Handle file, const Dataset *dataset) {
    return h5_put_int(file, "schema", DATASET_SCHEMA) && h5_put_string(file, "kind", dataset->kind) &&
           h5_put_string(file, "plan", dataset->plan) && h5_put_int(file, "classes", dataset->classes) &&
           h5_put_int(file, "height", dataset->height) && h5_put_int(file, "width", dataset->width) &&
           h5_put_int(file, "has_boxes", dataset->has_boxes) && h5_put_int(file, "has_masks", dataset->has_masks) &&
           h5_put_numbers(file, "mean", H5_F32, 3, dataset->mean) &&
           h5_put_numbers(file, "std", H5_F32, 3, dataset->std);
}

Status index_write(const Dataset *dataset, Error *err) {
    char path[PATH_BYTES];
    H5Memory memory;
    snprintf(path, sizeof path, "%s/index.h5", dataset->dir);
    RETURN_IF(h5_memory_begin(&memory, H5_FORMAT_1_10, err));
    if (put_attributes(memory.file, dataset) && put_class_names(memory.file, dataset) &&
        put_split(memory.file, dataset, SPLIT_TRAIN) && put_split(memory.file, dataset, SPLIT_VAL))
        return h5_memory_publish(&memory, path, NULL, err);
    h5_memory_drop(&memory);
    return error_set(err, STATUS_SYSTEM, "%s: cannot be built in memory", path);
}

static Status read_class_names(H5Handle file, const char *path, Dataset *dataset, Error *err) {
    const size_t n = (size_t)dataset->classes;
    char *names = malloc(n * (DATASET_NAME_BYTES + 1));
    dataset->class_names = calloc(n, sizeof *dataset->class_names);
    Status status = STATUS_OK;
    if (!names || !dataset->class_names)
        status = error_set(err, STATUS_SYSTEM, "%s: out of memory for class names", path);
    else
        status = h5_read_strings(file, path, "class_names", dataset->classes, DATASET_NAME_BYTES + 1, names, err);
    for (size_t c = 0; status == STATUS_OK && c < n; c++) {
        dataset->class_names[c] = strdup(names + c * (DATASET_NAME_BYTES + 1));
        if (!dataset->class_names[c])
            status = error_set(err, STATUS_SYSTEM, "%s: out of memory for class names", path);
    }
    free(names);
    return status;
}

static Status read_sources(H5Handle group, const char *path, Dataset *dataset, Split split, Error *err) {
    const int64_t n = dataset->shard_count[split];
    if (!h5_has(group, "source"))
        return STATUS_OK;
    char *sources = calloc((size_t)n + 1, HASH_BYTES + 1);
    Status status = sources ? h5_read_strings(group, path, "source", n, HASH_BYTES + 1, sources, err)
                            : error_set(err, STATUS_SYSTEM, "%s: out of memory for %lld shards", path, (long long)n);
    for (int64_t s = 0; status == STATUS_OK && s < n; s++)
        snprintf(dataset->shards[split][s].source, HASH_BYTES, "%s", sources + (size_t)s * (HASH_BYTES + 1));
    free(sources);
    return status;
}

/* Row counts, chunk lengths and hashes of one split, added up against its count. */
static Status read_shard_table(H5Handle group, const char *path, Dataset *dataset, Split split, Error *err) {
    const int n = dataset->shard_count[split];
    int64_t *numbers = calloc((size_t)n * 2 + 1, sizeof *numbers), first = 0;
    char *hashes = calloc((size_t)n + 1, HASH_BYTES + 1);
    ShardInfo *shards = calloc((size_t)n + 1, sizeof *shards);
    Status status = STATUS_OK;
    dataset->shards[split] = shards;
    if (!numbers || !hashes || !shards) {
        status = error_set(err, STATUS_SYSTEM, "%s: out of memory for %d shards", path, n);
        goto done;
    }
    GOTO_IF(h5_read_vector(group, path, "rows", H5_I64, n, numbers, err), done);
    GOTO_IF(h5_read_vector(group, path, "chunk_rows", H5_I64, n, numbers + n, err), done);
    GOTO_IF(h5_read_strings(group, path, "sha256", n, HASH_BYTES + 1, hashes, err), done);
    for (int s = 0; s < n; s++) {
        if (numbers[s] < 1 || numbers[s] > MAX_ROWS || numbers[n + s] < 1 || numbers[n + s] > numbers[s]) {
            status =
                error_set(err, STATUS_DATA, "%s: %s shard %d has an impossible row count", path, split_name(split), s);
            goto done;
        }
        index_shard_name(split, s, shards[s].file);
        shards[s].first = first;
        shards[s].rows = numbers[s];
        shards[s].chunk_rows = (int32_t)numbers[n + s];
        snprintf(shards[s].sha256, sizeof shards[s].sha256, "%s", hashes + (size_t)s * (HASH_BYTES + 1));
        first += numbers[s];
    }
    if (first != dataset->count[split])
        status = error_set(err, STATUS_DATA, "%s: the %s shards hold %lld rows, the index says %lld", path,
                           split_name(split), (long long)first, (long long)dataset->count[split]);
done:
    free(numbers);
    free(hashes);
    return status;
}

static Status read_split(H5Handle file, const char *path, Dataset *dataset, Split split, Error *err) {
    H5Handle group;
    int64_t shards = 0;
    RETURN_IF(h5_open_group(file, path, split_name(split), &group, err));
    Status status = h5_read_int(group, path, "count", 0, MAX_ROWS, &dataset->count[split], err);
    if (status == STATUS_OK)
        status = h5_read_int(group, path, "shards", 0, MAX_SHARDS, &shards, err);
    dataset->shard_count[split] = (int)shards;
    if (status == STATUS_OK)
        status = read_shard_table(group, path, dataset, split, err);
    if (status == STATUS_OK)
        status = read_sources(group, path, dataset, split, err);
    h5_close(group);
    return status;
}

static Status read_attributes(H5Handle file, const char *path, Dataset *dataset, Error *err) {
    int64_t schema, classes, height, width, has_boxes, has_masks;
    RETURN_IF(h5_read_int(file, path, "schema", DATASET_SCHEMA, DATASET_SCHEMA, &schema, err));
    RETURN_IF(h5_read_string(file, path, "kind", dataset->kind, sizeof dataset->kind, err));
    RETURN_IF(h5_read_string(file, path, "plan", dataset->plan, sizeof dataset->plan, err));
    RETURN_IF(h5_read_int(file, path, "classes", 1, DATASET_MAX_CLASSES, &classes, err));
    RETURN_IF(h5_read_int(file, path, "height", 1, DATASET_MAX_SIDE, &height, err));
    RETURN_IF(h5_read_int(file, path, "width", 1, DATASET_MAX_SIDE, &width, err));
    RETURN_IF(h5_read_int(file, path, "has_boxes", 0, 1, &has_boxes, err));
    RETURN_IF(h5_read_int(file, path, "has_masks", 0, 1, &has_masks, err));
    RETURN_IF(h5_read_numbers(file, path, "mean", H5_F32, 3, dataset->mean, err));
    RETURN_IF(h5_read_numbers(file, path, "std", H5_F32, 3, dataset->std, err));
    for (int c = 0; c < 3; c++)
        if (!(dataset->mean[c] >= 0 && dataset->mean[c] <= 1 && dataset->std[c] > 0 && dataset->std[c] <= 1))
            return error_set(err, STATUS_DATA, "%s: mean or std is outside 0..1", path);
    dataset->classes = (int)classes;
    dataset->height = (int)height;
    dataset->width = (int)width;
    dataset->has_boxes = (int)has_boxes;
    dataset->has_masks = (int)has_masks;
    return STATUS_OK;
}

Status index_read(Dataset *dataset, Error *err) {
    char path[PATH_BYTES];
    H5Handle file;
    snprintf(path, sizeof path, "%s/index.h5", dataset->dir);
    RETURN_IF(h5_open_file(path, "import the dataset again", &file, err));
    Status status = read_attributes(file, path, dataset, err);
    if (status == STATUS_OK)
        status = read_class_names(file, path, dataset, err);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT && status == STATUS_OK; split++)
        status = read_split(file, path, dataset, split, err);
    h5_close(file);
    if (status != STATUS_OK)
        dataset_close(dataset);
    return status;
}
