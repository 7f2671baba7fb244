/* Evaluation against PyTorch in float64: accuracy, likelihood, and drop and increase both ways.
 *
 * A golden file eval-NAME.h5 holds images, labels, a model and the numbers that follow from them (make_golden.py). The
 * test stores images and model as a dataset folder and a run folder, runs `excon eval RUN --json` on one rank and on
 * two, and compares what it prints. */
#include <hdf5.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/arrays/arrays.h"
#include "io/checkpoint/checkpoint.h"
#include "io/import/import_job.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"
#include "tests/support/programs/probe.h"

/* f32 in the same PyTorch code is within 3e-5 of float64 (the generator checks it, and that no decision is close). One
 * image more or less among the shares of the 33 is 0.03. */
static const double tolerance = 1e-4;

static const char *const numbers[] = {"count", "top1",     "top5",      "nll",       "drop",          "increase",
                                      "gain",  "decrease", "soft_drop", "soft_gain", "soft_increase", "soft_decrease"};
enum { NUMBERS = sizeof numbers / sizeof *numbers, TENSORS = 128 };

typedef struct Golden {
    const char *path;
    ArrayFile *file;
    Array images, labels, mean, std; /* [n,S,S,3] [n] [3] [3] */
    CheckpointTensor tensors[TENSORS];
    int tensor_count;
    char encoder[16], set[PROBE_TEXT];
} Golden;

static Array read_array(const Golden *g, const char *name, ArrayType type, int rank) {
    Array array;
    Error err;
    if (array_read(g->file, name, type, rank, &array, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return array;
}

static void read_text(const char *path, const char *name, char *text, size_t size) {
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attribute = H5Aopen(file, name, H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    assert_true(file >= 0 && attribute >= 0 && H5Tget_size(type) < size);
    memset(text, 0, size);
    assert_true(H5Aread(attribute, type, text) >= 0);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
}

/* Names of every dataset below /model, as a checkpoint gives them. */
static void list_tensors(Golden *g) {
    hid_t file = H5Fopen(g->path, H5F_ACC_RDONLY, H5P_DEFAULT), group = H5Gopen2(file, "/model", H5P_DEFAULT);
    H5G_info_t info;
    assert_true(group >= 0 && H5Gget_info(group, &info) >= 0 && info.nlinks <= TENSORS);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        CheckpointTensor *tensor = &g->tensors[g->tensor_count++];
        const size_t prefix = strlen("model/");
        memcpy(tensor->name, "model/", prefix);
        assert_true(H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, tensor->name + prefix,
                                       sizeof tensor->name - prefix, H5P_DEFAULT) > 0);
    }
    H5Gclose(group);
    H5Fclose(file);
}

static void read_tensors(Golden *g) {
    for (int i = 0; i < g->tensor_count; i++) {
        CheckpointTensor *tensor = &g->tensors[i];
        Array array = read_array(g, tensor->name, ARRAY_F32, -1);
        tensor->rank = array.rank;
        memcpy(tensor->shape, array.shape, sizeof tensor->shape);
        tensor->data = array.f32;
    }
}

static const CheckpointTensor *tensor_of(const Golden *g, const char *name) {
    for (int i = 0; i < g->tensor_count; i++)
        if (strcmp(g->tensors[i].name, name) == 0)
            return &g->tensors[i];
    fail_msg("%s has no %s", g->path, name);
    return NULL;
}

static void golden_open(Golden *g, const char *path) {
    Error err;
    *g = (Golden){.path = path};
    /* first: HDF5 opens a file a second time only in the way of the first, and array_file_open has its own */
    list_tensors(g);
    read_text(path, "encoder", g->encoder, sizeof g->encoder);
    read_text(path, "set", g->set, sizeof g->set);
    if (array_file_open(&g->file, path, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    g->images = read_array(g, "images", ARRAY_U8, 4);
    g->labels = read_array(g, "labels", ARRAY_I32, 1);
    g->mean = read_array(g, "mean", ARRAY_F32, 1);
    g->std = read_array(g, "std", ARRAY_F32, 1);
    read_tensors(g);
}

static void golden_close(Golden *g) {
    for (int i = 0; i < g->tensor_count; i++)
        free(g->tensors[i].data);
    array_free(&g->images);
    array_free(&g->labels);
    array_free(&g->mean);
    array_free(&g->std);
    array_file_close(g->file);
}

static Status sample(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err) {
    const Golden *g = ctx;
    const size_t bytes = (size_t)(g->images.count / g->images.shape[0]);
    (void)split, (void)err;
    memcpy(out->image, g->images.u8 + (size_t)index * bytes, bytes);
    *out->label = g->labels.i32[index];
    return STATUS_OK;
}

static void write_dataset(Golden *g, const char *dir, int classes) {
    char name[4] = "any", *names[16];
    Error err;
    assert_true(classes <= 16);
    for (int c = 0; c < classes; c++)
        names[c] = name;
    ImportSource source = {.kind = "golden",
                           .classes = classes,
                           .height = (int)g->images.shape[1],
                           .width = (int)g->images.shape[2],
                           .class_names = names,
                           .count = {g->images.shape[0], g->images.shape[0]},
                           .plan = "golden",
                           .sample = sample,
                           .ctx = g};
    memcpy(source.mean, g->mean.f32, sizeof source.mean);
    memcpy(source.std, g->std.f32, sizeof source.std);
    const ImportOptions options = {.threads = 1, .shard_rows = 20, .chunk_rows = 7};
    if (import_run(&source, dir, &options, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

/* A run folder: config.yaml and one checkpoint. */
static void write_run(Golden *g, Folder *folder, int classes, const char *data) {
    CheckpointMeta meta = {.step = 1, .epoch = 1, .world_size = 1, .finished = 1, .best = -1, .best_step = -1};
    char yaml[2 * PATH_MAX];
    Error err;
    snprintf(meta.method, sizeof meta.method, "excon");
    snprintf(meta.encoder, sizeof meta.encoder, "%s", g->encoder);
    meta.width = tensor_of(g, "model/encoder.conv1.weight")->shape[0];
    meta.projection = tensor_of(g, "model/head.2.weight")->shape[0];
    meta.classes = classes;
    meta.image_size = g->images.shape[1];
    memcpy(meta.mean, g->mean.f32, sizeof meta.mean);
    memcpy(meta.std, g->std.f32, sizeof meta.std);
    const CheckpointFile file = {.meta = meta, .tensors = g->tensors, .count = g->tensor_count};
    if (checkpoint_save(folder_file(folder, "run/checkpoints"), &file, 1, 0, -1, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    int size = snprintf(yaml, sizeof yaml, "data: {dir: \"%s\"}\n", data);
    file_write(folder_file(folder, "run/config.yaml"), yaml, (size_t)size);
}

/* The number behind "key": in a line of JSON. */
static double number_of(const char *text, const char *key) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *at = strstr(text, pattern);
    return at ? strtod(at + strlen(pattern), NULL) : NAN;
}

static void compare_numbers(const Golden *g, const char *log, int ranks) {
    size_t size;
    char *text = file_read(log, &size);
    int faults = 0;
    for (int i = 0; i < NUMBERS; i++) {
        char name[64];
        snprintf(name, sizeof name, "expect/%s", numbers[i]);
        Array want = read_array(g, name, ARRAY_F32, 1);
        const double got = number_of(text, numbers[i]), expected = (double)want.f32[0];
        if (!(fabs(got - expected) <= tolerance * expected)) {
            print_error("%s, %d rank(s): %s is %.9g, want %.9g\n", g->path, ranks, numbers[i], got, expected);
            faults++;
        }
        array_free(&want);
    }
    free(text);
    assert_int_equal(faults, 0);
}

static void evaluate(Folder *folder, const Golden *g, int ranks, const char *set_too) {
    char sets[PROBE_TEXT], *rest = NULL;
    const char *arguments[32] = {"eval", folder_file(folder, "run"), "--json"}, *log = folder_file(folder, "log");
    int count = 3;
    snprintf(sets, sizeof sets, "%s", g->set);
    for (char *set = strtok_r(sets, "\n", &rest); set && count < 28; set = strtok_r(NULL, "\n", &rest)) {
        arguments[count++] = "--set";
        arguments[count++] = set;
    }
    if (set_too) {
        arguments[count++] = "--set";
        arguments[count++] = set_too;
    }
    assert_int_equal(probe_program(arguments, ranks, log), 0);
    compare_numbers(g, log, ranks);
}

static void test_numbers(void **state) {
    Folder *folder = *state;
    const char *base = getenv("GOLDEN"), *data = folder_file(folder, "data");
    char path[PROBE_PATH];
    Golden g;
    launch_skip_for(probe_missing());
    snprintf(path, sizeof path, "%s/eval-faithfulness.h5", base && *base ? base : "tests/golden");
    golden_open(&g, path);
    const int classes = (int)tensor_of(&g, "model/classifier.fc.weight")->shape[0];
    write_dataset(&g, data, classes);
    write_run(&g, folder, classes, data);
    evaluate(folder, &g, 1, NULL);
    evaluate(folder, &g, 2, NULL);
    evaluate(folder, &g, 1, "explain.relu=true"); /* is for training: evaluation's map is signed */
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_numbers, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
