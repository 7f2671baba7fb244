#include "tests/support/files/sample_checkpoint.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/files/files.h"

static const CheckpointTensor layout[SAMPLE_TENSORS] = {
    {.name = "model/encoder.conv1.weight", .rank = 4, .shape = {8, 3, 3, 3}},
    {.name = "model/encoder.bn1.running_mean", .rank = 1, .shape = {8}},
    {.name = "model/classifier.fc.weight", .rank = 2, .shape = {10, 8}},
    {.name = "momentum/encoder.conv1.weight", .rank = 4, .shape = {8, 3, 3, 3}},
    {.name = "momentum/a.scalar", .rank = 0},
    {.name = "extra/deep/three.axes", .rank = 3, .shape = {2, 3, 4}},
};

size_t sample_values(const CheckpointTensor *tensor) {
    size_t n = 1;
    for (int d = 0; d < tensor->rank; d++)
        n *= (size_t)tensor->shape[d];
    return n;
}

void sample_make(int64_t step, CheckpointMeta *meta, CheckpointTensor tensors[SAMPLE_TENSORS]) {
    *meta = (CheckpointMeta){.step = step,
                             .epoch = 1 + step / 10,
                             .cursor = step % 10,
                             .world_size = 2,
                             .best = -1,
                             .best_step = -1,
                             .width = 64,
                             .classes = 200,
                             .image_size = 64,
                             .projection = 128,
                             .mean = {0.4f, 0.5f, 0.6f},
                             .std = {0.1f, 0.2f, 0.3f},
                             .tally = {.steps = (double)(step % 10), .loss = 12.5, .loss_steps = 1.0}};
    strcpy(meta->method, "excon");
    strcpy(meta->encoder, "resnet18");
    memset(meta->config_hash, 'c', 64);
    for (int t = 0; t < SAMPLE_TENSORS; t++) {
        tensors[t] = layout[t];
        size_t n = sample_values(&tensors[t]);
        tensors[t].data = malloc(n * sizeof(float));
        assert_non_null(tensors[t].data);
        for (size_t i = 0; i < n; i++)
            tensors[t].data[i] = (float)(step * 1000 + t) + (float)i / 1024;
    }
    tensors[0].data[0] = NAN;
    tensors[0].data[1] = -0.0f;
    tensors[0].data[2] = 1e-42f;
}

void sample_free(CheckpointTensor tensors[SAMPLE_TENSORS]) {
    for (int t = 0; t < SAMPLE_TENSORS; t++)
        free(tensors[t].data);
}

Status sample_save_best(const char *dir, int64_t step, int keep, int is_best, int64_t best_step, int64_t resumed_from,
                        Error *err) {
    CheckpointMeta meta;
    CheckpointTensor tensors[SAMPLE_TENSORS];
    sample_make(step, &meta, tensors);
    meta.best_step = is_best ? step : best_step;
    meta.best = meta.best_step >= 0 ? 0.5 : -1;
    const CheckpointFile file = {.meta = meta, .tensors = tensors, .count = SAMPLE_TENSORS};
    Status status = checkpoint_save(dir, &file, keep, is_best, resumed_from, err);
    sample_free(tensors);
    return status;
}

Status sample_save(const char *dir, int64_t step, Error *err) {
    return sample_save_best(dir, step, 3, 0, -1, -1, err);
}

int sample_right(const CheckpointFile *file) {
    CheckpointMeta meta;
    CheckpointTensor tensors[SAMPLE_TENSORS];
    sample_make(file->meta.step, &meta, tensors);
    meta.best = file->meta.best;
    meta.best_step = file->meta.best_step;
    int right = file->count == SAMPLE_TENSORS && memcmp(&meta, &file->meta, sizeof meta) == 0;
    for (int t = 0; t < SAMPLE_TENSORS && right; t++) {
        const CheckpointTensor *got = checkpoint_find(file, layout[t].name);
        right = got && got->rank == layout[t].rank && memcmp(got->shape, layout[t].shape, sizeof got->shape) == 0 &&
                memcmp(got->data, tensors[t].data, sample_values(got) * sizeof(float)) == 0;
    }
    sample_free(tensors);
    return right;
}

static void take_note(void *ctx, const char *text) {
    Notes *notes = ctx;
    notes->count++;
    snprintf(notes->last, sizeof notes->last, "%s", text);
}

int64_t sample_newest(const char *dir, Notes *notes) {
    CheckpointFile file;
    Error err;
    int found;
    memset(notes, 0, sizeof *notes);
    const CheckpointReader reader = {.note = take_note, .ctx = notes};
    Status status = checkpoint_load_newest(dir, &file, &found, &reader, &err);
    if (status == STATUS_DATA) {
        assert_non_null(strstr(err.message, dir));
        return -2;
    }
    assert_int_equal(status, STATUS_OK);
    if (!found)
        return -1;
    assert_true(sample_right(&file));
    int64_t step = file.meta.step;
    checkpoint_free(&file);
    return step;
}

const char *sample_file(Folder *folder, const char *dir, int64_t step, const char *suffix) {
    char name[96];
    snprintf(name, sizeof name, "%s/step-%08lld.h5%s", dir, (long long)step, suffix);
    return folder_file(folder, name);
}

int64_t sample_link(const char *dir, const char *name) {
    char path[PATH_MAX], target[64] = {0};
    long long step = -1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (readlink(path, target, sizeof target - 1) <= 0 || !files_exists(path))
        return -1;
    assert_int_equal(sscanf(target, "step-%lld.h5", &step), 1);
    return step;
}

int sample_loads(const char *path, Error *err) {
    CheckpointFile file;
    Status status = checkpoint_load(path, &file, err);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_DATA);
        assert_non_null(strstr(err->message, path));
        return 0;
    }
    int right = sample_right(&file);
    checkpoint_free(&file);
    assert_true(right);
    return 1;
}
