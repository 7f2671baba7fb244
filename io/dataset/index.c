/* Reading and writing index.h5. See index.h. */
#include "io/dataset/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset/h5_checked.h"
#include "io/dataset/h5_memory.h"

enum { MAX_SHARDS = 10000, HASH_BYTES = 65, PATH_BYTES = 1100 };
static const int64_t MAX_ROWS = (int64_t)1 << 31;

void index_shard_name(Split split, int number, char file[64]) {
    snprintf(file, 64, "%s-%04d.h5", split_name(split), number);
}

/* Nothing when no shard has a record of its pictures. */
static int put_sources(hid_t group, const Dataset *dataset, Split split) {
    const int64_t n = dataset->shard_count[split];
    char *sources = calloc((size_t)n + 1, HASH_BYTES);
    int known = 0;
    for (int64_t s = 0; sources && s < n; s++) {
        memcpy(sources + (size_t)s * HASH_BYTES, dataset->shards[split][s].source, HASH_BYTES);
        known |= dataset->shards[split][s].source[0];
    }
    const int failed = !sources || (known && h5_put_strings(group, "source", n, HASH_BYTES, sources));
    free(sources);
    return failed;
}

static int put_split(hid_t file, const Dataset *dataset, Split split) {
    const int shards = dataset->shard_count[split];
    int64_t *numbers = calloc((size_t)shards * 2 + 1, sizeof *numbers);
    char *hashes = calloc((size_t)shards + 1, HASH_BYTES);
    hid_t group = h5_put_group(file, split_name(split));
    int failed = !numbers || !hashes || group < 0;
    const int64_t n = shards;
    for (int s = 0; !failed && s < shards; s++) {
        numbers[s] = dataset->shards[split][s].rows;
        numbers[shards + s] = dataset->shards[split][s].chunk_rows;
        memcpy(hashes + (size_t)s * HASH_BYTES, dataset->shards[split][s].sha256, HASH_BYTES);
    }
    failed = failed || h5_put_int(group, "count", dataset->count[split]) || h5_put_int(group, "shards", n) ||
             h5_put_dataset(group, "rows", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &n, n, numbers) ||
             h5_put_dataset(group, "chunk_rows", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &n, n, numbers + shards) ||
             h5_put_strings(group, "sha256", n, HASH_BYTES, hashes) || put_sources(group, dataset, split);
    if (group >= 0)
        H5Gclose(group);
    free(numbers);
    free(hashes);
    return failed;
}

static int put_class_names(hid_t file, const Dataset *dataset) {
    char *names = calloc((size_t)dataset->classes, DATASET_NAME_BYTES);
    if (!names)
        return -1;
    for (int c = 0; c < dataset->classes; c++)
        snprintf(names + (size_t)c * DATASET_NAME_BYTES, DATASET_NAME_BYTES, "%s", dataset->class_names[c]);
    int failed = h5_put_strings(file, "class_names", dataset->classes, DATASET_NAME_BYTES, names);
    free(names);
    return failed;
}

Status index_write(const Dataset *dataset, Error *err) {
    char path[PATH_BYTES];
    H5Memory memory;
    snprintf(path, sizeof path, "%s/index.h5", dataset->dir);
    RETURN_IF(h5_memory_begin(&memory, err));
    const hid_t file = memory.file;
    int failed =
        h5_put_int(file, "schema", DATASET_SCHEMA) || h5_put_string(file, "kind", dataset->kind) ||
        h5_put_string(file, "plan", dataset->plan) || h5_put_int(file, "classes", dataset->classes) ||
        h5_put_int(file, "height", dataset->height) || h5_put_int(file, "width", dataset->width) ||
        h5_put_int(file, "has_boxes", dataset->has_boxes) || h5_put_int(file, "has_masks", dataset->has_masks) ||
        h5_put_numbers(file, "mean", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, dataset->mean) ||
        h5_put_numbers(file, "std", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, dataset->std) ||
        put_class_names(file, dataset) || put_split(file, dataset, SPLIT_TRAIN) || put_split(file, dataset, SPLIT_VAL);
    if (failed) {
        h5_memory_drop(&memory);
        return error_set(err, STATUS_SYSTEM, "%s: cannot be built in memory", path);
    }
    return h5_memory_publish(&memory, path, NULL, err);
}

static Status read_class_names(hid_t file, const char *path, Dataset *dataset, Error *err) {
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

static Status read_sources(hid_t group, const char *path, Dataset *dataset, Split split, Error *err) {
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
static Status read_shard_table(hid_t group, const char *path, Dataset *dataset, Split split, Error *err) {
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
    GOTO_IF(h5_read_vector(group, path, "rows", H5T_STD_I64LE, H5T_NATIVE_INT64, n, numbers, err), done);
    GOTO_IF(h5_read_vector(group, path, "chunk_rows", H5T_STD_I64LE, H5T_NATIVE_INT64, n, numbers + n, err), done);
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

static Status read_split(hid_t file, const char *path, Dataset *dataset, Split split, Error *err) {
    hid_t group;
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
    H5Gclose(group);
    return status;
}

static Status read_attributes(hid_t file, const char *path, Dataset *dataset, Error *err) {
    int64_t schema, classes, height, width, has_boxes, has_masks;
    RETURN_IF(h5_read_int(file, path, "schema", DATASET_SCHEMA, DATASET_SCHEMA, &schema, err));
    RETURN_IF(h5_read_string(file, path, "kind", dataset->kind, sizeof dataset->kind, err));
    RETURN_IF(h5_read_string(file, path, "plan", dataset->plan, sizeof dataset->plan, err));
    RETURN_IF(h5_read_int(file, path, "classes", 1, DATASET_MAX_CLASSES, &classes, err));
    RETURN_IF(h5_read_int(file, path, "height", 1, DATASET_MAX_SIDE, &height, err));
    RETURN_IF(h5_read_int(file, path, "width", 1, DATASET_MAX_SIDE, &width, err));
    RETURN_IF(h5_read_int(file, path, "has_boxes", 0, 1, &has_boxes, err));
    RETURN_IF(h5_read_int(file, path, "has_masks", 0, 1, &has_masks, err));
    RETURN_IF(h5_read_numbers(file, path, "mean", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, dataset->mean, err));
    RETURN_IF(h5_read_numbers(file, path, "std", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, dataset->std, err));
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
    hid_t file;
    snprintf(path, sizeof path, "%s/index.h5", dataset->dir);
    RETURN_IF(h5_open_file(path, "import the dataset again", &file, err));
    Status status = read_attributes(file, path, dataset, err);
    if (status == STATUS_OK)
        status = read_class_names(file, path, dataset, err);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT && status == STATUS_OK; split++)
        status = read_split(file, path, dataset, split, err);
    H5Fclose(file);
    return status;
}
