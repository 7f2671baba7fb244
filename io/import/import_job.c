/* The shared part of every import. See import_job.h. */
#include "io/import/import_job.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/dataset/index.h"
#include "io/dataset/shard.h"
#include "io/files/files.h"
#include "io/loader/order.h"
#include "kernels/base/clock.h"
#include "kernels/base/processors.h"

enum { DEFAULT_SHARD_ROWS = 8192, DEFAULT_CHUNK_ROWS = 64, SHARD_BYTES = 128 << 20, PARTIAL_LIMIT = 4 << 20 };
enum { HASH_BYTES = 65, STRIDE = 1024 };
static const uint64_t STORAGE_SEED = 20211129;

typedef struct Job {
    const ImportSource *source;
    const ImportOptions *options;
    Dataset dataset; /* being made: shards are added as they finish; class_names borrowed */
    int64_t shard_rows, chunk_rows, done, made, total;
    int threads;
    char *finished; /* text of import.partial below its first line */
    size_t finished_size;
    double start, reported;
    uint8_t *images, *masks;
    int16_t *boxes;
    int32_t *labels;
    char (*digests)[HASH_BYTES]; /* of the pictures of the shard in hand, when the source has digests */
} Job;

static void report(Job *job, const char *stage, int64_t done, bool always) {
    double seconds = clock_seconds() - job->start;
    if (!job->options->progress || (!always && seconds - job->reported < 0.2))
        return;
    job->reported = seconds;
    job->options->progress(job->options->progress_ctx, stage, done, job->total, seconds);
}

static void choose_rows(Job *job) {
    const int64_t image_bytes = (int64_t)job->source->height * job->source->width * 3;
    int64_t rows = job->options->shard_rows > 0 ? job->options->shard_rows : DEFAULT_SHARD_ROWS;
    job->chunk_rows = job->options->chunk_rows > 0 ? job->options->chunk_rows : DEFAULT_CHUNK_ROWS;
    if (job->options->shard_rows <= 0 && rows * image_bytes > SHARD_BYTES)
        rows = SHARD_BYTES / image_bytes;
    job->shard_rows = (rows + job->chunk_rows - 1) / job->chunk_rows * job->chunk_rows;
}

/* The source's plan and the storage parameters, hashed. */
static void hash_plan(Job *job) {
    char text[256];
    int n =
        snprintf(text, sizeof text, "%s schema %d rows %lld chunk %lld seed %llu", job->source->plan, DATASET_SCHEMA,
                 (long long)job->shard_rows, (long long)job->chunk_rows, (unsigned long long)STORAGE_SEED);
    sha256_of(text, (size_t)n, job->dataset.plan);
}

static Status fill_dataset(Job *job, const char *dst, Error *err) {
    const ImportSource *source = job->source;
    Dataset *dataset = &job->dataset;
    if (strlen(dst) >= sizeof dataset->dir)
        return error_set(err, STATUS_CANNOT_CREATE, "%s: path too long", dst);
    snprintf(dataset->dir, sizeof dataset->dir, "%s", dst);
    snprintf(dataset->kind, sizeof dataset->kind, "%s", source->kind);
    dataset->classes = source->classes;
    dataset->height = source->height;
    dataset->width = source->width;
    memcpy(dataset->mean, source->mean, sizeof dataset->mean);
    memcpy(dataset->std, source->std, sizeof dataset->std);
    dataset->class_names = source->class_names;
    dataset->has_boxes = source->has_boxes;
    dataset->has_masks = source->has_masks;
    dataset->mutex = malloc(sizeof *dataset->mutex);
    if (!dataset->mutex)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    pthread_mutex_init(dataset->mutex, NULL);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        int64_t shards = (source->count[split] + job->shard_rows - 1) / job->shard_rows;
        dataset->count[split] = source->count[split];
        dataset->shard_count[split] = (int)shards;
        dataset->shards[split] = calloc((size_t)shards + 1, sizeof *dataset->shards[split]);
        if (!dataset->shards[split])
            return error_set(err, STATUS_SYSTEM, "out of memory");
        for (int s = 0; s < (int)shards; s++) {
            ShardInfo *info = &dataset->shards[split][s];
            index_shard_name(split, s, info->file);
            info->first = s * job->shard_rows;
            info->rows = source->count[split] - info->first;
            info->rows = info->rows < job->shard_rows ? info->rows : job->shard_rows;
            info->chunk_rows = (int32_t)(job->chunk_rows < info->rows ? job->chunk_rows : info->rows);
        }
    }
    return STATUS_OK;
}

/* Rows of the largest shard. */
static int64_t most_rows(const Job *job) {
    const int64_t *count = job->source->count;
    const int64_t most = count[SPLIT_TRAIN] > count[SPLIT_VAL] ? count[SPLIT_TRAIN] : count[SPLIT_VAL];
    return most < job->shard_rows ? most : job->shard_rows;
}

static Status allocate_rows(Job *job, Error *err) {
    const size_t rows = (size_t)most_rows(job) + 1, pixels = (size_t)job->source->height * (size_t)job->source->width;
    job->images = malloc(rows * pixels * 3);
    job->labels = malloc(rows * sizeof *job->labels);
    job->boxes = job->source->has_boxes ? malloc(rows * 4 * sizeof *job->boxes) : NULL;
    job->masks = job->source->has_masks ? malloc(rows * pixels) : NULL;
    if (!job->images || !job->labels || (job->source->has_boxes && !job->boxes) ||
        (job->source->has_masks && !job->masks))
        return error_set(err, STATUS_SYSTEM, "out of memory for a shard of %zu rows", rows);
    return STATUS_OK;
}

static Status allocate_digests(Job *job, Error *err) {
    if (!job->source->has_digests || job->digests)
        return STATUS_OK;
    job->digests = malloc((size_t)(most_rows(job) + 1) * sizeof *job->digests);
    return job->digests ? STATUS_OK : error_set(err, STATUS_SYSTEM, "out of memory for the pictures' checksums");
}

static void free_job(Job *job) {
    free(job->digests);
    free(job->images);
    free(job->labels);
    free(job->boxes);
    free(job->masks);
    free(job->finished);
    job->dataset.class_names = NULL;
    dataset_close(&job->dataset);
}

/* ---- the list of finished shards ---- */

static void partial_path(const Job *job, char path[1100]) {
    snprintf(path, 1100, "%s/import.partial", job->dataset.dir);
}

/* Reads the list of an earlier run; it is dropped when its plan is another one. */
static Status read_partial(Job *job, Error *err) {
    char path[1100];
    partial_path(job, path);
    if (job->finished || !files_exists(path))
        return STATUS_OK;
    RETURN_IF(files_read(path, PARTIAL_LIMIT, &job->finished, &job->finished_size, err));
    char *end = strchr(job->finished, '\n');
    if (!end || (size_t)(end - job->finished) != strlen(job->dataset.plan) ||
        strncmp(job->finished, job->dataset.plan, strlen(job->dataset.plan)) != 0)
        job->finished_size = 0;
    return STATUS_OK;
}

/* True when the list has this shard and the file still has the listed hash. */
static bool shard_is_finished(const Job *job, ShardInfo *info) {
    char path[1100], hash[HASH_BYTES], line[160], source[HASH_BYTES] = "";
    if (job->finished_size == 0)
        return false;
    snprintf(path, sizeof path, "%s/%s", job->dataset.dir, info->file);
    if (!files_exists(path) || sha256_of_file(path, hash, NULL) != STATUS_OK)
        return false;
    snprintf(line, sizeof line, "\n%s %s", info->file, hash);
    const char *found = strstr(job->finished, line);
    if (!found)
        return false;
    if (found[strlen(line)] == ' ')
        snprintf(source, sizeof source, "%.*s", (int)strcspn(found + strlen(line) + 1, "\n"), found + strlen(line) + 1);
    memcpy(info->sha256, hash, sizeof info->sha256);
    memcpy(info->source, source, sizeof info->source);
    return true;
}

static Status add_to_partial(Job *job, const ShardInfo *info, Error *err) {
    char path[1100];
    size_t size = job->finished_size, room = size + 320;
    char *text = realloc(job->finished, room);
    if (!text)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    job->finished = text;
    if (size == 0)
        size = (size_t)snprintf(text, room, "%s\n", job->dataset.plan);
    size += (size_t)snprintf(text + size, room - size, "%s %s%s%s\n", info->file, info->sha256,
                             info->source[0] ? " " : "", info->source);
    job->finished_size = size;
    partial_path(job, path);
    return files_write_atomic(path, text, size, false, err);
}

/* ---- making shards ---- */

/* Samples [begin, end) of the shard, decoded by all threads, or only their digests; the failure with the lowest row is
 * reported. */
static Status make_rows(Job *job, Split split, const int64_t *sources, int64_t begin, int64_t end, bool only_digests,
                        Error *err) {
    const int64_t pixels = (int64_t)job->source->height * job->source->width;
    Status status = STATUS_OK;
    int64_t failed_row = end;
#pragma omp parallel for schedule(dynamic, 16) num_threads(job->threads)
    for (int64_t row = begin; row < end; row++) {
        Error own = {0};
        ImportSample out = {.digest = job->digests ? job->digests[row] : NULL};
        if (!only_digests) {
            out.image = job->images + row * pixels * 3;
            out.label = job->labels + row;
            out.box = job->boxes ? job->boxes + row * 4 : NULL;
            out.mask = job->masks ? job->masks + row * pixels : NULL;
        }
        Status result = job->source->sample(job->source->ctx, split, sources[row], &out, &own);
        if (result == STATUS_OK)
            continue;
#pragma omp critical(import_failure)
        if (row < failed_row) {
            failed_row = row;
            status = result;
            if (err)
                *err = own;
        }
    }
    return status;
}

/* The digest of a shard's pictures, from those of its rows. */
static void join_digests(const Job *job, int64_t rows, char source[HASH_BYTES]) {
    Sha256 *hash = sha256_new();
    for (int64_t row = 0; row < rows; row++)
        sha256_add(hash, job->digests[row], HASH_BYTES);
    sha256_end(hash, source);
}

/* Sets *same when the pictures of the shard still are what `info` says, or follow from the plan. */
static Status compare_source(Job *job, Split split, const ShardInfo *info, const int64_t *sources, bool *same,
                             Error *err) {
    char source[HASH_BYTES];
    *same = true;
    if (!job->source->has_digests)
        return STATUS_OK;
    RETURN_IF(allocate_digests(job, err));
    for (int64_t begin = 0; begin < info->rows; begin += STRIDE) {
        const int64_t end = begin + STRIDE < info->rows ? begin + STRIDE : info->rows;
        RETURN_IF(make_rows(job, split, sources, begin, end, true, err));
        report(job, "check", job->done + end, false);
    }
    join_digests(job, info->rows, source);
    *same = strcmp(source, info->source) == 0;
    return STATUS_OK;
}

static Status make_shard(Job *job, Split split, ShardInfo *info, const int64_t *sources, Error *err) {
    RETURN_IF(allocate_digests(job, err));
    for (int64_t begin = 0; begin < info->rows; begin += STRIDE) {
        int64_t end = begin + STRIDE < info->rows ? begin + STRIDE : info->rows;
        RETURN_IF(make_rows(job, split, sources, begin, end, false, err));
        report(job, split_name(split), job->done + end, false);
    }
    if (job->digests)
        join_digests(job, info->rows, info->source);
    ShardRows rows = {job->images, job->labels, job->boxes, job->masks};
    RETURN_IF(shard_write(&job->dataset, split, info, &rows, err));
    job->made += info->rows;
    return add_to_partial(job, info, err);
}

/* Which sample of the source each row of the split holds. Caller frees. */
static Status storage_order(const Job *job, Split split, int64_t **sources, Error *err) {
    const int64_t n = job->source->count[split];
    *sources = malloc(((size_t)n + 1) * sizeof **sources);
    if (!*sources)
        return error_set(err, STATUS_SYSTEM, "out of memory for %lld samples", (long long)n);
    for (int64_t i = 0; i < n; i++)
        (*sources)[i] = i;
    PhiloxReader reader = philox_reader(STORAGE_SEED, PHILOX_IMPORT, (uint64_t)split, 0);
    order_shuffle(&reader, *sources, n);
    return STATUS_OK;
}

static Status make_split(Job *job, Split split, Error *err) {
    int64_t *sources;
    RETURN_IF(storage_order(job, split, &sources, err));
    Status status = STATUS_OK;
    for (int s = 0; s < job->dataset.shard_count[split] && status == STATUS_OK; s++) {
        ShardInfo *info = &job->dataset.shards[split][s];
        bool keep = shard_is_finished(job, info);
        if (keep)
            status = compare_source(job, split, info, sources + info->first, &keep, err);
        if (status == STATUS_OK && !keep)
            status = make_shard(job, split, info, sources + info->first, err);
        job->done += info->rows;
    }
    free(sources);
    return status;
}

/* ---- what DST holds already -------------------------------------------------------------------------------------- */

/* Are the pictures still those that the complete dataset `old` was made of? *known is false when it does not say. */
static Status compare_split(Job *job, const Dataset *old, Split split, bool *known, bool *same, Error *err) {
    int64_t *sources;
    RETURN_IF(storage_order(job, split, &sources, err));
    Status status = STATUS_OK;
    for (int s = 0; s < old->shard_count[split] && status == STATUS_OK && *known && *same; s++) {
        const ShardInfo *info = &old->shards[split][s];
        *known = info->source[0] != 0 || !job->source->has_digests;
        if (*known)
            status = compare_source(job, split, info, sources + info->first, same, err);
        job->done += info->rows;
    }
    free(sources);
    return status;
}

/* *complete is true when the sound dataset `old` was made of the pictures that are there now. */
static Status compare_pictures(Job *job, const Dataset *old, bool *complete, Error *err) {
    bool known = true, same = true;
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++)
        RETURN_IF(compare_split(job, old, split, &known, &same, err));
    job->done = 0;
    *complete = known && same;
    if (known && !same)
        return error_set(err, STATUS_CANNOT_CREATE,
                         "%s: was made from other pictures than the source now has under the same names; import into "
                         "an empty folder, or delete this one first",
                         job->dataset.dir);
    return STATUS_OK;
}

/* Turns the index of a damaged dataset of the same plan back into a list of finished shards, so that only what is
 * damaged is made again. */
static Status reopen(Job *job, const Dataset *old, const char *index_path, Error *err) {
    Status status = STATUS_OK;
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++)
        for (int s = 0; s < old->shard_count[split] && status == STATUS_OK; s++)
            status = add_to_partial(job, &old->shards[split][s], err);
    if (status == STATUS_OK && unlink(index_path) != 0)
        status =
            error_set(err, STATUS_CANNOT_CREATE, "%s: belongs to a damaged dataset, and cannot be removed", index_path);
    return status;
}

/* DST may be absent, empty, an unfinished import, or this very dataset: then *complete is true when it is sound and its
 * pictures are unchanged; else, `locked`, it becomes an unfinished import again. */
static Status check_destination(Job *job, bool locked, bool *complete, Error *err) {
    char path[1100];
    Dataset old, checked;
    *complete = false;
    snprintf(path, sizeof path, "%s/index.h5", job->dataset.dir);
    if (!files_exists(path))
        return STATUS_OK;
    memset(&old, 0, sizeof old);
    snprintf(old.dir, sizeof old.dir, "%s", job->dataset.dir);
    const bool readable = index_read(&old, NULL) == STATUS_OK;
    const bool same = readable && strcmp(old.plan, job->dataset.plan) == 0;
    Status status = STATUS_OK;
    if (!same)
        status = error_set(err, STATUS_CANNOT_CREATE,
                           "%s: already holds %s; import into an empty folder, or delete this one first",
                           job->dataset.dir, readable ? "another dataset" : "an index.h5 that cannot be read");
    else if (dataset_open(&checked, job->dataset.dir, true, NULL) == STATUS_OK) {
        status = compare_pictures(job, &checked, complete, err);
        dataset_close(&checked);
    }
    if (status == STATUS_OK && same && !*complete && locked)
        status = reopen(job, &old, path, err);
    dataset_close(&old);
    return status;
}

static Status make_dataset(Job *job, Error *err) {
    char path[1100];
    RETURN_IF(allocate_rows(job, err));
    RETURN_IF(read_partial(job, err));
    RETURN_IF(make_split(job, SPLIT_TRAIN, err));
    RETURN_IF(make_split(job, SPLIT_VAL, err));
    RETURN_IF(index_write(&job->dataset, err));
    partial_path(job, path);
    unlink(path);
    return STATUS_OK;
}

Status import_run(const ImportSource *source, const char *dst, const ImportOptions *options, Error *err) {
    static const ImportOptions defaults = {0};
    Job job = {.source = source, .options = options ? options : &defaults, .start = clock_seconds()};
    char lock_path[1100] = "", why[THREADS_WHY_BYTES];
    bool complete = false;
    int lock = -1;
    job.threads = job.options->threads > 0 ? job.options->threads : processors_threads_alone(why);
    job.total = source->count[SPLIT_TRAIN] + source->count[SPLIT_VAL];
    choose_rows(&job);
    hash_plan(&job);
    Status status;
    GOTO_IF(fill_dataset(&job, dst, err), done);
    GOTO_IF(check_destination(&job, false, &complete, err),
            done); /* a finished one needs no lock, nor write permission */
    if (!complete) {
        GOTO_IF(files_make_dirs(dst, err), done);
        snprintf(lock_path, sizeof lock_path, "%s/import.lock", dst);
        GOTO_IF(files_lock(lock_path, &lock, err), done);
        GOTO_IF(check_destination(&job, true, &complete, err), done); /* another import may have ended meanwhile */
        if (!complete)
            GOTO_IF(make_dataset(&job, err), done);
    }
    report(&job, "done", job.total, true);
done:
    files_unlock(lock_path, lock);
    if (job.options->made)
        *job.options->made = job.made;
    free_job(&job);
    return status;
}
