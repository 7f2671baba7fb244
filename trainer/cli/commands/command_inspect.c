/* excon inspect FILE|FOLDER: what a checkpoint, a shard, an index or any other HDF5 file holds, as text or as one JSON
 * value; of a folder, and with --summary, a line per file.
 *
 * A checkpoint (it has an attribute `cursor`) is also loaded, so that its sums are checked, and its digest is shown. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/checkpoint/checkpoint.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/report/inspect_summary.h"

typedef struct Listing {
    Json *json; /* NULL: text to stdout */
    FileFacts facts;
} Listing;

static void shape_text(const TreeItem *item, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    for (int d = 0; d < item->rank && used < size; d++)
        used += (size_t)snprintf(out + used, size - used, d ? "x%lld" : "%lld", (long long)item->shape[d]);
}

static void print_values(const TreeItem *item) {
    const char *text = item->texts;
    for (int i = 0; i < item->text_count; i++, text += strlen(text) + 1)
        printf("%s\"%s\"", i ? " " : "  ", text);
    if (item->text_count && item->texts_left)
        printf(" and %lld more", (long long)item->texts_left);
    for (int i = 0; i < item->count; i++)
        printf("%s%.9g", i ? " " : "  ", item->numbers[i]);
}

static void print_item(const TreeItem *item) {
    char shape[256];
    shape_text(item, shape, sizeof shape);
    if (item->kind == TREE_GROUP)
        printf("%s/\n", item->path);
    else if (item->kind == TREE_LINK || item->kind == TREE_OTHER)
        printf("%-56s %s\n", item->path, item->kind == TREE_LINK ? "link, not followed" : "neither group nor dataset");
    else {
        printf("%-56s %-8s %-18s", item->path, item->type, shape);
        print_values(item);
        printf("\n");
    }
}

static void json_item(Json *json, const TreeItem *item) {
    static const char *const kinds[] = {"group", "dataset", "attribute", "link", "other"};
    json_begin_object(json, NULL);
    json_string(json, "path", item->path);
    json_string(json, "kind", kinds[item->kind]);
    if (item->type[0]) {
        json_string(json, "type", item->type);
        json_begin_array(json, "shape");
        for (int d = 0; d < item->rank; d++)
            json_integer(json, NULL, item->shape[d]);
        json_end_array(json);
    }
    if (item->kind == TREE_DATASET) {
        json_integer(json, "stored_bytes", item->stored_bytes);
        json_integer(json, "filters", item->filters);
    }
    if (item->text_count == 1 && item->rank == 0) {
        json_string(json, "value", item->texts);
    } else if (item->text_count) {
        const char *text = item->texts;
        json_begin_array(json, "values");
        for (int i = 0; i < item->text_count; i++, text += strlen(text) + 1)
            json_string(json, NULL, text);
        json_end_array(json);
        if (item->texts_left)
            json_integer(json, "values_left", item->texts_left);
    }
    if (item->count) {
        json_begin_array(json, "values");
        for (int i = 0; i < item->count; i++)
            json_number(json, NULL, item->numbers[i]);
        json_end_array(json);
    }
    json_end_object(json);
}

static Status take_item(void *ctx, const TreeItem *item, Error *err) {
    Listing *listing = ctx;
    (void)err;
    facts_add(&listing->facts, item);
    if (listing->json)
        json_item(listing->json, item);
    else
        print_item(item);
    return STATUS_OK;
}

/* Loads a checkpoint with every check and takes its digest. */
static Status check_checkpoint(const char *path, char digest[65], Error *err) {
    CheckpointFile file;
    RETURN_IF(checkpoint_load(path, &file, err));
    Status status = checkpoint_digest(&file, digest, err);
    checkpoint_free(&file);
    return status;
}

static Status inspect(const char *path, Json *json, Error *err) {
    Listing listing = {.json = json};
    char digest[65] = "";
    if (json) {
        json_begin_object(json, NULL);
        json_string(json, "file", path);
        json_begin_array(json, "items");
    }
    RETURN_IF(tree_read(path, take_item, &listing, err));
    if (facts_kind(&listing.facts) == FILE_CHECKPOINT)
        RETURN_IF(check_checkpoint(path, digest, err));
    if (!json) {
        printf("%s: %s, %lld bytes of data\n", path, facts_kind_name(&listing.facts), (long long)listing.facts.bytes);
        if (digest[0])
            printf("checks passed; digest %s\n", digest);
        return STATUS_OK;
    }
    json_end_array(json);
    json_string(json, "kind", facts_kind_name(&listing.facts));
    json_integer(json, "bytes", listing.facts.bytes);
    if (digest[0])
        json_string(json, "digest", digest);
    json_end_object(json);
    return STATUS_OK;
}

static int is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

Status command_inspect(int argc, char **argv, Error *err) {
    int as_json = 0, summary = 0;
    const Option options[] = {
        {"summary", NULL, OPTION_FLAG, &summary, "one line: what it is, epoch, step, model; of a folder always"},
        {"json", NULL, OPTION_FLAG, &as_json, "one JSON value instead of text"},
    };
    const OptionTable table = OPTION_TABLE("inspect FILE|FOLDER [--summary] [--json]", options, 1, 1);
    OptionList positional;
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    Json text, *json = as_json ? &text : NULL;
    const char *path = positional.items[0];
    json_init(&text);
    Status status = is_folder(path) ? summary_of_folder(path, json, err)
                    : summary       ? summary_of_file(path, json, err)
                                    : inspect(path, json, err);
    if (status == STATUS_OK && json && !json->text)
        status = error_set(err, STATUS_SYSTEM, "no memory to describe %s", path);
    else if (json && json->text && (status == STATUS_OK || is_folder(path)))
        printf("%s\n", json->text);
    json_free(&text);
    return status;
}
