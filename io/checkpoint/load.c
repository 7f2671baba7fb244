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

#include "io/checkpoint/internal.h"
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

static Status load(const char *path, int need_seal, CheckpointFile *out, Error *err) {
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
    return load(path, 0, out, err);
}

typedef struct Note {
    void (*call)(void *ctx, const char *text);
    void *ctx;
} Note;

/* Says what is wrong with a checkpoint and where it went. */
static void report_bad(const Note *note, const char *dir, const char *name, const Error *why, int rename_it) {
    char aside[PATH_MAX], text[2 * sizeof why->message + PATH_MAX + 64];
    Error renaming = {.code = STATUS_OK};
    if (!rename_it)
        snprintf(text, sizeof text, "%s; trying an older checkpoint", why->message);
    else if (checkpoint_set_aside(dir, name, "bad", aside, &renaming) == STATUS_OK)
        snprintf(text, sizeof text, "%s; set aside as %s", why->message, aside);
    else
        snprintf(text, sizeof text, "%s; and it cannot be set aside: %s", why->message, renaming.message);
    if (note->call)
        note->call(note->ctx, text);
}

static Status load_step(const char *dir, int64_t step, CheckpointFile *out, Error *err) {
    char name[CHECKPOINT_NAME_BYTES], path[PATH_MAX];
    checkpoint_name(name, step);
    RETURN_IF(checkpoint_path(path, dir, name, err));
    RETURN_IF(load(path, 1, out, err));
    if (out->meta.step == step)
        return STATUS_OK;
    long long inside = (long long)out->meta.step;
    checkpoint_free(out);
    return error_set(err, STATUS_DATA, "%s holds step %lld: it was renamed", path, inside);
}

/* last.h5 and best.h5 must not lead to what was set aside. Best effort: the next save repairs them too. */
static void mend_links(const char *dir, int64_t newest) {
    char name[CHECKPOINT_NAME_BYTES], path[PATH_MAX];
    if (checkpoint_link_step(dir, "last.h5") != newest && checkpoint_path(path, dir, "last.h5", NULL) == STATUS_OK) {
        checkpoint_name(name, newest);
        (void)files_link_atomic(name, path, NULL);
    }
    if (checkpoint_link_step(dir, "best.h5") < 0 && checkpoint_path(path, dir, "best.h5", NULL) == STATUS_OK)
        unlink(path);
}

Status checkpoint_load_newest(const char *dir, CheckpointFile *out, int *found,
                              void (*note)(void *ctx, const char *text), void *note_ctx, Error *err) {
    const Note notes = {note, note_ctx};
    CheckpointList list;
    *out = (CheckpointFile){0};
    *found = 0;
    RETURN_IF(checkpoint_list(dir, &list, err));
    Status status = STATUS_OK;
    int bad = list.bad, tried = list.count;
    for (int i = list.count; i-- > 0;) {
        Error why = {.code = STATUS_OK};
        status = load_step(dir, list.steps[i], out, &why);
        if (status == STATUS_OK) {
            *found = 1;
            mend_links(dir, list.steps[i]);
            break;
        }
        if (status == STATUS_SYSTEM || status == STATUS_CANNOT_CREATE) { /* no memory, or in use: not damaged */
            if (err)
                *err = why;
            break;
        }
        char name[CHECKPOINT_NAME_BYTES];
        checkpoint_name(name, list.steps[i]);
        report_bad(&notes, dir, name, &why, status == STATUS_DATA);
    }
    checkpoint_list_free(&list);
    if (*found || status == STATUS_SYSTEM || status == STATUS_CANNOT_CREATE)
        return status;
    if (tried > 0 || bad > 0)
        return error_set(err, STATUS_DATA,
                         "no valid checkpoint in %s (%d unusable): restore one, or remove the .bad files to start anew",
                         dir, tried + bad);
    return STATUS_OK;
}
