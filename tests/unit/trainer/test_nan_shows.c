/* Parameters or pixels that are NaN show in whatever the program computes of them: evaluation refuses, numbers are NaN.
 * ReLU, maxima and top-k are where NaN gets lost. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <hdf5.h>
#include <hdf5_hl.h>

#include "io/checkpoint/checkpoint.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/probe.h"

enum { SIDE = 16, IMAGES = 2, CLASSES = 4 };

/* The backend of this variant of the test, as --set wants it. */
static const char *backend(void) {
    static const char *const sets[] = {"backend=cpu", "backend=cuda"};
    const char *name = getenv("EXCON_BACKEND");
    return sets[name && strcmp(name, "cuda") == 0];
}

/* FOLDER/data, and FOLDER/run with the checkpoint of a run of no epochs. */
static void start(Folder *folder) {
    char data[PATH_MAX], dir[PATH_MAX];
    const char *log = folder_file(folder, "log"), *where = folder_file(folder, "data");
    snprintf(data, sizeof data, "data.dir=%s", where);
    snprintf(dir, sizeof dir, "run.dir=%s", folder_file(folder, "run"));
    file_write(folder_file(folder, "c.yaml"), "method: ce\n", 11);
    const char *const import[] = {"import", "synthetic",         where, "--classes",       "4",  "--size",
                                  "16",     "--train-per-class", "8",   "--val-per-class", "10", NULL};
    assert_int_equal(probe_program(import, 1, log), 0);
    const char *const train[] = {"train", folder_file(folder, "c.yaml"),
                                 "--set", data,
                                 "--set", dir,
                                 "--set", "model.encoder=resnet10",
                                 "--set", "model.width=8",
                                 "--set", "train.epochs=0",
                                 "--set", "train.batch=8",
                                 "--set", backend(),
                                 NULL};
    assert_int_equal(probe_program(train, 1, log), 0);
}

/* FOLDER/NAME/step-00000000.h5: the run's checkpoint with NaN for one tensor. */
static const char *with_nan(Folder *folder, const char *name, const char *tensor) {
    char file[96];
    CheckpointFile loaded;
    Error err;
    assert_int_equal(checkpoint_load(folder_file(folder, "run/checkpoints/last.h5"), &loaded, &err), STATUS_OK);
    const CheckpointTensor *found = checkpoint_find(&loaded, tensor);
    assert_non_null(found);
    size_t count = 1;
    for (int i = 0; i < found->rank; i++)
        count *= (size_t)found->shape[i];
    for (size_t i = 0; i < count; i++)
        found->data[i] = NAN;
    assert_int_equal(checkpoint_save(folder_file(folder, name), &loaded, 1, 0, -1, &err), STATUS_OK);
    checkpoint_free(&loaded);
    snprintf(file, sizeof file, "%s/step-00000000.h5", name);
    return folder_file(folder, file);
}

static void test_evaluation_refuses(void **state) {
    Folder *folder = *state;
    static const char *const tensors[][2] = {{"conv", "model/encoder.conv1.weight"},
                                             {"shortcut", "model/encoder.layer3.0.shortcut.0.weight"},
                                             {"norm", "model/encoder.bn1.running_var"},
                                             {"classifier", "model/classifier.fc.weight"}};
    start(folder);
    const char *log = folder_file(folder, "log"), *run = folder_file(folder, "run");
    char where[PATH_MAX];
    snprintf(where, sizeof where, "%s", folder_file(folder, "data"));
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const char *const eval[] = {"eval",
                                    run,
                                    "--checkpoint",
                                    with_nan(folder, tensors[i][0], tensors[i][1]),
                                    "--data",
                                    where,
                                    "--set",
                                    backend(),
                                    "--json",
                                    "--suite",
                                    i == 0 ? "all" : "accuracy",
                                    NULL};
        assert_int_equal(probe_program(eval, 1, log), 65);
        char *said = file_read(log, NULL);
        assert_non_null(strstr(said, "outputs are NaN or infinite on 40 of 40 val images"));
        assert_null(strstr(said, "top1"));
        free(said);
    }
    FILE *results = fopen(folder_file(folder, "run/eval.json"), "r");
    assert_null(results);
}

/* Logits [IMAGES,CLASSES] of images of which the first has a pixel that is NaN. */
static void test_a_pixel_shows(void **state) {
    Folder *folder = *state;
    static const char *const modes[] = {"eval", "train"};
    start(folder);
    float images[IMAGES * 3 * SIDE * SIDE], logits[IMAGES * CLASSES];
    for (int i = 0; i < IMAGES * 3 * SIDE * SIDE; i++)
        images[i] = (float)(i % 17) / 17.0f;
    images[5 * SIDE + 3] = NAN;
    const char *in = folder_file(folder, "in.h5"), *out = folder_file(folder, "out.h5");
    const hsize_t shape[4] = {IMAGES, 3, SIDE, SIDE};
    hid_t file = H5Fcreate(in, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0 && H5LTmake_dataset_float(file, "images", 4, shape, images) >= 0 && H5Fclose(file) >= 0);
    for (int mode = 0; mode < 2; mode++) {
        const char *const encode[] = {"probe",
                                      "encode",
                                      in,
                                      out,
                                      "--mode",
                                      modes[mode],
                                      "--set",
                                      backend(),
                                      "--checkpoint",
                                      folder_file(folder, "run/checkpoints/last.h5"),
                                      NULL};
        assert_int_equal(probe_program(encode, 1, folder_file(folder, "log")), 0);
        file = H5Fopen(out, H5F_ACC_RDONLY, H5P_DEFAULT);
        assert_true(file >= 0 && H5LTread_dataset_float(file, "logits", logits) >= 0 && H5Fclose(file) >= 0);
        for (int i = 0; i < IMAGES * CLASSES; i++) /* batch statistics mix the images */
            assert_true(i < CLASSES || mode == 1 ? isnan(logits[i]) : isfinite(logits[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_evaluation_refuses, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_a_pixel_shows, folder_setup, folder_teardown),
    };
    if (probe_missing()) {
        printf("1..2\nok 1 - evaluation refuses # SKIP %s\nok 2 - a pixel shows # SKIP %s\n", probe_missing(),
               probe_missing());
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
