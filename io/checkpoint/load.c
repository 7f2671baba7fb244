/* Loading. A file is read whole, held against the manifest beside it and its own seal, and only then parsed.
 *
 * checkpoint_load() of a named file accepts one without seal that no manifest lists (made or edited elsewhere, e.g.
 * with h5py): its structure is checked, its values cannot be. Automatic resume insists on the seal. */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/files/files.h"

/* Compares with the manifest beside the file, if that lists it. *known: it does. */
static Status check_manifest(const char *path, const char *data, size_t size, int *known, Error *err) {
    char real[PATH_MAX], hex[65];
    Manifest manifest;
    *known = 0;
    if (!realpath(path, real))
        return STATUS_OK;
    char *slash = strrchr(real, '/');
    int64_t step = checkpoint_name_step(slash + 1);
    if (step < 0)
        return STATUS_OK;
    *slash = 0;
    RETURN_IF(manifest_read(slash == real ? "/" : real, &manifest, err));
    const ManifestEntry *entry = manifest_find(&manifest, step);
    Status status = STATUS_OK;
    if (entry) {
        *known = 1;
        if (entry->bytes != (int64_t)size)
            status = error_set(err, STATUS_DATA, "%s has %zu bytes, its manifest says %lld: use another checkpoint",
                               path, size, (long long)entry->bytes);
        else {
            sha256_of(data, size, hex);
            if (strcmp(hex, entry->sha256) != 0)
                status = error_set(err, STATUS_DATA,
                                   "%s does not match the SHA-256 of its manifest: use another checkpoint", path);
        }
    }
    manifest_free(&manifest);
    return status;
}

static Status load(const char *path, bool need_seal, CheckpointFile *out, Error *err) {
    char *data;
    size_t size, image_size;
    int known, sealed;
    *out = (CheckpointFile){0};
    RETURN_IF(files_check_free(path, err));
    RETURN_IF(files_read(path, CHECKPOINT_MAX_BYTES, &data, &size, err));
    Status status;
    GOTO_IF(check_manifest(path, data, size, &known, err), done);
    GOTO_IF(seal_check(data, size, path, &sealed, &image_size, err), done);
    if (need_seal && !sealed && !known) {
        status = error_set(err, STATUS_DATA, "%s has no seal: truncated, or not written by this program", path);
        goto done;
    }
    status = checkpoint_decode(data, image_size, path, out, err);
done:
    free(data);
    return status;
}

Status checkpoint_load(const char *path, CheckpointFile *out, Error *err) {
    return load(path, false, out, err);
}

/* Says what is wrong with a checkpoint and where it went. */
static void report_bad(const CheckpointReader *reader, const char *dir, const char *name, const Error *why) {
    char aside[PATH_MAX], text[2 * sizeof why->message + PATH_MAX + 64];
    Error renaming = {.code = STATUS_OK};
    if (why->code != STATUS_DATA || (reader && reader->look_only))
        snprintf(text, sizeof text, "%s; trying an older checkpoint", why->message);
    else if (checkpoint_set_aside(dir, name, "bad", aside, &renaming) == STATUS_OK)
        snprintf(text, sizeof text, "%s; set aside as %s", why->message, aside);
    else
        snprintf(text, sizeof text, "%s; and it cannot be set aside: %s", why->message, renaming.message);
    if (reader && reader->note)
        reader->note(reader->ctx, text);
}

/* A name that may be resumed from. */
typedef struct Candidate {
    char name[CHECKPOINT_NAME_BYTES];
    int64_t step;
    Error why; /* it failed with */
} Candidate;

static Status load_candidate(const char *dir, const Candidate *candidate, CheckpointFile *out, Error *err) {
    char path[PATH_MAX];
    RETURN_IF(checkpoint_path(path, dir, candidate->name, err));
    RETURN_IF(load(path, true, out, err));
    if (out->meta.step == candidate->step)
        return STATUS_OK;
    long long inside = (long long)out->meta.step;
    checkpoint_free(out);
    return error_set(err, STATUS_DATA, "%s holds step %lld: it was renamed", path, inside);
}

static int by_step(const void *a, const void *b) {
    const Candidate *left = a, *right = b;
    return (left->step > right->step) - (left->step < right->step);
}

/* The files of steps, and last.h5 and best.h5 where those are files of their own (a partial copy of the folder), in the
 * order of their steps; a damaged one of the latter goes first, to be named when its turn comes. */
typedef struct Candidates {
    Candidate *all;
    int count;
    int own; /* last.h5, best.h5 among them */
} Candidates;

static Status find_candidates(const char *dir, const CheckpointList *list, Candidates *out, Error *err) {
    static const char *const names[] = {"last.h5", "best.h5"};
    *out = (Candidates){.all = calloc((size_t)list->count + 2, sizeof *out->all)};
    if (!out->all)
        return error_set(err, STATUS_SYSTEM, "no memory to list %s", dir);
    for (int i = 0; i < list->count; i++) {
        Candidate *candidate = &out->all[out->count++];
        candidate->step = list->steps[i];
        checkpoint_name(candidate->name, candidate->step);
    }
    for (int i = 0; i < 2; i++) {
        if (checkpoint_link_step(dir, names[i], list) != LINK_OWN)
            continue;
        CheckpointFile file;
        char path[PATH_MAX];
        Candidate *candidate = &out->all[out->count];
        snprintf(candidate->name, sizeof candidate->name, "%s", names[i]);
        RETURN_IF(checkpoint_path(path, dir, names[i], err));
        Status status = load(path, true, &file, &candidate->why);
        candidate->step = status == STATUS_OK ? file.meta.step : INT64_MAX;
        checkpoint_free(&file);
        if (status == STATUS_OK && (checkpoint_listed(list, candidate->step) ||
                                    (out->own && out->all[out->count - 1].step == candidate->step)))
            continue; /* an older state of the same step */
        out->count++;
        out->own++;
    }
    qsort(out->all, (size_t)out->count, sizeof *out->all, by_step);
    return STATUS_OK;
}

/* Gives checkpoints that only last.h5 or best.h5 names their steps' names, and makes last.h5 and best.h5 lead where
 * they should: not to what was set aside. Best effort: the next save repairs links too. */
static void mend_names(const char *dir, const Candidates *found, const CheckpointMeta *newest) {
    char name[CHECKPOINT_NAME_BYTES], own[PATH_MAX], path[PATH_MAX];
    for (int i = 0; i < found->count; i++) {
        const Candidate *candidate = &found->all[i];
        checkpoint_name(name, candidate->step);
        if (candidate->why.code == STATUS_OK && strcmp(candidate->name, name) != 0 &&
            checkpoint_path(own, dir, candidate->name, NULL) == STATUS_OK &&
            checkpoint_path(path, dir, name, NULL) == STATUS_OK)
            (void)files_name_atomic(own, path, NULL);
    }
    (void)checkpoint_point(dir, "last.h5", newest->step, NULL);
    CheckpointList list;
    if (checkpoint_list(dir, &list, NULL) != STATUS_OK)
        return;
    const int64_t best = checkpoint_link_step(dir, "best.h5", &list);
    if (newest->best >= 0 && best != newest->best_step && best != LINK_OWN &&
        checkpoint_listed(&list, newest->best_step))
        (void)checkpoint_point(dir, "best.h5", newest->best_step, NULL);
    else if (best >= 0)
        (void)checkpoint_point(dir, "best.h5", best, NULL);
    else if (best == LINK_NOWHERE && checkpoint_path(path, dir, "best.h5", NULL) == STATUS_OK)
        unlink(path);
    checkpoint_list_free(&list);
}

static Status none_valid(const char *dir, int unusable, const CheckpointList *list, Error *err) {
    Manifest manifest;
    if (unusable > 0)
        return error_set(err, STATUS_DATA,
                         "no valid checkpoint in %s (%d unusable): restore one, or remove the .bad files to start anew",
                         dir, unusable);
    RETURN_IF(manifest_read(dir, &manifest, err));
    const int traces = list->traces > 0 || manifest.count > 0;
    manifest_free(&manifest);
    if (!traces)
        return STATUS_OK;
    return error_set(
        err, STATUS_DATA,
        "%s held checkpoints, and none of them is there (step-NNNNNNNN.h5, or last.h5 and best.h5 as files): "
        "bring one back, or remove that folder and metrics.jsonl to start anew",
        dir);
}

Status checkpoint_load_newest(const char *dir, CheckpointFile *out, int *found, const CheckpointReader *reader,
                              Error *err) {
    CheckpointList list;
    Candidates candidates;
    *out = (CheckpointFile){0};
    *found = 0;
    RETURN_IF(checkpoint_list(dir, &list, err));
    Status status = find_candidates(dir, &list, &candidates, err);
    int good = candidates.count;
    while (status == STATUS_OK && good-- > 0) {
        Candidate *candidate = &candidates.all[good];
        if (candidate->why.code == STATUS_OK && load_candidate(dir, candidate, out, &candidate->why) == STATUS_OK)
            break;
        const Status why = candidate->why.code;
        if (why == STATUS_SYSTEM || why == STATUS_CANNOT_CREATE) /* no memory, or in use: not damaged */
            status = error_set(err, why, "%s", candidate->why.message);
    }
    if (status == STATUS_OK && good >= 0 && reader && reader->accept)
        status = reader->accept(reader->ctx, out, err);
    if (status == STATUS_OK) {
        for (int i = candidates.count; i-- > good + 1;)
            report_bad(reader, dir, candidates.all[i].name, &candidates.all[i].why);
        *found = good >= 0;
        if (*found && !(reader && reader->look_only))
            mend_names(dir, &candidates, &out->meta);
        else if (!*found)
            status = none_valid(dir, candidates.count + list.bad, &list, err);
    } else {
        checkpoint_free(out);
    }
    free(candidates.all);
    checkpoint_list_free(&list);
    return status;
}
