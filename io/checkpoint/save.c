/* Publishing a checkpoint. The order is what makes a crash harmless at every point:
 *
 *   1. checkpoints of later steps, which belong to a future that was given up, are renamed NAME.superseded;
 *   2. the name is taken off the manifest when it stands there with other bytes;
 *   3. the file: temporary, fsync, read back, rename, fsync of the folder;
 *   4. the manifest: the new file in, those about to be pruned out;
 *   5. last.h5 and best.h5;
 *   6. only now the pruned files are removed.
 *
 * Until 3's rename the previous checkpoint is the newest; from then on the new one is, sealed, listed or not. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/files/files.h"

typedef struct Save {
    const char *dir;
    const CheckpointMeta *meta; /* of what is saved */
    int keep;
    int64_t best_step;   /* best.h5 is to lead there, -1: leave it */
    int64_t linked_best; /* where best.h5 leads now */
    int set_aside;       /* checkpoints of later steps */
    int64_t resumed_from;
    CheckpointList list; /* before publishing */
    Manifest manifest;
} Save;

static Status set_future_aside(Save *save, Error *err) {
    CheckpointList *list = &save->list;
    while (list->count > 0 && list->steps[list->count - 1] > save->meta->step) {
        char name[CHECKPOINT_NAME_BYTES], aside[PATH_MAX];
        int64_t step = list->steps[--list->count];
        if (step == save->resumed_from)
            continue;
        checkpoint_name(name, step);
        RETURN_IF(checkpoint_set_aside(save->dir, name, "superseded", aside, err));
        save->set_aside++;
    }
    return STATUS_OK;
}

/* Where best.h5 should lead: a save that was killed before the link is caught up with through the meta data. */
static int64_t choose_best(const Save *save, int is_best) {
    const CheckpointMeta *meta = save->meta;
    if (is_best)
        return meta->step;
    return meta->best >= 0 && checkpoint_listed(&save->list, meta->best_step) ? meta->best_step : -1;
}

/* True when list entry i (of the state before publishing) goes. The new file counts as one of the newest `keep`. */
static bool is_pruned(const Save *save, int i) {
    int64_t step = save->list.steps[i];
    int newer = checkpoint_listed(&save->list, save->meta->step) ? 0 : 1;
    newer += save->list.count - 1 - i;
    int64_t best = save->best_step >= 0 ? save->best_step : save->linked_best;
    return newer >= (save->keep > 0 ? save->keep : 1) && step != save->meta->step && step != best &&
           step != save->resumed_from;
}

static Status publish(Save *save, const char *data, size_t size, Error *err) {
    char name[CHECKPOINT_NAME_BYTES], path[PATH_MAX];
    ManifestEntry entry = {.step = save->meta->step, .bytes = (int64_t)size};
    sha256_of(data, size, entry.sha256);
    if (!entry.sha256[0])
        return error_set(err, STATUS_SYSTEM, "no memory to hash a checkpoint");
    const ManifestEntry *old = manifest_find(&save->manifest, entry.step);
    if (old && strcmp(old->sha256, entry.sha256) != 0) {
        manifest_remove(&save->manifest, entry.step);
        RETURN_IF(manifest_write(save->dir, &save->manifest, err));
    }
    checkpoint_name(name, entry.step);
    RETURN_IF(checkpoint_path(path, save->dir, name, err));
    RETURN_IF(files_write_atomic(path, data, size, true, err));

    Manifest kept = {0};
    Status status = STATUS_OK;
    for (int i = 0; i < save->list.count && status == STATUS_OK; i++) {
        const ManifestEntry *known = manifest_find(&save->manifest, save->list.steps[i]);
        if (known && known->step != entry.step && !is_pruned(save, i))
            status = manifest_put(&kept, known, err);
    }
    if (status == STATUS_OK)
        status = manifest_put(&kept, &entry, err);
    if (status == STATUS_OK)
        status = manifest_write(save->dir, &kept, err);
    manifest_free(&kept);
    return status;
}

static Status remove_name(const char *dir, const char *name, Error *err) {
    char path[PATH_MAX];
    RETURN_IF(checkpoint_path(path, dir, name, err));
    if (unlink(path) != 0 && errno != ENOENT)
        return error_set(err, files_errno_status(errno), "cannot remove %s: %s: %s", path, strerror(errno),
                         files_errno_advice(errno));
    return STATUS_OK;
}

/* A file named best.h5 that no listed checkpoint equals may hold what nothing else does. */
static Status keep_own_best(const Save *save, Error *err) {
    char aside[PATH_MAX];
    return checkpoint_link_step(save->dir, "best.h5", &save->list) == LINK_OWN
               ? checkpoint_set_aside(save->dir, "best.h5", "superseded", aside, err)
               : STATUS_OK;
}

/* Where the file system has no links, last.h5 may be a copy of a checkpoint that was just set aside: it must not be
 * taken for the newest one. */
static Status drop_future_last(const Save *save, Error *err) {
    return save->set_aside && checkpoint_link_step(save->dir, "last.h5", &save->list) == LINK_OWN
               ? remove_name(save->dir, "last.h5", err)
               : STATUS_OK;
}

static Status prune(const Save *save, Error *err) {
    for (int i = 0; i < save->list.count; i++) {
        char name[CHECKPOINT_NAME_BYTES];
        checkpoint_name(name, save->list.steps[i]);
        if (is_pruned(save, i))
            RETURN_IF(remove_name(save->dir, name, err));
    }
    for (int i = 0; i < save->list.leftover_count; i++)
        RETURN_IF(remove_name(save->dir, save->list.leftovers[i], err));
    return STATUS_OK;
}

Status checkpoint_save(const char *dir, const CheckpointFile *file, int keep, int is_best, int64_t resumed_from,
                       Error *err) {
    const CheckpointMeta *meta = &file->meta;
    Save save = {.dir = dir, .meta = meta, .keep = keep, .resumed_from = resumed_from};
    char *data = NULL;
    size_t size;
    Status status;
    if (meta->step < 0)
        return error_set(err, STATUS_INTERNAL, "a checkpoint of step %lld", (long long)meta->step);
    GOTO_IF(checkpoint_encode(file, &data, &size, err), done);
    GOTO_IF(files_make_dirs(dir, err), done);
    GOTO_IF(checkpoint_list(dir, &save.list, err), done);
    GOTO_IF(manifest_read(dir, &save.manifest, err), done);
    GOTO_IF(set_future_aside(&save, err), done);
    GOTO_IF(drop_future_last(&save, err), done);
    save.best_step = choose_best(&save, is_best);
    save.linked_best = checkpoint_link_step(dir, "best.h5", &save.list);
    if (save.best_step >= 0)
        GOTO_IF(keep_own_best(&save, err), done);
    GOTO_IF(publish(&save, data, size, err), done);
    GOTO_IF(checkpoint_point(dir, "last.h5", meta->step, err), done);
    if (save.best_step >= 0)
        GOTO_IF(checkpoint_point(dir, "best.h5", save.best_step, err), done);
    else if (save.linked_best == LINK_NOWHERE)
        GOTO_IF(remove_name(dir, "best.h5", err), done);
    status = prune(&save, err);
done:
    checkpoint_list_free(&save.list);
    manifest_free(&save.manifest);
    free(data);
    return status;
}
