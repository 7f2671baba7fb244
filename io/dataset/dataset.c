/* Datasets: opening, checking, and choosing samples. */
#include "io/dataset/dataset.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/dataset/index.h"
#include "io/dataset/shard.h"
#include "io/files/files.h"
#include "kernels/base/philox.h"

const char *split_name(Split split) {
    return split == SPLIT_TRAIN ? "train" : "val";
}

/* A shard cannot be smaller than its images: refuses invented row counts before memory is spent on them. */
static Status check_shard_size(const Dataset *dataset, const ShardInfo *info, const char *path, Error *err) {
    struct stat file;
    if (stat(path, &file) != 0)
        return error_set(err, STATUS_DATA, "%s: shard named by index.h5 is missing; run the import again", path);
    if (info->rows > file.st_size / ((int64_t)dataset->height * dataset->width * 3))
        return error_set(err, STATUS_DATA,
                         "%s: too small for %lld images of %dx%d: truncated; import the dataset again", path,
                         (long long)info->rows, dataset->height, dataset->width);
    return STATUS_OK;
}

static Status open_shard(const Dataset *dataset, Split split, int shard, bool verify, Error *err) {
    const ShardInfo *info = &dataset->shards[split][shard];
    char path[1100], hash[65];
    ShardReader reader;
    snprintf(path, sizeof path, "%s/%s", dataset->dir, info->file);
    RETURN_IF(check_shard_size(dataset, info, path, err));
    if (verify) {
        RETURN_IF(sha256_of_file(path, hash, err));
        if (strcmp(hash, info->sha256) != 0)
            return error_set(err, STATUS_DATA, "%s: SHA-256 differs from index.h5: damaged; import the dataset again",
                             path);
    }
    RETURN_IF(shard_reader_open(&reader, dataset, split, shard, err));
    Status status = shard_reader_labels(&reader, dataset->labels[split] + info->first, err);
    shard_reader_close(&reader);
    return status;
}

static Status open_split(Dataset *dataset, Split split, bool verify, Error *err) {
    char path[1100];
    for (int s = 0; s < dataset->shard_count[split]; s++) {
        snprintf(path, sizeof path, "%s/%s", dataset->dir, dataset->shards[split][s].file);
        RETURN_IF(check_shard_size(dataset, &dataset->shards[split][s], path, err));
    }
    dataset->labels[split] = calloc((size_t)dataset->count[split] + 1, sizeof *dataset->labels[split]);
    if (!dataset->labels[split])
        return error_set(err, STATUS_SYSTEM, "%s: out of memory for labels", dataset->dir);
    for (int s = 0; s < dataset->shard_count[split]; s++)
        RETURN_IF(open_shard(dataset, split, s, verify, err));
    return STATUS_OK;
}

Status dataset_open(Dataset *dataset, const char *dir, bool verify, Error *err) {
    memset(dataset, 0, sizeof *dataset);
    if (strlen(dir) >= sizeof dataset->dir)
        return error_set(err, STATUS_NO_INPUT, "%s: path too long", dir);
    snprintf(dataset->dir, sizeof dataset->dir, "%s", dir);
    char path[1100];
    snprintf(path, sizeof path, "%s/index.h5", dir);
    if (!files_exists(dir))
        return error_set(err, STATUS_NO_INPUT, "%s: no such dataset folder; make one with 'excon import'", dir);
    if (!files_exists(path))
        return error_set(err, STATUS_NO_INPUT,
                         "%s: missing: not a dataset folder, or its import did not finish; run 'excon import' (again)",
                         path);
    dataset->mutex = malloc(sizeof *dataset->mutex);
    if (!dataset->mutex)
        return error_set(err, STATUS_SYSTEM, "%s: out of memory", dir);
    pthread_mutex_init(dataset->mutex, NULL);
    Status status = index_read(dataset, err);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT && status == STATUS_OK; split++)
        status = open_split(dataset, split, verify, err);
    if (status != STATUS_OK)
        dataset_close(dataset);
    return status;
}

void dataset_close(Dataset *dataset) {
    for (int c = 0; dataset->class_names && c < dataset->classes; c++)
        free(dataset->class_names[c]);
    free(dataset->class_names);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        free(dataset->shards[split]);
        free(dataset->labels[split]);
    }
    if (dataset->mutex)
        pthread_mutex_destroy(dataset->mutex);
    free(dataset->mutex);
    memset(dataset, 0, sizeof *dataset);
}

Status dataset_read_rows(const Dataset *dataset, Split split, int shard, int64_t first, int64_t n, uint8_t *images,
                         int16_t *boxes, uint8_t *masks, Error *err) {
    ShardReader reader;
    RETURN_IF(shard_reader_open(&reader, dataset, split, shard, err));
    Status status = shard_reader_read(&reader, first, n, images, boxes, masks, err);
    shard_reader_close(&reader);
    return status;
}

void dataset_identity(const Dataset *dataset, char hex[65]) {
    Sha256 *hash = sha256_new();
    const int64_t sizes[] = {dataset->classes, dataset->height, dataset->width};
    sha256_add(hash, sizes, sizeof sizes);
    sha256_add(hash, dataset->mean, sizeof dataset->mean);
    sha256_add(hash, dataset->std, sizeof dataset->std);
    for (int c = 0; c < dataset->classes; c++)
        sha256_add(hash, dataset->class_names[c], strlen(dataset->class_names[c]) + 1);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++)
        for (int s = 0; s < dataset->shard_count[split]; s++) {
            const ShardInfo *shard = &dataset->shards[split][s];
            const int64_t layout[] = {split, shard->first, shard->rows, shard->chunk_rows};
            sha256_add(hash, layout, sizeof layout);
            sha256_add(hash, shard->sha256, 64);
        }
    sha256_end(hash, hex);
}

Status dataset_select_classes(const Dataset *dataset, Split split, int classes, int64_t **ids, int64_t *n, Error *err) {
    if (classes < 0 || classes > dataset->classes)
        return error_set(err, STATUS_CONFIG, "%s: %d classes asked for, the dataset has %d", dataset->dir, classes,
                         dataset->classes);
    *n = 0;
    *ids = malloc(((size_t)dataset->count[split] + 1) * sizeof **ids);
    if (!*ids)
        return error_set(err, STATUS_SYSTEM, "%s: out of memory for sample ids", dataset->dir);
    for (int64_t id = 0; id < dataset->count[split]; id++)
        if (classes == 0 || dataset->labels[split][id] < classes)
            (*ids)[(*n)++] = id;
    return STATUS_OK;
}

typedef struct Ticket {
    int32_t label;
    uint64_t draw;
    int64_t position; /* in ids */
} Ticket;

static int compare_tickets(const void *a, const void *b) {
    const Ticket *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* held [n] gets 1 for the samples that go to validation. */
static void mark_held(Ticket *tickets, int64_t n, double fraction, char *held) {
    qsort(tickets, (size_t)n, sizeof *tickets, compare_tickets);
    for (int64_t first = 0, end; first < n; first = end) {
        for (end = first; end < n && tickets[end].label == tickets[first].label;)
            end++;
        const int64_t have = end - first;
        int64_t take = (int64_t)(fraction * (double)have + 0.5);
        if (have == 1 && fraction < 1)
            take = 0;
        else if (take == 0 && fraction > 0 && have > 1)
            take = 1;
        for (int64_t i = first; i < first + take && i < end; i++)
            held[tickets[i].position] = 1;
    }
}

Status dataset_hold_out(const Dataset *dataset, Split split, const int64_t *ids, int64_t n, double fraction,
                        uint64_t seed, int64_t **train_ids, int64_t *train_n, int64_t **val_ids, int64_t *val_n,
                        Error *err) {
    if (!(fraction >= 0 && fraction <= 1))
        return error_set(err, STATUS_CONFIG, "hold-out fraction %g is outside 0..1", fraction);
    const size_t room = (size_t)n + 1;
    Ticket *tickets = malloc(room * sizeof *tickets);
    char *held = calloc(room, 1);
    *train_ids = malloc(room * sizeof **train_ids);
    *val_ids = malloc(room * sizeof **val_ids);
    *train_n = *val_n = 0;
    if (!tickets || !held || !*train_ids || !*val_ids) {
        free(tickets);
        free(held);
        free(*train_ids);
        free(*val_ids);
        *train_ids = *val_ids = NULL;
        return error_set(err, STATUS_SYSTEM, "out of memory while holding out %lld samples", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        PhiloxReader reader = philox_reader(seed, PHILOX_SPLIT, (uint64_t)ids[i], 0);
        uint64_t high = philox_next(&reader);
        tickets[i] = (Ticket){dataset->labels[split][ids[i]], high << 32 | philox_next(&reader), i};
    }
    mark_held(tickets, n, fraction, held);
    for (int64_t i = 0; i < n; i++) {
        if (held[i])
            (*val_ids)[(*val_n)++] = ids[i];
        else
            (*train_ids)[(*train_n)++] = ids[i];
    }
    free(tickets);
    free(held);
    return STATUS_OK;
}
