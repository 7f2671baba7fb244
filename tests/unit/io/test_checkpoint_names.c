/* last.h5 and best.h5 where links do not survive: copies of a folder, in part or whole, file systems without links;
 * what is never begun anew or lost there. And what a checkpoint knows of its run. */
#include <errno.h>
#include <limits.h>
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
#include "tests/support/programs/faults.h"

/* Steps 1 to 4 saved, 2 the best, two kept besides. */
static const char *make_folder(Folder *folder) {
    const char *dir = folder_file(folder, "c");
    Error err;
    for (int64_t step = 1; step <= 4; step++)
        assert_int_equal(sample_save_best(dir, step, 2, step == 2, step > 2 ? 2 : -1, -1, &err), STATUS_OK);
    assert_int_equal(sample_link(dir, "best.h5"), 2);
    return dir;
}

/* NAME becomes a file with the bytes it leads to. */
static void make_real(Folder *folder, const char *name) {
    size_t size;
    const char *path = folder_file(folder, name);
    char *bytes = file_read(path, &size);
    assert_int_equal(unlink(path), 0);
    file_write(path, bytes, size);
    free(bytes);
}

static int64_t step_in(const char *path) {
    CheckpointFile file;
    Error err;
    assert_int_equal(checkpoint_load(path, &file, &err), STATUS_OK);
    const int64_t step = file.meta.step;
    assert_true(sample_right(&file));
    checkpoint_free(&file);
    return step;
}

static void drop_steps(Folder *folder) {
    for (int64_t step = 1; step <= 4; step++)
        unlink(sample_file(folder, "c", step, ""));
    unlink(folder_file(folder, "c/manifest.json"));
}

/* The two names alone are a folder to go on from; the best one stays when others are pruned. */
static void test_last_and_best_alone(void **state) {
    const char *dir = make_folder(*state);
    Error err;
    Notes notes;
    make_real(*state, "c/last.h5");
    make_real(*state, "c/best.h5");
    drop_steps(*state);
    assert_int_equal(sample_newest(dir, &notes), 4);
    assert_int_equal(notes.count, 0);
    for (int64_t step = 5; step <= 8; step++)
        assert_int_equal(sample_save_best(dir, step, 1, 0, 2, -1, &err), STATUS_OK);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 2);
    assert_int_equal(step_in(folder_file(*state, "c/last.h5")), 8);
    assert_false(files_exists(sample_file(*state, "c", 4, "")));
}

static void test_best_alone(void **state) {
    const char *dir = make_folder(*state);
    Notes notes;
    make_real(*state, "c/best.h5");
    drop_steps(*state);
    unlink(folder_file(*state, "c/last.h5"));
    assert_int_equal(sample_newest(dir, &notes), 2);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 2);
}

/* A damaged last.h5 is named and set aside like any other; the best one is what is left. */
static void test_damaged_last(void **state) {
    const char *dir = make_folder(*state);
    Notes notes;
    make_real(*state, "c/last.h5");
    make_real(*state, "c/best.h5");
    drop_steps(*state);
    assert_int_equal(truncate(folder_file(*state, "c/last.h5"), 900), 0);
    assert_int_equal(sample_newest(dir, &notes), 2);
    assert_int_equal(notes.count, 1);
    assert_non_null(strstr(notes.last, "last.h5.bad"));
    assert_int_equal(truncate(folder_file(*state, "c/best.h5"), 900), 0);
    assert_int_equal(truncate(sample_file(*state, "c", 2, ""), 900), 0);
    assert_int_equal(sample_newest(dir, &notes), -2);
}

/* Texts of links, as zip and Windows leave them, lead on. */
static void test_texts(void **state) {
    const char *dir = make_folder(*state);
    char path[PATH_MAX];
    Error err;
    Notes notes;
    static const char *const names[] = {"c/last.h5", "c/best.h5"}, *const texts[] = {"step-00000004.h5",
                                                                                     "step-00000002.h5\n"};
    for (int i = 0; i < 2; i++) {
        unlink(folder_file(*state, names[i]));
        file_write(folder_file(*state, names[i]), texts[i], strlen(texts[i]));
    }
    assert_true(checkpoint_locate(dir, "best.h5", path));
    assert_int_equal(step_in(path), 2);
    assert_int_equal(sample_newest(dir, &notes), 4);
    assert_int_equal(sample_link(dir, "best.h5"), 2);
    assert_int_equal(sample_link(dir, "last.h5"), 4);
    unlink(folder_file(*state, "c/best.h5"));
    file_write(folder_file(*state, "c/best.h5"), texts[1], strlen(texts[1]));
    for (int64_t step = 5; step <= 8; step++)
        assert_int_equal(sample_save_best(dir, step, 1, 0, 2, -1, &err), STATUS_OK);
    assert_int_equal(step_in(sample_file(*state, "c", 2, "")), 2);
}

/* A best.h5 that equals no other file is never removed, only renamed. */
static void test_unknown_best(void **state) {
    const char *dir = make_folder(*state);
    Error err;
    unlink(folder_file(*state, "c/best.h5"));
    assert_int_equal(sample_save(folder_file(*state, "d"), 77, &err), STATUS_OK);
    assert_int_equal(rename(sample_file(*state, "d", 77, ""), folder_file(*state, "c/best.h5")), 0);
    assert_int_equal(sample_save_best(dir, 5, 1, 0, -1, -1, &err), STATUS_OK);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 77);
    assert_int_equal(sample_save_best(dir, 6, 1, 1, -1, -1, &err), STATUS_OK);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 6);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5.superseded")), 77);
}

/* Signs of checkpoints without one to load: never from zero without a word. */
static void test_traces(void **state) {
    const char *dir = make_folder(*state);
    Notes notes;
    for (int64_t step = 1; step <= 4; step++)
        unlink(sample_file(*state, "c", step, ""));
    assert_int_equal(sample_newest(dir, &notes), -2); /* links and manifest */
    unlink(folder_file(*state, "c/manifest.json"));
    assert_int_equal(sample_newest(dir, &notes), -2);
    unlink(folder_file(*state, "c/last.h5"));
    unlink(folder_file(*state, "c/best.h5"));
    file_write(folder_file(*state, "c/step-00000003.h5.superseded"), "", 0);
    assert_int_equal(sample_newest(dir, &notes), -2);
    unlink(folder_file(*state, "c/step-00000003.h5.superseded"));
    file_write(folder_file(*state, "c/my best.h5"), "", 0);
    assert_int_equal(sample_newest(dir, &notes), -2);
    unlink(folder_file(*state, "c/my best.h5"));
    file_write(folder_file(*state, "c/step-00000000.h5.tmp"), "", 0); /* a first save that was killed */
    assert_int_equal(sample_newest(dir, &notes), -1);
}

/* ---- a file system without symbolic links; with hard links, and without them ---- */

static int child_saves(const char *dir) {
    Error err;
    for (int64_t step = 1; step <= 6; step++) {
        Status status = sample_save_best(dir, step, 2, step == 2, step > 2 ? 2 : -1, -1, &err);
        if (status != STATUS_OK) {
            printf("%s\n", err.message);
            fflush(stdout);
            _exit((int)status);
        }
    }
    _exit(0);
}

static void without(void **state, const char *calls, nlink_t names) {
    const char *dir = folder_file(*state, "c");
    char output[1024];
    struct stat info;
    Error err;
    Notes notes;
    const Fault fault = {.path = dir, .calls = calls, .at = 1, .code = EPERM, .sticky = 1};
    const char *const arguments[] = {"--saves", dir, NULL};
    if (run_self(arguments, &fault, output, sizeof output) != 0)
        fail_msg("%s", output);
    assert_int_equal(lstat(folder_file(*state, "c/best.h5"), &info), 0);
    assert_true(S_ISREG(info.st_mode) && info.st_nlink == names);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 2);
    assert_int_equal(step_in(folder_file(*state, "c/last.h5")), 6);
    assert_false(files_exists(folder_file(*state, "c/last.h5.tmp")));
    for (int64_t step = 1; step <= 6; step++)
        assert_int_equal(files_exists(sample_file(*state, "c", step, "")), step == 2 || step >= 5);
    /* Going back to 5: a last.h5 of step 6 must not come back. */
    assert_int_equal(sample_save_best(dir, 5, 2, 0, 2, -1, &err), STATUS_OK);
    assert_int_equal(sample_newest(dir, &notes), 5);
    assert_int_equal(notes.count, 0);
    assert_int_equal(step_in(folder_file(*state, "c/last.h5")), 5);
    assert_int_equal(step_in(folder_file(*state, "c/best.h5")), 2);
}

static void test_no_symbolic_links(void **state) {
    without(state, "symlink", 2);
}

static void test_no_links_at_all(void **state) {
    without(state, "symlink,link", 1);
}

/* ---- what a reader may refuse ---- */

static Status refuse(void *ctx, const CheckpointFile *file, Error *err) {
    *(int64_t *)ctx = file->meta.step;
    return error_set(err, STATUS_CONFIG, "not this one");
}

/* A refusal leaves the folder as it was, damaged files and lost links included. */
static void test_refused(void **state) {
    const char *dir = make_folder(*state);
    CheckpointFile file;
    Error err;
    int found;
    int64_t seen = -1;
    assert_int_equal(truncate(sample_file(*state, "c", 4, ""), 900), 0);
    const CheckpointReader reader = {.accept = refuse, .ctx = &seen};
    assert_int_equal(checkpoint_load_newest(dir, &file, &found, &reader, &err), STATUS_CONFIG);
    assert_string_equal(err.message, "not this one");
    assert_int_equal(seen, 3);
    assert_true(files_exists(sample_file(*state, "c", 4, "")));
    assert_false(files_exists(sample_file(*state, "c", 4, ".bad")));
    assert_int_equal(sample_link(dir, "last.h5"), 4);
    const CheckpointReader looker = {.look_only = 1};
    assert_int_equal(checkpoint_load_newest(dir, &file, &found, &looker, &err), STATUS_OK);
    assert_true(found && file.meta.step == 3);
    checkpoint_free(&file);
    assert_int_equal(sample_link(dir, "last.h5"), 4);
}

/* ---- class names, settings, dataset ---- */

static void test_what_it_knows(void **state) {
    char *names[] = {(char[]){"a"}, (char[]){"n01443537 goldfish"}, (char[]){""}, (char[]){"\xc3\xa9t\xc3\xa9"}};
    CheckpointTensor tensors[SAMPLE_TENSORS];
    CheckpointFile file = {.tensors = tensors, .count = SAMPLE_TENSORS, .class_names = names}, read;
    Error err;
    const char *dir = folder_file(*state, "c");
    sample_make(3, &file.meta, tensors);
    file.meta.classes = 4;
    snprintf(file.meta.settings, sizeof file.meta.settings, "seed=1\nmethod=ce\n");
    memset(file.meta.data_hash, 'd', 64);
    assert_int_equal(checkpoint_save(dir, &file, 1, 0, -1, &err), STATUS_OK);
    assert_int_equal(checkpoint_load(sample_file(*state, "c", 3, ""), &read, &err), STATUS_OK);
    assert_memory_equal(&read.meta, &file.meta, sizeof read.meta);
    assert_int_equal(read.count, SAMPLE_TENSORS);
    for (int c = 0; c < 4; c++)
        assert_string_equal(read.class_names[c], names[c]);
    checkpoint_free(&read);

    /* An older one knows none of it. */
    assert_int_equal(sample_save(dir, 4, &err), STATUS_OK);
    assert_int_equal(checkpoint_load(sample_file(*state, "c", 4, ""), &read, &err), STATUS_OK);
    assert_null(read.class_names);
    assert_string_equal(read.meta.settings, "");
    assert_string_equal(read.meta.data_hash, "");
    checkpoint_free(&read);
    sample_free(tensors);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--saves") == 0)
        return child_saves(argv[2]);
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_last_and_best_alone),
        FOLDER_TEST(test_best_alone),
        FOLDER_TEST(test_damaged_last),
        FOLDER_TEST(test_texts),
        FOLDER_TEST(test_unknown_best),
        FOLDER_TEST(test_traces),
        FOLDER_TEST(test_no_symbolic_links),
        FOLDER_TEST(test_no_links_at_all),
        FOLDER_TEST(test_refused),
        FOLDER_TEST(test_what_it_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
