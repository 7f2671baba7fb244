/* DIR/manifest.json: name, step, size and SHA-256 (as sha256sum prints it) of every checkpoint, one object a line.
 *
 * The manifest is a second check beside each file's own seal. It never lists a file whose bytes are about to change:
 * a save takes the name off first and puts it back when the new bytes are on the disk, so a crash at any point leaves a
 * manifest that agrees with the files or says nothing about them. Lines that do not parse are ignored. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint_file.h"
#include "io/files/files.h"

enum { MANIFEST_LIMIT = 1 << 22 };

static bool parse_line(const char *line, ManifestEntry *entry) {
    char name[CHECKPOINT_NAME_BYTES];
    long long step, bytes;
    if (sscanf(line, " {\"file\":\"%39[^\"]\",\"step\":%lld,\"bytes\":%lld,\"sha256\":\"%64[0-9a-f]\"}", name, &step,
               &bytes, entry->sha256) != 4)
        return false;
    entry->step = step;
    entry->bytes = bytes;
    return checkpoint_name_step(name) == step && strlen(entry->sha256) == 64;
}

Status manifest_read(const char *dir, Manifest *out, Error *err) {
    char path[PATH_MAX], *text, *rest;
    size_t size;
    *out = (Manifest){0};
    RETURN_IF(checkpoint_path(path, dir, "manifest.json", err));
    if (files_read(path, MANIFEST_LIMIT, &text, &size, NULL) != STATUS_OK)
        return STATUS_OK;
    Status status = STATUS_OK;
    rest = text;
    for (char *line; status == STATUS_OK && (line = strsep(&rest, "\n"));) {
        ManifestEntry entry;
        if (parse_line(line, &entry))
            status = manifest_put(out, &entry, err);
    }
    free(text);
    if (status != STATUS_OK)
        manifest_free(out);
    return status;
}

Status manifest_write(const char *dir, const Manifest *manifest, Error *err) {
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;
    RETURN_IF(checkpoint_path(path, dir, "manifest.json", err));
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return error_set(err, STATUS_SYSTEM, "no memory for %s", path);
    fprintf(out, "{\"schema\":%d,\"checkpoints\":[\n", CHECKPOINT_SCHEMA);
    for (int i = 0; i < manifest->count; i++) {
        const ManifestEntry *entry = &manifest->entries[i];
        char name[CHECKPOINT_NAME_BYTES];
        checkpoint_name(name, entry->step);
        fprintf(out, "{\"file\":\"%s\",\"step\":%lld,\"bytes\":%lld,\"sha256\":\"%s\"}%s\n", name,
                (long long)entry->step, (long long)entry->bytes, entry->sha256, i + 1 < manifest->count ? "," : "");
    }
    fprintf(out, "]}\n");
    int failed = ferror(out);
    Status status = fclose(out) != 0 || failed ? error_set(err, STATUS_SYSTEM, "no memory for %s", path)
                                               : files_write_atomic(path, text, size, true, err);
    free(text);
    return status;
}

const ManifestEntry *manifest_find(const Manifest *manifest, int64_t step) {
    for (int i = 0; i < manifest->count; i++)
        if (manifest->entries[i].step == step)
            return &manifest->entries[i];
    return NULL;
}

void manifest_remove(Manifest *manifest, int64_t step) {
    int kept = 0;
    for (int i = 0; i < manifest->count; i++)
        if (manifest->entries[i].step != step)
            manifest->entries[kept++] = manifest->entries[i];
    manifest->count = kept;
}

Status manifest_put(Manifest *manifest, const ManifestEntry *entry, Error *err) {
    manifest_remove(manifest, entry->step);
    ManifestEntry *larger = realloc(manifest->entries, (size_t)(manifest->count + 1) * sizeof *larger);
    if (!larger)
        return error_set(err, STATUS_SYSTEM, "no memory for the checkpoint manifest");
    manifest->entries = larger;
    manifest->entries[manifest->count++] = *entry;
    return STATUS_OK;
}

void manifest_free(Manifest *manifest) {
    free(manifest->entries);
    *manifest = (Manifest){0};
}
