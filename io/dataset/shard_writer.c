/* Writing a shard: built in memory, hashed, published atomically. */
#include <stdio.h>
#include <stdlib.h>

#include "io/dataset/shard.h"
#include "io/hdf5/h5_write.h"

static bool put_rows(H5Handle file, const Dataset *dataset, const ShardInfo *info, const ShardRows *rows) {
    const int64_t n = info->rows, chunk = info->chunk_rows;
    const int64_t image_dims[4] = {n, dataset->height, dataset->width, 3}, box_dims[2] = {n, 4};
    int64_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids)
        return false;
    for (int64_t i = 0; i < n; i++)
        ids[i] = info->first + i;
    const bool put = h5_put_dataset(file, "images", H5_U8, 4, image_dims, chunk, rows->images) &&
                     h5_put_dataset(file, "labels", H5_I32, 1, &n, n, rows->labels) &&
                     h5_put_dataset(file, "ids", H5_I64, 1, &n, n, ids) &&
                     (!rows->boxes || h5_put_dataset(file, "boxes", H5_I16, 2, box_dims, chunk, rows->boxes)) &&
                     (!rows->masks || h5_put_dataset(file, "masks", H5_U8, 3, image_dims, chunk, rows->masks));
    free(ids);
    return put;
}

static bool put_attributes(H5Handle file, const Dataset *dataset, Split split) {
    return h5_put_int(file, "schema", DATASET_SCHEMA) && h5_put_string(file, "split", split_name(split)) &&
           h5_put_int(file, "classes", dataset->classes) && h5_put_numbers(file, "mean", H5_F32, 3, dataset->mean) &&
           h5_put_numbers(file, "std", H5_F32, 3, dataset->std);
}

Status shard_write(const Dataset *dataset, Split split, ShardInfo *info, const ShardRows *rows, Error *err) {
    char path[1100];
    H5Memory memory;
    snprintf(path, sizeof path, "%s/%s", dataset->dir, info->file);
    pthread_mutex_lock(dataset->mutex);
    Status status = h5_memory_begin(&memory, H5_FORMAT_1_10, err);
    if (status == STATUS_OK &&
        !(put_attributes(memory.file, dataset, split) && put_rows(memory.file, dataset, info, rows))) {
        h5_memory_drop(&memory);
        status = error_set(err, STATUS_SYSTEM, "%s: out of memory while building the shard", path);
    } else if (status == STATUS_OK)
        status = h5_memory_publish(&memory, path, info->sha256, err);
    pthread_mutex_unlock(dataset->mutex);
    return status;
}
