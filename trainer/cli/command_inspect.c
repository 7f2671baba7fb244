/* excon inspect FILE: what a checkpoint, a shard, an index or any other HDF5 file holds, as text or as one JSON object.
 *
 * A checkpoint (it has an attribute `cursor`) is also loaded, so that its sums are checked, and its digest is shown. */
#include <stdio.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/inspect/tree.h"
#include "io/records/records.h"
#include "trainer/cli/commands.h"
#include "trainer/cli/options.h"

typedef struct Listing {
    Json *json; /* NULL: text to stdout */
    int is_checkpoint, has_images, has_shards;
    int64_t bytes;
} Listing;

static void shape_text(const TreeItem *item, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    for (int d = 0; d < item->rank && used < size; d++)
        used += (size_t)snprintf(out + used, size - used, d ? "x%lld" : "%lld", (long long)item->shape[d]);
}

static void print_values(const TreeItem *item) {
    if (item->is_text)
        printf("  \"%s\"", item->text);
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
    if (item->is_text)
        json_string(json, "value", item->text);
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
    listing->is_checkpoint |= strcmp(item->path, "@cursor") == 0;
    listing->has_images |= item->kind == TREE_DATASET && strcmp(item->path, "images") == 0;
    listing->has_shards |= item->kind == TREE_ATTRIBUTE && strstr(item->path, "@shards") != NULL;
    if (item->kind == TREE_DATASET)
        listing->bytes += item->stored_bytes;
    if (listing->json)
        json_item(listing->json, item);
    else
        print_item(item);
    return STATUS_OK;
}

static const char *kind_of(const Listing *listing) {
    if (listing->is_checkpoint)
        return "checkpoint";
    if (listing->has_images)
        return "shard";
    return listing->has_shards ? "index" : "hdf5";
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
    if (listing.is_checkpoint)
        RETURN_IF(check_checkpoint(path, digest, err));
    if (!json) {
        printf("%s: %s, %lld bytes of data\n", path, kind_of(&listing), (long long)listing.bytes);
        if (digest[0])
            printf("checks passed; digest %s\n", digest);
        return STATUS_OK;
    }
    json_end_array(json);
    json_string(json, "kind", kind_of(&listing));
    json_integer(json, "bytes", listing.bytes);
    if (digest[0])
        json_string(json, "digest", digest);
    json_end_object(json);
    if (!json->text)
        return error_set(err, STATUS_SYSTEM, "no memory to describe %s", path);
    printf("%s\n", json->text);
    return STATUS_OK;
}

Status command_inspect(int argc, char **argv, Error *err) {
    int as_json = 0, help;
    const Option options[] = {{"json", NULL, OPTION_FLAG, &as_json, "one JSON object instead of text"}};
    const OptionTable table = {.usage = "inspect FILE [--json]",
                               .options = options,
                               .option_count = sizeof options / sizeof *options,
                               .positional_min = 1,
                               .positional_max = 1};
    OptionList positional;
    RETURN_IF(options_parse(&table, argc, argv, &positional, &help, err));
    if (help)
        return STATUS_OK;
    Json json;
    json_init(&json);
    Status status = inspect(positional.items[0], as_json ? &json : NULL, err);
    json_free(&json);
    return status;
}
