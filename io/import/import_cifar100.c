/* CIFAR-100's binary files as an import source. A record: coarse label, fine label, then the red, green and blue planes
 * of a 32x32 image, row by row. The test file becomes split val. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"
#include "io/import/import_job.h"
#include "io/import/source/text_lines.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 2 + 3 * PLANE, PATH_BYTES = 1100 };
static const size_t FILE_LIMIT = (size_t)1 << 30;

typedef struct Cifar {
    char *data[SPLIT_COUNT];
    int64_t *records[SPLIT_COUNT]; /* positions of the records kept */
    int64_t count[SPLIT_COUNT];
    char **names; /* into text */
    int name_count, classes;
    TextLines text;
} Cifar;

static Status read_names(Cifar *cifar, const char *src, int classes, Error *err) {
    char path[PATH_BYTES], *line;
    snprintf(path, sizeof path, "%s/fine_label_names.txt", src);
    RETURN_IF(text_open(&cifar->text, path, err));
    while ((line = text_next(&cifar->text))) {
        char **grown = realloc(cifar->names, (size_t)(cifar->name_count + 1) * sizeof *grown);
        if (!grown)
            return error_set(err, STATUS_SYSTEM, "%s: out of memory", path);
        cifar->names = grown;
        cifar->names[cifar->name_count++] = line;
    }
    if (cifar->name_count < 1 || cifar->name_count > 256)
        return error_set(err, STATUS_DATA, "%s: lists %d classes", path, cifar->name_count);
    for (int c = 1; c < cifar->name_count; c++)
        for (int other = 0; other < c; other++)
            if (strcmp(cifar->names[c], cifar->names[other]) == 0)
                return error_set(err, STATUS_DATA, "%s: %s is listed twice", path, cifar->names[c]);
    if (classes < 0 || classes > cifar->name_count)
        return error_set(err, STATUS_USAGE, "%d classes asked for; %s lists %d", classes, path, cifar->name_count);
    cifar->classes = classes > 0 ? classes : cifar->name_count;
    return STATUS_OK;
}

static Status read_records(Cifar *cifar, Split split, const char *src, Error *err) {
    char path[PATH_BYTES], seen[256] = {0};
    size_t size;
    snprintf(path, sizeof path, "%s/%s", src, split == SPLIT_TRAIN ? "train.bin" : "test.bin");
    RETURN_IF(files_read(path, FILE_LIMIT, &cifar->data[split], &size, err));
    if (size == 0 || size % RECORD != 0)
        return error_set(
            err, STATUS_DATA,
            "%s: %zu bytes are not a whole number of %d-byte records: truncated, or not CIFAR-100's binary version",
            path, size, RECORD);
    const int64_t n = (int64_t)(size / RECORD);
    cifar->records[split] = malloc((size_t)n * sizeof *cifar->records[split]);
    if (!cifar->records[split])
        return error_set(err, STATUS_SYSTEM, "%s: out of memory", path);
    for (int64_t i = 0; i < n; i++) {
        const int label = (unsigned char)cifar->data[split][i * RECORD + 1];
        if (label >= cifar->name_count)
            return error_set(err, STATUS_DATA, "%s: record %lld has fine label %d, fine_label_names.txt lists %d", path,
                             (long long)i, label, cifar->name_count);
        if (label < cifar->classes)
            cifar->records[split][cifar->count[split]++] = i * RECORD;
        seen[label] = 1;
    }
    for (int c = 0; split == SPLIT_TRAIN && c < cifar->name_count; c++)
        if (!seen[c])
            return error_set(err, STATUS_DATA,
                             "%s: holds no record of class %d, which fine_label_names.txt calls %.60s", path, c,
                             cifar->names[c]);
    return STATUS_OK;
}

static Status sample(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err) {
    (void)err;
    const Cifar *cifar = ctx;
    const char *record = cifar->data[split] + cifar->records[split][index];
    *out->label = (unsigned char)record[1];
    for (int p = 0; p < PLANE; p++)
        for (int c = 0; c < 3; c++)
            out->image[p * 3 + c] = (uint8_t)record[2 + c * PLANE + p];
    return STATUS_OK;
}

static void hash_records(const Cifar *cifar, char plan[65]) {
    Sha256 *hash = sha256_new();
    sha256_add(hash, "cifar100 1", 11);
    for (int c = 0; c < cifar->classes; c++)
        sha256_add(hash, cifar->names[c], strlen(cifar->names[c]) + 1);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        sha256_add(hash, &cifar->count[split], sizeof cifar->count[split]);
        for (int64_t i = 0; i < cifar->count[split]; i++)
            sha256_add(hash, cifar->data[split] + cifar->records[split][i], RECORD);
    }
    sha256_end(hash, plan);
}

static Status run(const char *src, const char *dst, const ImportOptions *options, Error *err) {
    Cifar cifar = {.classes = 0};
    ImportSource source = {.kind = "cifar100",
                           .height = SIDE,
                           .width = SIDE,
                           .mean = {0.5071f, 0.4867f, 0.4408f},
                           .std = {0.2675f, 0.2565f, 0.2761f},
                           .sample = sample,
                           .ctx = &cifar};
    Status status;
    if (strlen(src) > 900)
        return error_set(err, STATUS_NO_INPUT, "%s: path too long", src);
    GOTO_IF(read_names(&cifar, src, options ? options->classes : 0, err), done);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++)
        GOTO_IF(read_records(&cifar, split, src, err), done);
    source.classes = cifar.classes;
    source.class_names = cifar.names;
    memcpy(source.count, cifar.count, sizeof source.count);
    hash_records(&cifar, source.plan);
    status = import_run(&source, dst, options, err);
done:
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        free(cifar.data[split]);
        free(cifar.records[split]);
    }
    free(cifar.names);
    text_close(&cifar.text);
    return status;
}

const Importer importer_cifar100 = {
    .name = "cifar100",
    .source = "train.bin, test.bin and fine_label_names.txt of CIFAR-100's binary version",
    .help = "32x32 pictures of 100 classes (fine labels)",
    .run = run,
};
