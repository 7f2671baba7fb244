/* Tiny ImageNet in its official layout as an import source.
 *
 * The lists decide what is imported: every file named in them must exist, once, and no folder may hold images, no
 * train/ may hold classes, that its list does not name. What macOS and Windows leave in folders is passed over. Source
 * order: classes sorted by wnid, each in the order of its list; val in the order of its list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"
#include "io/images/jpeg.h"
#include "io/import/import_job.h"
#include "io/import/source/listing.h"
#include "io/import/source/text_lines.h"

enum { PATH_BYTES = 1400, JPEG_LIMIT = 16 << 20 };

typedef struct Entry {
    char *name; /* into one of `texts` */
    int32_t label;
    int16_t box[4];
} Entry;

typedef struct Tiny {
    const char *src;
    char **wnids; /* sorted; into texts[0] */
    int wnid_count, classes;
    char **names; /* [classes], owned */
    Entry *entries[SPLIT_COUNT];
    int64_t count[SPLIT_COUNT], room[SPLIT_COUNT];
    TextLines *texts; /* kept: names point into them */
    int text_count;
    int height, width;
} Tiny;

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static Status no_memory(Error *err) {
    return error_set(err, STATUS_SYSTEM, "out of memory while reading the lists of images");
}

/* Opens a list that stays in memory until the import ends. */
static Status keep_text(Tiny *tiny, const char *path, TextLines **out, Error *err) {
    TextLines *texts = realloc(tiny->texts, (size_t)(tiny->text_count + 1) * sizeof *texts);
    if (!texts)
        return no_memory(err);
    tiny->texts = texts;
    RETURN_IF(text_open(&texts[tiny->text_count], path, err));
    *out = &texts[tiny->text_count++];
    return STATUS_OK;
}

static Status read_wnids(Tiny *tiny, int classes, Error *err) {
    char path[PATH_BYTES], *line;
    TextLines *lines = NULL;
    snprintf(path, sizeof path, "%s/wnids.txt", tiny->src);
    RETURN_IF(keep_text(tiny, path, &lines, err));
    while ((line = text_next(lines))) {
        char *wnid, **grown = realloc(tiny->wnids, (size_t)(tiny->wnid_count + 1) * sizeof *grown);
        if (!grown)
            return no_memory(err);
        tiny->wnids = grown;
        RETURN_IF(text_fields(lines, line, 1, &wnid, err));
        RETURN_IF(text_plain_name(lines, wnid, err));
        tiny->wnids[tiny->wnid_count++] = wnid;
    }
    if (tiny->wnid_count == 0 || tiny->wnid_count > DATASET_MAX_CLASSES)
        return error_set(err, STATUS_DATA, "%s: lists %d classes", path, tiny->wnid_count);
    qsort(tiny->wnids, (size_t)tiny->wnid_count, sizeof *tiny->wnids, compare_strings);
    for (int c = 1; c < tiny->wnid_count; c++)
        if (strcmp(tiny->wnids[c], tiny->wnids[c - 1]) == 0)
            return error_set(err, STATUS_DATA, "%s: %s is listed twice", path, tiny->wnids[c]);
    if (classes < 0 || classes > tiny->wnid_count)
        return error_set(err, STATUS_USAGE, "%d classes asked for; %s lists %d", classes, path, tiny->wnid_count);
    tiny->classes = classes > 0 ? classes : tiny->wnid_count;
    return STATUS_OK;
}

/* Place of a wnid in the sorted list, -1 when it is not there. */
static int label_of(const Tiny *tiny, const char *wnid) {
    char *const *found = bsearch(&wnid, tiny->wnids, (size_t)tiny->wnid_count, sizeof *tiny->wnids, compare_strings);
    return found ? (int)(found - tiny->wnids) : -1;
}

/* Class names: the wnid, and its text where words.txt has one. */
static Status read_words(Tiny *tiny, Error *err) {
    char path[PATH_BYTES], *line;
    TextLines lines;
    tiny->names = calloc((size_t)tiny->classes, sizeof *tiny->names);
    for (int c = 0; c < tiny->classes; c++)
        if (!tiny->names || !(tiny->names[c] = calloc(1, DATASET_NAME_BYTES)))
            return no_memory(err);
    for (int c = 0; c < tiny->classes; c++)
        snprintf(tiny->names[c], DATASET_NAME_BYTES, "%s", tiny->wnids[c]);
    snprintf(path, sizeof path, "%s/words.txt", tiny->src);
    if (!files_exists(path))
        return STATUS_OK;
    RETURN_IF(text_open(&lines, path, err));
    while ((line = text_next(&lines))) {
        char *tab = strchr(line, '\t');
        if (!tab)
            continue;
        *tab = 0;
        const int label = label_of(tiny, line);
        if (label >= 0 && label < tiny->classes)
            snprintf(tiny->names[label], DATASET_NAME_BYTES, "%s %s", line, tab + 1);
    }
    text_close(&lines);
    return STATUS_OK;
}

static Status add_entry(Tiny *tiny, Split split, const TextLines *lines, char *name, int label, char **box,
                        Error *err) {
    if (tiny->count[split] == tiny->room[split]) {
        const int64_t room = tiny->room[split] ? 2 * tiny->room[split] : 1024;
        Entry *entries = realloc(tiny->entries[split], (size_t)room * sizeof *entries);
        if (!entries)
            return no_memory(err);
        tiny->entries[split] = entries;
        tiny->room[split] = room;
    }
    Entry *entry = &tiny->entries[split][tiny->count[split]];
    *entry = (Entry){.name = name, .label = label};
    RETURN_IF(text_plain_name(lines, name, err));
    for (int i = 0; i < 4; i++)
        RETURN_IF(text_number(lines, box[i], DATASET_MAX_SIDE, &entry->box[i], err));
    if (entry->box[2] < entry->box[0] || entry->box[3] < entry->box[1])
        return error_set(err, STATUS_DATA, "%s:%d: the box of %s is inside out", lines->path, lines->number, name);
    tiny->count[split]++;
    return STATUS_OK;
}

/* The images of the entries from `first` on, and nothing else, lie in train/WNID/images. */
static Status check_class(const Tiny *tiny, int label, int64_t first, const char *list, Error *err) {
    char path[PATH_BYTES];
    const int64_t count = tiny->count[SPLIT_TRAIN] - first;
    if (count == 0)
        return error_set(err, STATUS_DATA, "%s: lists no image", list);
    const char **names = malloc((size_t)count * sizeof *names);
    if (!names)
        return no_memory(err);
    for (int64_t i = 0; i < count; i++)
        names[i] = tiny->entries[SPLIT_TRAIN][first + i].name;
    snprintf(path, sizeof path, "%s/train/%s/images", tiny->src, tiny->wnids[label]);
    Status status = listing_check(path, list, names, count, err);
    free(names);
    return status;
}

static Status read_train(Tiny *tiny, Error *err) {
    char path[PATH_BYTES], list[PATH_BYTES], *line, *fields[5];
    snprintf(path, sizeof path, "%s/train", tiny->src);
    snprintf(list, sizeof list, "%s/wnids.txt", tiny->src);
    RETURN_IF(listing_check_folders(path, list, tiny->wnids, tiny->wnid_count, err));
    for (int c = 0; c < tiny->classes; c++) {
        TextLines *lines = NULL;
        const int64_t before = tiny->count[SPLIT_TRAIN];
        snprintf(path, sizeof path, "%s/train/%s/%s_boxes.txt", tiny->src, tiny->wnids[c], tiny->wnids[c]);
        RETURN_IF(keep_text(tiny, path, &lines, err));
        while ((line = text_next(lines))) {
            RETURN_IF(text_fields(lines, line, 5, fields, err));
            RETURN_IF(add_entry(tiny, SPLIT_TRAIN, lines, fields[0], c, fields + 1, err));
        }
        RETURN_IF(check_class(tiny, c, before, path, err));
    }
    return STATUS_OK;
}

/* Appends to the list of all names of the val list, whatever their class. */
static Status add_name(const char ***names, int64_t count, const char *name, Error *err) {
    if ((count & (count - 1)) == 0) { /* a power of two: the room is used up */
        const char **grown = realloc(*names, (size_t)(count ? 2 * count : 1) * sizeof *grown);
        if (!grown)
            return no_memory(err);
        *names = grown;
    }
    (*names)[count] = name;
    return STATUS_OK;
}

static Status read_val_lines(Tiny *tiny, TextLines *lines, const char ***names, int64_t *count, Error *err) {
    char *line, *fields[6];
    while ((line = text_next(lines))) {
        RETURN_IF(text_fields(lines, line, 6, fields, err));
        const int label = label_of(tiny, fields[1]);
        if (label < 0)
            return error_set(err, STATUS_DATA, "%s:%d: class '%.40s' is not in wnids.txt", lines->path, lines->number,
                             fields[1]);
        RETURN_IF(add_name(names, *count, fields[0], err));
        ++*count;
        if (label < tiny->classes)
            RETURN_IF(add_entry(tiny, SPLIT_VAL, lines, fields[0], label, fields + 2, err));
    }
    return STATUS_OK;
}

static Status read_val(Tiny *tiny, Error *err) {
    char path[PATH_BYTES], folder[PATH_BYTES];
    TextLines *lines = NULL;
    const char **names = NULL;
    int64_t count = 0;
    snprintf(path, sizeof path, "%s/val/val_annotations.txt", tiny->src);
    snprintf(folder, sizeof folder, "%s/val/images", tiny->src);
    RETURN_IF(keep_text(tiny, path, &lines, err));
    Status status = read_val_lines(tiny, lines, &names, &count, err);
    if (status == STATUS_OK)
        status = listing_check(folder, path, names, count, err);
    if (status == STATUS_OK && count == 0)
        status = error_set(err, STATUS_DATA, "%s: lists no image", path);
    free(names);
    return status;
}

static void entry_path(const Tiny *tiny, Split split, const Entry *entry, char path[PATH_BYTES]) {
    if (split == SPLIT_TRAIN)
        snprintf(path, PATH_BYTES, "%s/train/%s/images/%s", tiny->src, tiny->wnids[entry->label], entry->name);
    else
        snprintf(path, PATH_BYTES, "%s/val/images/%s", tiny->src, entry->name);
}

/* The first train image decides the size of all. */
static Status read_size(Tiny *tiny, Error *err) {
    char path[PATH_BYTES], *data;
    size_t size;
    if (tiny->count[SPLIT_TRAIN] == 0)
        return error_set(err, STATUS_DATA, "%s: the lists under train/ name no image", tiny->src);
    entry_path(tiny, SPLIT_TRAIN, &tiny->entries[SPLIT_TRAIN][0], path);
    RETURN_IF(files_read(path, JPEG_LIMIT, &data, &size, err));
    Status status = jpeg_size(path, data, size, &tiny->height, &tiny->width, err);
    free(data);
    if (status == STATUS_OK && (tiny->height > DATASET_MAX_SIDE || tiny->width > DATASET_MAX_SIDE))
        status = error_set(err, STATUS_DATA, "%s: %dx%d is too large", path, tiny->height, tiny->width);
    return status;
}

static Status sample(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err) {
    const Tiny *tiny = ctx;
    const Entry *entry = &tiny->entries[split][index];
    char path[PATH_BYTES], *data;
    size_t size;
    entry_path(tiny, split, entry, path);
    RETURN_IF(files_read(path, JPEG_LIMIT, &data, &size, err));
    Status status = out->image ? jpeg_decode(path, data, size, tiny->height, tiny->width, out->image, err) : STATUS_OK;
    sha256_of(data, size, out->digest);
    free(data);
    if (out->image) {
        *out->label = entry->label;
        memcpy(out->box, entry->box, sizeof entry->box);
    }
    return status;
}

/* Hash of the lists: which images, which labels, which boxes. */
static void hash_lists(const Tiny *tiny, char plan[65]) {
    Sha256 *hash = sha256_new();
    int numbers[3] = {tiny->height, tiny->width, tiny->classes};
    sha256_add(hash, "tiny-imagenet 1", 16);
    sha256_add(hash, numbers, sizeof numbers);
    for (int c = 0; c < tiny->classes; c++)
        sha256_add(hash, tiny->names[c], strlen(tiny->names[c]) + 1);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++)
        for (int64_t i = 0; i < tiny->count[split]; i++) {
            const Entry *entry = &tiny->entries[split][i];
            sha256_add(hash, entry->name, strlen(entry->name) + 1);
            sha256_add(hash, &entry->label, sizeof entry->label);
            sha256_add(hash, entry->box, sizeof entry->box);
        }
    sha256_end(hash, plan);
}

static void tiny_free(Tiny *tiny) {
    for (int t = 0; t < tiny->text_count; t++)
        text_close(&tiny->texts[t]);
    for (int c = 0; tiny->names && c < tiny->classes; c++)
        free(tiny->names[c]);
    free(tiny->texts);
    free(tiny->names);
    free(tiny->wnids);
    free(tiny->entries[SPLIT_TRAIN]);
    free(tiny->entries[SPLIT_VAL]);
}

static Status run(const char *src, const char *dst, const ImportOptions *options, Error *err) {
    Tiny tiny = {.src = src};
    ImportSource source = {.kind = "tiny-imagenet",
                           .mean = {0.4802f, 0.4481f, 0.3975f},
                           .std = {0.2302f, 0.2265f, 0.2262f},
                           .has_boxes = 1,
                           .has_digests = 1,
                           .sample = sample,
                           .ctx = &tiny};
    Status status;
    if (strlen(src) > 900)
        return error_set(err, STATUS_NO_INPUT, "%s: path too long", src);
    GOTO_IF(read_wnids(&tiny, options ? options->classes : 0, err), done);
    GOTO_IF(read_words(&tiny, err), done);
    GOTO_IF(read_train(&tiny, err), done);
    GOTO_IF(read_val(&tiny, err), done);
    GOTO_IF(read_size(&tiny, err), done);
    source.classes = tiny.classes;
    source.height = tiny.height;
    source.width = tiny.width;
    source.class_names = tiny.names;
    memcpy(source.count, tiny.count, sizeof source.count);
    hash_lists(&tiny, source.plan);
    status = import_run(&source, dst, options, err);
done:
    tiny_free(&tiny);
    return status;
}

const Importer importer_tiny_imagenet = {
    .name = "tiny-imagenet",
    .source = "the official folder tiny-imagenet-200: wnids.txt, words.txt, train/ and val/",
    .help = "64x64 pictures of 200 classes, with boxes; classes in the order of their wnids",
    .run = run,
};
