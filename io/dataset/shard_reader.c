/* Reading a shard. Handles are opened once and checked against schema and index; each read stays within one chunk, so a
 * failure can name it. The library's chunk cache is off: callers read whole chunks and keep what they need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset/shard.h"
#include "io/hdf5/h5_read.h"

static Status check_attributes(const ShardReader *reader, Split split, Error *err) {
    const Dataset *dataset = reader->dataset;
    const char *path = reader->path;
    char name[16];
    int64_t value;
    float numbers[3];
    RETURN_IF(h5_read_int(reader->file, path, "schema", DATASET_SCHEMA, DATASET_SCHEMA, &value, err));
    RETURN_IF(h5_read_int(reader->file, path, "classes", dataset->classes, dataset->classes, &value, err));
    RETURN_IF(h5_read_string(reader->file, path, "split", name, sizeof name, err));
    if (strcmp(name, split_name(split)) != 0)
        return error_set(err, STATUS_DATA, "%s: belongs to split '%s', not '%s'", path, name, split_name(split));
    RETURN_IF(h5_read_numbers(reader->file, path, "mean", H5_F32, 3, numbers, err));
    if (memcmp(numbers, dataset->mean, sizeof numbers) != 0)
        return error_set(err, STATUS_DATA, "%s: its mean differs from the index's", path);
    RETURN_IF(h5_read_numbers(reader->file, path, "std", H5_F32, 3, numbers, err));
    if (memcmp(numbers, dataset->std, sizeof numbers) != 0)
        return error_set(err, STATUS_DATA, "%s: its std differs from the index's", path);
    return STATUS_OK;
}

static Status open_datasets(ShardReader *reader, Error *err) {
    const Dataset *dataset = reader->dataset;
    int64_t images[4] = {reader->info->rows, dataset->height, dataset->width, 3}, boxes[2] = {images[0], 4}, chunk[4];
    RETURN_IF(h5_open_dataset(reader->file, reader->path, "images", H5_U8, 4, images, chunk, &reader->images, err));
    if (chunk[0] != reader->info->chunk_rows || chunk[1] != images[1] || chunk[2] != images[2] || chunk[3] != 3)
        return error_set(err, STATUS_DATA, "%s: /images is not chunked by %d whole images", reader->path,
                         reader->info->chunk_rows);
    if (dataset->has_boxes)
        RETURN_IF(h5_open_dataset(reader->file, reader->path, "boxes", H5_I16, 2, boxes, NULL, &reader->boxes, err));
    if (dataset->has_masks)
        RETURN_IF(h5_open_dataset(reader->file, reader->path, "masks", H5_U8, 3, images, NULL, &reader->masks, err));
    return STATUS_OK;
}

static void close_handles(ShardReader *reader) {
    h5_close(reader->masks);
    h5_close(reader->boxes);
    h5_close(reader->images);
    h5_close(reader->file);
    reader->file = reader->images = reader->boxes = reader->masks = -1;
}

Status shard_reader_open(ShardReader *reader, const Dataset *dataset, Split split, int shard, Error *err) {
    *reader = (ShardReader){.dataset = dataset, .info = &dataset->shards[split][shard]};
    reader->file = reader->images = reader->boxes = reader->masks = -1;
    snprintf(reader->path, sizeof reader->path, "%s/%s", dataset->dir, reader->info->file);
    pthread_mutex_lock(dataset->mutex);
    Status status = h5_open_file(reader->path, "import the dataset again", &reader->file, err);
    if (status == STATUS_OK)
        status = check_attributes(reader, split, err);
    if (status == STATUS_OK)
        status = open_datasets(reader, err);
    if (status != STATUS_OK)
        close_handles(reader);
    pthread_mutex_unlock(dataset->mutex);
    return status;
}

void shard_reader_close(ShardReader *reader) {
    if (!reader->dataset)
        return;
    pthread_mutex_lock(reader->dataset->mutex);
    close_handles(reader);
    pthread_mutex_unlock(reader->dataset->mutex);
    reader->dataset = NULL;
}

static Status read_within_chunk(const ShardReader *reader, int64_t first, int64_t n, uint8_t *images, int16_t *boxes,
                                uint8_t *masks, Error *err) {
    const int64_t image_tail[3] = {reader->dataset->height, reader->dataset->width, 3}, box_tail[1] = {4};
    const char *failed = NULL;
    if (!h5_read_rows(reader->images, H5_U8, 4, image_tail, first, n, images))
        failed = "images";
    else if (boxes && reader->boxes >= 0 && !h5_read_rows(reader->boxes, H5_I16, 2, box_tail, first, n, boxes))
        failed = "boxes";
    else if (masks && reader->masks >= 0 && !h5_read_rows(reader->masks, H5_U8, 3, image_tail, first, n, masks))
        failed = "masks";
    if (boxes && reader->boxes < 0)
        memset(boxes, 0, (size_t)n * 4 * sizeof *boxes);
    if (masks && reader->masks < 0)
        memset(masks, 0, (size_t)(n * image_tail[0] * image_tail[1]));
    if (!failed)
        return STATUS_OK;
    const int64_t chunk = first / reader->info->chunk_rows, chunk_first = chunk * reader->info->chunk_rows;
    int64_t chunk_last = chunk_first + reader->info->chunk_rows - 1;
    chunk_last = chunk_last < reader->info->rows ? chunk_last : reader->info->rows - 1;
    return error_set(err, STATUS_DATA,
                     "%s: /%s chunk %lld (rows %lld to %lld) is damaged: its checksum does not match or it cannot be "
                     "read; import the dataset again",
                     reader->path, failed, (long long)chunk, (long long)chunk_first, (long long)chunk_last);
}

Status shard_reader_read(const ShardReader *reader, int64_t first, int64_t n, uint8_t *images, int16_t *boxes,
                         uint8_t *masks, Error *err) {
    const int64_t chunk_rows = reader->info->chunk_rows;
    const int64_t pixels = (int64_t)reader->dataset->height * reader->dataset->width;
    if (first < 0 || n < 0 || n > reader->info->rows - first)
        return error_set(err, STATUS_INTERNAL, "%s: rows %lld + %lld asked of %lld", reader->path, (long long)first,
                         (long long)n, (long long)reader->info->rows);
    Status status = STATUS_OK;
    pthread_mutex_lock(reader->dataset->mutex);
    while (n > 0 && status == STATUS_OK) {
        int64_t part = chunk_rows - first % chunk_rows;
        part = part < n ? part : n;
        status = read_within_chunk(reader, first, part, images, boxes, masks, err);
        images += part * pixels * 3;
        boxes = boxes ? boxes + part * 4 : NULL;
        masks = masks ? masks + part * pixels : NULL;
        first += part;
        n -= part;
    }
    pthread_mutex_unlock(reader->dataset->mutex);
    return status;
}

Status shard_reader_labels(const ShardReader *reader, int32_t *labels, Error *err) {
    const int64_t n = reader->info->rows;
    int64_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids)
        return error_set(err, STATUS_SYSTEM, "%s: out of memory for ids", reader->path);
    pthread_mutex_lock(reader->dataset->mutex);
    Status status = h5_read_vector(reader->file, reader->path, "labels", H5_I32, n, labels, err);
    if (status == STATUS_OK)
        status = h5_read_vector(reader->file, reader->path, "ids", H5_I64, n, ids, err);
    pthread_mutex_unlock(reader->dataset->mutex);
    for (int64_t i = 0; i < n && status == STATUS_OK; i++) {
        if (ids[i] != reader->info->first + i)
            status = error_set(err, STATUS_DATA, "%s: row %lld has id %lld, expected %lld", reader->path, (long long)i,
                               (long long)ids[i], (long long)(reader->info->first + i));
        else if (labels[i] < 0 || labels[i] >= reader->dataset->classes)
            status = error_set(err, STATUS_DATA, "%s: row %lld has label %d, outside 0..%d", reader->path, (long long)i,
                               labels[i], reader->dataset->classes - 1);
    }
    free(ids);
    return status;
}
