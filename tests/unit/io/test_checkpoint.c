/* Checkpoints: round trip, equal bytes, digest, the newest valid one, pruning. Damaged and foreign files are in
 * test_checkpoint_damage.c, crashes and failing calls in test_checkpoint_faults.c. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/files/files.h"
#include "tests/support/files/files.h"
#include "tests/support/files/sample_checkpoint.h"

/* ---- sound files ---- */

static void test_round_trip(void **state) {
    const char *dir = folder_file(*state, "checkpoints");
    CheckpointFile file;
    Error err;
    Notes notes;
    assert_int_equal(sample_newest(dir, &notes), -1);
    assert_int_equal(sample_save(dir, 7, &err), STATUS_OK);
    assert_int_equal(checkpoint_load(sample_file(*state, "checkpoints", 7, ""), &file, &err), STATUS_OK);
    assert_int_equal(file.meta.step, 7);
    assert_true(sample_right(&file));
    assert_null(checkpoint_find(&file, "model/none"));
    checkpoint_free(&file);
    assert_int_equal(checkpoint_load(folder_file(*state, "checkpoints/last.h5"), &file, &err), STATUS_OK);
    assert_true(sample_right(&file));
    checkpoint_free(&file);
    assert_int_equal(sample_newest(dir, &notes), 7);
    assert_int_equal(notes.count, 0);
    assert_int_equal(checkpoint_load(folder_file(*state, "absent.h5"), &file, &err), STATUS_NO_INPUT);
}

/* Equal state gives equal bytes, across a change of the clock's second. */
static void test_equal_bytes(void **state) {
    Error err;
    size_t size[2];
    char *bytes[2];
    for (int i = 0; i < 2; i++) {
        const char *dir = i ? "two" : "one";
        assert_int_equal(sample_save(folder_file(*state, dir), 3, &err), STATUS_OK);
        bytes[i] = file_read(sample_file(*state, dir, 3, ""), &size[i]);
        usleep(i ? 0 : 1100000);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* The digest depends on every value and the cursor, on nothing else, and not on the order of the tensors. */
/* HDF5 refuses to open a file in memory under a name that the working folder has too. */
static void test_working_folder(void **state) {
    char before[PATH_MAX];
    Error err = {0};
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(sample_save(folder_file(*state, "checkpoints"), 7, &err), STATUS_OK);
    assert_int_equal(chdir(folder_file(*state, "")), 0);
    assert_int_equal(mkdir("checkpoint", 0700), 0);
    const int loads = sample_loads("checkpoints/step-00000007.h5", &err);
    assert_int_equal(chdir(before), 0);
    if (!loads)
        fail_msg("%s", err.message);
}

static void test_digest(void **state) {
    (void)state;
    CheckpointFile file = {.count = SAMPLE_TENSORS};
    CheckpointTensor tensors[SAMPLE_TENSORS], swapped;
    Error err;
    char base[65], other[65];
    sample_make(5, &file.meta, tensors);
    file.tensors = tensors;
    assert_int_equal(checkpoint_digest(&file, base, &err), STATUS_OK);
    assert_int_equal(strlen(base), 64);

    swapped = tensors[0];
    tensors[0] = tensors[3];
    tensors[3] = swapped;
    file.meta.world_size = 17;
    checkpoint_digest(&file, other, &err);
    assert_string_equal(base, other);

    int64_t *const cursor[] = {&file.meta.step, &file.meta.epoch, &file.meta.cursor, &file.meta.phase};
    for (int i = 0; i < 4; i++) {
        ++*cursor[i];
        checkpoint_digest(&file, other, &err);
        assert_string_not_equal(base, other);
        --*cursor[i];
    }
    for (int t = 0; t < SAMPLE_TENSORS; t++) {
        float *last = &tensors[t].data[sample_values(&tensors[t]) - 1], old = *last;
        *last = nextafterf(old, INFINITY);
        checkpoint_digest(&file, other, &err);
        assert_string_not_equal(base, other);
        *last = old;
    }
    tensors[2].shape[0] = 8;
    tensors[2].shape[1] = 10;
    checkpoint_digest(&file, other, &err);
    assert_string_not_equal(base, other);
    sample_free(tensors);
}

/* ---- newest valid ---- */

static void test_newest_valid(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (int64_t step = 1; step <= 3; step++)
        assert_int_equal(sample_save_best(dir, step, 9, step == 3, -1, -1, &err), STATUS_OK);
    size_t size;
    char *bytes = file_read(sample_file(*state, "c", 3, ""), &size);
    bytes[size / 2] ^= 1;
    file_write(sample_file(*state, "c", 3, ""), bytes, size);
    free(bytes);
    assert_int_equal(truncate(sample_file(*state, "c", 2, ""), 700), 0);
    unlink(folder_file(*state, "c/manifest.json"));

    assert_int_equal(sample_newest(dir, &notes), 1);
    assert_int_equal(notes.count, 2);
    assert_non_null(strstr(notes.last, "step-00000002.h5.bad"));
    assert_true(files_exists(sample_file(*state, "c", 3, ".bad")));
    assert_true(files_exists(sample_file(*state, "c", 2, ".bad")));
    assert_false(files_exists(sample_file(*state, "c", 3, "")));
    assert_int_equal(sample_link(dir, "last.h5"), 1);
    assert_int_equal(sample_link(dir, "best.h5"), -1);

    /* A second bad file of the same step does not overwrite the first. */
    assert_int_equal(sample_save(dir, 2, &err), STATUS_OK);
    assert_int_equal(truncate(sample_file(*state, "c", 2, ""), 700), 0);
    assert_int_equal(sample_newest(dir, &notes), 1);
    assert_true(files_exists(sample_file(*state, "c", 2, ".bad.2")));

    /* Never silently from zero. */
    assert_int_equal(truncate(sample_file(*state, "c", 1, ""), 0), 0);
    assert_int_equal(sample_newest(dir, &notes), -2);
    assert_int_equal(notes.count, 1);
    assert_int_equal(sample_newest(dir, &notes), -2);
}

static void test_renamed_checkpoint(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    assert_int_equal(sample_save(dir, 4, &err), STATUS_OK);
    size_t size;
    char *bytes = file_read(sample_file(*state, "c", 4, ""), &size);
    file_write(sample_file(*state, "c", 8, ""), bytes, size);
    free(bytes);
    assert_int_equal(sample_newest(dir, &notes), 4);
    assert_non_null(strstr(notes.last, "step 4"));
    assert_true(files_exists(sample_file(*state, "c", 8, ".bad")));
}

/* A hostile or torn manifest is given up; the checkpoints are still read by their own seals. */
static void test_manifest_garbage(void **state) {
    static const char *const texts[] = {"", "{", "[[[[[[", "{\"file\":\"step-00000004.h5\",\"step\":4,\"bytes\":",
                                        "{\"file\":\"../../x\",\"step\":4,\"bytes\":1,\"sha256\":\"00\"}\n"};
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(sample_save(dir, 4, &err), STATUS_OK);
        file_write(folder_file(*state, "c/manifest.json"), texts[i], strlen(texts[i]));
        assert_int_equal(sample_newest(dir, &notes), 4);
    }
}

/* ---- pruning ---- */

static int present(void **state, int64_t step) {
    return files_exists(sample_file(*state, "c", step, ""));
}

static void test_pruning(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (int64_t step = 1; step <= 6; step++)
        assert_int_equal(sample_save_best(dir, step, 2, step == 2, step > 2 ? 2 : -1, -1, &err), STATUS_OK);
    for (int64_t step = 1; step <= 6; step++)
        assert_int_equal(present(state, step), step == 2 || step >= 5);
    assert_int_equal(sample_link(dir, "best.h5"), 2);
    assert_int_equal(sample_link(dir, "last.h5"), 6);

    /* A restart from 5 (6 is the given-up future), keeping what it came from. */
    assert_int_equal(sample_save_best(dir, 7, 2, 0, 2, 5, &err), STATUS_OK);
    assert_int_equal(sample_save_best(dir, 8, 1, 0, 2, 5, &err), STATUS_OK);
    assert_int_equal(sample_save_best(dir, 9, 0, 1, -1, 5, &err), STATUS_OK);
    for (int64_t step = 1; step <= 9; step++)
        assert_int_equal(present(state, step), step == 5 || step == 9);
    assert_int_equal(sample_link(dir, "best.h5"), 9);
    char *manifest = file_read(folder_file(*state, "c/manifest.json"), NULL);
    assert_null(strstr(manifest, "step-00000008.h5"));
    assert_non_null(strstr(manifest, "step-00000009.h5"));
    char hex[65];
    assert_int_equal(sha256_of_file(sample_file(*state, "c", 9, ""), hex, &err), STATUS_OK);
    assert_non_null(strstr(manifest, hex));
    free(manifest);

    /* Best is found again through the meta data when its link was lost. */
    unlink(folder_file(*state, "c/best.h5"));
    for (int64_t step = 10; step <= 12; step++)
        assert_int_equal(sample_save_best(dir, step, 1, 0, 9, -1, &err), STATUS_OK);
    assert_true(present(state, 9) && present(state, 12));
    assert_false(present(state, 5) || present(state, 10) || present(state, 11));
    assert_int_equal(sample_link(dir, "best.h5"), 9);

    /* Going back: later steps are set aside, and the newest is what was saved last. */
    assert_int_equal(sample_save_best(dir, 10, 1, 0, 9, 9, &err), STATUS_OK);
    assert_true(files_exists(sample_file(*state, "c", 12, ".superseded")));
    assert_int_equal(sample_newest(dir, &notes), 10);
    assert_int_equal(notes.count, 0);
}

/* ---- arguments ---- */

static void test_bad_arguments(void **state) {
    const char *dir = folder_file(*state, "c");
    CheckpointTensor tensors[SAMPLE_TENSORS];
    CheckpointFile file = {.tensors = tensors, .count = SAMPLE_TENSORS};
    Error err;
    sample_make(1, &file.meta, tensors);
    strcpy(tensors[1].name, tensors[0].name);
    assert_int_not_equal(checkpoint_save(dir, &file, 1, 0, -1, &err), STATUS_OK);
    assert_non_null(strstr(err.message, tensors[0].name));
    strcpy(tensors[1].name, "/model/rooted");
    assert_int_equal(checkpoint_save(dir, &file, 1, 0, -1, &err), STATUS_INTERNAL);
    assert_false(files_exists(dir));
    file_write(folder_file(*state, "plain"), "x", 1);
    assert_int_equal(sample_save(folder_file(*state, "plain/c"), 1, &err), STATUS_CANNOT_CREATE);
    sample_free(tensors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_working_folder),   FOLDER_TEST(test_round_trip),   FOLDER_TEST(test_equal_bytes),
        cmocka_unit_test(test_digest),      FOLDER_TEST(test_newest_valid), FOLDER_TEST(test_renamed_checkpoint),
        FOLDER_TEST(test_manifest_garbage), FOLDER_TEST(test_pruning),      FOLDER_TEST(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
