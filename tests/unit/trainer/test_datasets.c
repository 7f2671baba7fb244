/* Datasets that a run cannot use, or not for what it was trained on: refused by train, check and eval, with a message.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/files/files.h"
#include "io/import/import_job.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

enum { SIDE = 16 };

typedef struct Made {
    int classes;
    uint64_t seed;
} Made;

/* A grey image whose brightness is the class, with noise. */
static Status sample(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err) {
    const Made *made = ctx;
    uint64_t random = made->seed * 7919 + (uint64_t)index * 31 + (uint64_t)split;
    (void)err;
    *out->label = (int32_t)(index % made->classes);
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        out->image[i] = (uint8_t)(40 * *out->label + (int)(random >> 59));
    }
    return STATUS_OK;
}

/* NAME in the folder: `classes` classes PREFIX0, PREFIX1 ... */
static void make(Folder *folder, const char *name, const char *prefix, int classes, int per_class, int val_per_class) {
    char names[8][16], *list[8];
    Error err;
    Made made = {.classes = classes, .seed = 1};
    for (int c = 0; c < classes; c++) {
        snprintf(names[c], sizeof names[c], "%s%d", prefix, c);
        list[c] = names[c];
    }
    const ImportSource source = {.kind = "test",
                                 .classes = classes,
                                 .height = SIDE,
                                 .width = SIDE,
                                 .mean = {0.4f, 0.4f, 0.4f},
                                 .std = {0.2f, 0.2f, 0.2f},
                                 .class_names = list,
                                 .count = {classes * per_class, classes * val_per_class},
                                 .plan = "test",
                                 .sample = sample,
                                 .ctx = &made};
    const ImportOptions options = {.threads = 1};
    if (import_run(&source, folder_file(folder, name), &options, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

/* Exit code of `excon WORDS...` in the test's folder; what it says goes to FOLDER/said. */
static int excon(Folder *folder, const char *words) {
    static const char config[] =
        "method: ce\nrun: {dir: run}\ndata: {dir: data}\nmodel: {encoder: resnet10, width: 4}\n"
        "train: {epochs: 1, batch: 8}\n";
    char command[2 * PATH_MAX], program[PATH_MAX];
    const char *named = getenv("EXCON");
    file_write(folder_file(folder, "c.yaml"), config, sizeof config - 1);
    if (!realpath(named ? named : "build/excon", program))
        fail_msg("there is no build/excon ($EXCON): run make first");
    snprintf(command, sizeof command, "cd '%s' && OMP_NUM_THREADS=1 '%s' %s >said 2>&1", folder->path, program, words);
    const int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void says(Folder *folder, const char *part) {
    char *text = file_read(folder_file(folder, "said"), NULL);
    if (!strstr(text, part))
        fail_msg("'%s' should contain '%s'", text, part);
    free(text);
}

static void test_one_class(void **state) {
    make(*state, "data", "c", 1, 20, 4);
    assert_int_equal(excon(*state, "check c.yaml"), STATUS_DATA);
    says(*state, "all training images are of one class");
    assert_int_equal(excon(*state, "train c.yaml"), STATUS_DATA);
    says(*state, "all training images are of one class");
    assert_false(files_exists(folder_file(*state, "run")));
}

/* As many classes, other ones: neither the accuracy nor a resume would mean anything. */
static void test_other_classes(void **state) {
    make(*state, "data", "c", 3, 20, 4);
    make(*state, "others", "d", 3, 20, 4);
    make(*state, "more", "c", 4, 20, 5);
    make(*state, "fewer", "c", 2, 20, 5);
    assert_int_equal(excon(*state, "train c.yaml"), STATUS_OK);
    assert_int_equal(excon(*state, "eval run --suite accuracy --data others"), STATUS_DATA);
    says(*state, "class 0 is 'd0', was 'c0'");
    assert_false(files_exists(folder_file(*state, "run/eval.json")));
    assert_int_equal(excon(*state, "train c.yaml --set train.epochs=2 --set data.dir=others"), STATUS_DATA);
    says(*state, "class 0 is 'd0', was 'c0'");
    assert_int_equal(excon(*state, "eval run --suite accuracy --data fewer"), STATUS_DATA);
    says(*state, "fewer has 2 classes");
    /* A dataset that begins with the same classes holds images of them. */
    assert_int_equal(excon(*state, "eval run --suite accuracy --data more"), STATUS_OK);
    says(*state, "15 val images");
    /* The same dataset elsewhere is the same. */
    assert_int_equal(rename(folder_file(*state, "data"), folder_file(*state, "moved")), 0);
    assert_int_equal(excon(*state, "train c.yaml --set train.epochs=2 --set data.dir=moved"), STATUS_OK);
}

/* Five percent of a few images a class: one of each, not none; where that is impossible, a word. */
static void test_small_holdout(void **state) {
    make(*state, "data", "c", 3, 8, 2);
    assert_int_equal(excon(*state, "train c.yaml"), STATUS_OK);
    says(*state, "21 training images, 3 for selection");
    assert_true(files_exists(folder_file(*state, "run/checkpoints/best.h5")));
    make(*state, "single", "c", 3, 1, 2);
    assert_int_equal(excon(*state, "train c.yaml --set run.dir=r --set data.dir=single"), STATUS_CONFIG);
    says(*state, "data.holdout 0.05 leaves no image");
    assert_int_equal(excon(*state, "train c.yaml --set run.dir=r --set data.dir=single --set eval.every_epochs=0"),
                     STATUS_OK);
    make(*state, "no-val", "c", 3, 4, 0);
    assert_int_equal(excon(*state, "train c.yaml --set run.dir=q --set data.dir=no-val --set eval.selection=val"),
                     STATUS_CONFIG);
    says(*state, "has no val images");
}

/* Rates that no epoch comes near are said. */
static void test_short_schedule(void **state) {
    make(*state, "data", "c", 3, 8, 2);
    assert_int_equal(excon(*state, "train c.yaml --set optim.lr=0.4"), STATUS_OK);
    says(*state, "warning: in 1 epochs the learning rate gets to 0.0004 at most, optim.lr is 0.4");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_one_class),
        TEST(test_other_classes),
        TEST(test_small_holdout),
        TEST(test_short_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
