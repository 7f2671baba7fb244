#include "trainer/report/inspect_summary.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/files/files.h"

static int64_t first_number(const TreeItem *item) {
    return item->count > 0 ? (int64_t)item->numbers[0] : 0;
}

void facts_add(FileFacts *facts, const TreeItem *item) {
    const char *path = item->path;
    if (item->kind == TREE_DATASET) {
        facts->datasets++;
        facts->bytes += item->stored_bytes;
        if (strcmp(path, "images") == 0 && item->rank == 4) {
            facts->has_images = 1;
            memcpy(facts->images, item->shape, sizeof facts->images);
        }
    }
    if (item->kind != TREE_ATTRIBUTE)
        return;
    facts->has_cursor |= strcmp(path, "@cursor") == 0;
    facts->has_shards |= strstr(path, "@shards") != NULL;
    if (strcmp(path, "@classes") == 0)
        facts->classes = first_number(item);
    else if (strcmp(path, "@height") == 0)
        facts->sides[0] = first_number(item);
    else if (strcmp(path, "@width") == 0)
        facts->sides[1] = first_number(item);
    else if (strcmp(path, "train@count") == 0)
        facts->train = first_number(item);
    else if (strcmp(path, "val@count") == 0)
        facts->val = first_number(item);
    else if (strcmp(path, "@kind") == 0 && item->text_count == 1)
        snprintf(facts->kind, sizeof facts->kind, "%.255s", item->texts);
    else if (strcmp(path, "@split") == 0 && item->text_count == 1)
        snprintf(facts->split, sizeof facts->split, "%.255s", item->texts);
}

FileKind facts_kind(const FileFacts *facts) {
    if (facts->has_cursor)
        return FILE_CHECKPOINT;
    if (facts->has_images)
        return FILE_SHARD;
    return facts->has_shards ? FILE_INDEX : FILE_OTHER;
}

const char *facts_kind_name(const FileFacts *facts) {
    static const char *const names[] = {"hdf5", "checkpoint", "shard", "index"};
    return names[facts_kind(facts)];
}

static Status take_item(void *ctx, const TreeItem *item, Error *err) {
    (void)err;
    facts_add(ctx, item);
    return STATUS_OK;
}

static void print_checkpoint(const CheckpointMeta *meta) {
    printf("epoch %lld, step %lld, %s, %s width %lld\n", (long long)checkpoint_epoch(meta), (long long)meta->step,
           meta->method, meta->encoder, (long long)meta->width);
}

static void json_checkpoint(const CheckpointMeta *meta, Json *json) {
    json_integer(json, "epoch", checkpoint_epoch(meta));
    json_integer(json, "step", meta->step);
    json_bool(json, "finished", (int)meta->finished);
    json_string(json, "method", meta->method);
    json_string(json, "encoder", meta->encoder);
    json_integer(json, "width", meta->width);
    json_integer(json, "classes", meta->classes);
    json_integer(json, "image_size", meta->image_size);
    json_number(json, "best_top1", meta->best < 0 ? (double)NAN : meta->best);
    json_integer(json, "best_step", meta->best_step);
}

static void print_data(const FileFacts *f) {
    switch (facts_kind(f)) {
    case FILE_SHARD:
        printf("%lld %s images of %lldx%lld\n", (long long)f->images[0], f->split, (long long)f->images[1],
               (long long)f->images[2]);
        return;
    case FILE_INDEX:
        printf("%s, %lld classes of %lldx%lld, %lld train and %lld val images\n", f->kind, (long long)f->classes,
               (long long)f->sides[0], (long long)f->sides[1], (long long)f->train, (long long)f->val);
        return;
    default:
        printf("%lld datasets, %lld bytes of data\n", (long long)f->datasets, (long long)f->bytes);
    }
}

static void json_data(const FileFacts *f, Json *json) {
    if (facts_kind(f) == FILE_SHARD) {
        json_string(json, "split", f->split);
        json_integer(json, "images", f->images[0]);
        json_integer(json, "height", f->images[1]);
        json_integer(json, "width", f->images[2]);
    } else if (facts_kind(f) == FILE_INDEX) {
        json_string(json, "dataset", f->kind);
        json_integer(json, "classes", f->classes);
        json_integer(json, "height", f->sides[0]);
        json_integer(json, "width", f->sides[1]);
        json_integer(json, "train", f->train);
        json_integer(json, "val", f->val);
    }
    json_integer(json, "datasets", f->datasets);
    json_integer(json, "bytes", f->bytes);
}

/* `name` is what the line calls the file. */
static Status summarise(const char *path, const char *name, Json *json, Error *err) {
    FileFacts facts = {0};
    CheckpointMeta meta = {0};
    RETURN_IF(tree_read(path, take_item, &facts, err));
    const int is_checkpoint = facts_kind(&facts) == FILE_CHECKPOINT;
    if (is_checkpoint) {
        CheckpointFile file;
        RETURN_IF(checkpoint_load(path, &file, err));
        meta = file.meta;
        checkpoint_free(&file);
    }
    if (json) {
        json_begin_object(json, NULL);
        json_string(json, "file", path);
        json_string(json, "kind", facts_kind_name(&facts));
        if (is_checkpoint)
            json_checkpoint(&meta, json);
        else
            json_data(&facts, json);
        json_end_object(json);
        return STATUS_OK;
    }
    printf("%s: %s, ", name, facts_kind_name(&facts));
    if (is_checkpoint)
        print_checkpoint(&meta);
    else
        print_data(&facts);
    return STATUS_OK;
}

Status summary_of_file(const char *path, Json *json, Error *err) {
    return summarise(path, path, json, err);
}

static int is_hdf5_name(const struct dirent *entry) {
    const size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 3 && strcmp(entry->d_name + length - 3, ".h5") == 0;
}

/* A link to a file of the same folder: named beside it, not summed up twice. */
static int show_link(const char *path, const char *name, Json *json) {
    char target[NAME_MAX + 1];
    const ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return 0;
    target[n] = '\0';
    if (!json)
        printf("%s is %s\n", name, target);
    return 1;
}

Status summary_of_folder(const char *path, Json *json, Error *err) {
    char dir[1024], file[1300];
    struct dirent **names = NULL;
    snprintf(dir, sizeof dir, "%s/checkpoints", path);
    struct stat info;
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        snprintf(dir, sizeof dir, "%s", path);
    const int n = scandir(dir, &names, is_hdf5_name, alphasort);
    Status status = n > 0 ? STATUS_OK
                          : error_set(err, STATUS_NO_INPUT,
                                      "%s holds no .h5 file, and is neither a run nor a dataset folder", path);
    if (json)
        json_begin_array(json, NULL);
    else if (n > 0)
        printf("%s:\n", dir);
    for (int i = 0; i < n; i++) {
        Error why = {.code = STATUS_OK};
        snprintf(file, sizeof file, "%s/%s", dir, names[i]->d_name);
        if (!show_link(file, names[i]->d_name, json) && summarise(file, names[i]->d_name, json, &why) != STATUS_OK) {
            fprintf(stderr, "excon: %s\n", why.message);
            status = status == STATUS_OK ? error_set(err, why.code, "%s: not every file is good", path) : status;
        }
        free(names[i]);
    }
    if (json)
        json_end_array(json);
    free(names);
    return status;
}
