/* Calibration by `excon eval`: the same bits on one, two and three ranks, and those that `excon probe encode` and
 * `excon probe calibration` give for the same images, which share no code with the gathering of an evaluation. */
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

#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/probe.h"

enum { SIDE = 16, CLASSES = 4, IMAGES = 10 * CLASSES, PIXELS = SIDE * SIDE };

static const char *const names[] = {"brier",     "ece",           "adaptive_ece", "debiased_ece",
                                    "sweep_ece", "classwise_ece", "smooth_ece",   "mce"};
enum { BRIER, ECE, NAMES = sizeof names / sizeof *names };

/* The variant of the test: which backend, and how ranks that may share a device talk. */
typedef struct Variant {
    int cuda;
    char backend[16], transport[40];
} Variant;

static Variant variant(void) {
    const char *backend = getenv("EXCON_BACKEND"), *transport = getenv("EXCON_TRANSPORT");
    Variant v = {.cuda = backend && strcmp(backend, "cuda") == 0};
    snprintf(v.backend, sizeof v.backend, "backend=%s", v.cuda ? "cuda" : "cpu");
    snprintf(v.transport, sizeof v.transport, "comm.transport=%.20s", transport ? transport : "auto");
    return v;
}

/* FOLDER/data, and FOLDER/run, which has learnt a little. */
static void start(Folder *folder) {
    char data[PATH_MAX], dir[PATH_MAX];
    const char *log = folder_file(folder, "log"), *where = folder_file(folder, "data");
    snprintf(data, sizeof data, "data.dir=%s", where);
    snprintf(dir, sizeof dir, "run.dir=%s", folder_file(folder, "run"));
    file_write(folder_file(folder, "c.yaml"), "method: ce\n", 11);
    const char *const import[] = {"import", "synthetic",         where, "--classes",       "4",  "--size",
                                  "16",     "--train-per-class", "16",  "--val-per-class", "10", NULL};
    assert_int_equal(probe_program(import, 1, log), 0);
    const char *const train[] = {"train", folder_file(folder, "c.yaml"),
                                 "--set", data,
                                 "--set", dir,
                                 "--set", "model.encoder=resnet10",
                                 "--set", "model.width=8",
                                 "--set", "train.epochs=2",
                                 "--set", "train.batch=16",
                                 "--set", "optim.lr=0.02",
                                 "--set", "backend=cpu",
                                 NULL};
    assert_int_equal(probe_program(train, 1, log), 0);
}

/* The numbers of an evaluation on so many ranks, in batches of `batch` images over all of them. */
static void evaluate(Folder *folder, int ranks, int batch, double values[NAMES]) {
    char set[40], key[40];
    const char *log = folder_file(folder, "log");
    snprintf(set, sizeof set, "eval.batch=%d", batch);
    const Variant v = variant();
    const char *const eval[] = {"eval",      folder_file(folder, "run"),
                                "--suite",   "calibration",
                                "--json",    "--set",
                                set,         "--set",
                                v.backend,   "--set",
                                v.transport, NULL};
    assert_int_equal(probe_program(eval, ranks, log), 0);
    char *said = file_read(log, NULL);
    for (int i = 0; i < NAMES; i++) {
        snprintf(key, sizeof key, "\"%s\":", names[i]);
        const char *found = strstr(said, key);
        assert_non_null(found);
        values[i] = strtod(found + strlen(key), NULL); /* as many digits as a double needs */
    }
    free(said);
}

/* One image a rank and batch, so that the logits are computed alike; three ranks have one image for the last batch. */
static void test_ranks(void **state) {
    double alone[NAMES], others[NAMES];
    start(*state);
    evaluate(*state, 1, 1, alone);
    for (int ranks = 2; ranks <= 3; ranks++) {
        evaluate(*state, ranks, ranks, others);
        for (int i = 0; i < NAMES; i++)
            if (alone[i] != others[i])
                fail_msg("%s: %.17g on one rank, %.17g on %d", names[i], alone[i], others[i], ranks);
    }
}

/* FOLDER/in.h5: the val images as the network sees them, and their labels. */
static void write_images(Folder *folder, int32_t labels[IMAGES]) {
    static uint8_t bytes[IMAGES * PIXELS * 3];
    static float images[IMAGES * 3 * PIXELS];
    const hsize_t shape[4] = {IMAGES, 3, SIDE, SIDE};
    float unit[256], mean[3], std[3]; /* a table: no compiler makes one operation of its product and the difference */
    hid_t file = H5Fopen(folder_file(folder, "data/val-0000.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0 && H5LTread_dataset(file, "images", H5T_NATIVE_UINT8, bytes) >= 0 &&
                H5LTread_dataset(file, "labels", H5T_NATIVE_INT32, labels) >= 0 &&
                H5LTget_attribute_float(file, "/", "mean", mean) >= 0 &&
                H5LTget_attribute_float(file, "/", "std", std) >= 0 && H5Fclose(file) >= 0);
    for (int byte = 0; byte < 256; byte++)
        unit[byte] = (float)byte * (1.0f / 255.0f);
    for (int i = 0; i < IMAGES; i++)
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < PIXELS; p++)
                images[(i * 3 + c) * PIXELS + p] = (unit[bytes[(i * PIXELS + p) * 3 + c]] - mean[c]) * (1.0f / std[c]);
    file = H5Fcreate(folder_file(folder, "in.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0 && H5LTmake_dataset_float(file, "images", 4, shape, images) >= 0 && H5Fclose(file) >= 0);
}

/* The logits of in.h5, and every measure that the probe has of them. */
static void probe(Folder *folder, const int32_t labels[IMAGES], float logits[IMAGES * CLASSES], float values[NAMES]) {
    const char *log = folder_file(folder, "log"), *encoded = folder_file(folder, "encoded.h5"),
               *outputs = folder_file(folder, "outputs.h5"), *measures = folder_file(folder, "measures.h5");
    const char *const encode[] = {"probe",
                                  "encode",
                                  folder_file(folder, "in.h5"),
                                  encoded,
                                  "--set",
                                  "backend=cpu",
                                  "--checkpoint",
                                  folder_file(folder, "run/checkpoints/best.h5"),
                                  NULL};
    const char *const measure[] = {"probe", "calibration", outputs, measures, NULL};
    const hsize_t shape[2] = {IMAGES, CLASSES};
    assert_int_equal(probe_program(encode, 1, log), 0);
    hid_t file = H5Fopen(encoded, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0 && H5LTread_dataset_float(file, "logits", logits) >= 0 && H5Fclose(file) >= 0);
    file = H5Fcreate(outputs, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0 && H5LTmake_dataset_float(file, "logits", 2, shape, logits) >= 0 &&
                H5LTmake_dataset(file, "labels", 1, shape, H5T_NATIVE_INT32, labels) >= 0 && H5Fclose(file) >= 0);
    assert_int_equal(probe_program(measure, 1, log), 0);
    file = H5Fopen(measures, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    for (int i = 0; i < NAMES; i++)
        assert_true(H5LTread_dataset_float(file, names[i], &values[i]) >= 0);
    assert_true(H5Fclose(file) >= 0);
}

/* Brier and the expected calibration error of ten bins, from their formulas. */
static void by_formula(const int32_t labels[IMAGES], const float logits[IMAGES * CLASSES], double *brier, double *ece) {
    double gap[10] = {0};
    *brier = *ece = 0;
    for (int i = 0; i < IMAGES; i++) {
        double sum = 0, p[CLASSES];
        int best = 0;
        for (int c = 0; c < CLASSES; c++)
            sum += exp((double)logits[i * CLASSES + c]);
        for (int c = 0; c < CLASSES; c++) {
            p[c] = exp((double)logits[i * CLASSES + c]) / sum;
            best = p[c] > p[best] ? c : best;
            *brier += pow(p[c] - (c == labels[i]), 2) / IMAGES;
        }
        gap[(int)fmin(9, 10 * p[best])] += p[best] - (best == labels[i]);
    }
    for (int b = 0; b < 10; b++)
        *ece += fabs(gap[b]) / IMAGES;
}

static void test_probe_of_the_logits(void **state) {
    Folder *folder = *state;
    int32_t labels[IMAGES];
    float logits[IMAGES * CLASSES], probed[NAMES];
    double values[NAMES], brier, ece;
    start(folder);
    evaluate(folder, 1, IMAGES, values); /* one batch, as the probe's */
    write_images(folder, labels);
    probe(folder, labels, logits, probed);
    for (int i = 0; i < NAMES; i++) {
        assert_true(values[i] > 0 && values[i] <= (i == BRIER ? 2 : 1));
        if ((float)values[i] != probed[i]) /* the probe writes float32 */
            fail_msg("%s: %.9g evaluated, %.9g probed", names[i], values[i], (double)probed[i]);
    }
    by_formula(labels, logits, &brier, &ece);
    const double rounding = 1e-12; /* of some hundred doubles */
    assert_true(fabs(values[BRIER] - brier) <= rounding && fabs(values[ECE] - ece) <= rounding);
}

int main(void) {
    const struct CMUnitTest on_any[] = {FOLDER_TEST(test_ranks)};
    const struct CMUnitTest on_cpu[] = {FOLDER_TEST(test_ranks), FOLDER_TEST(test_probe_of_the_logits)};
    if (probe_missing()) {
        printf("1..2\nok 1 - ranks # SKIP %s\nok 2 - probe of the logits # SKIP %s\n", probe_missing(),
               probe_missing());
        return 0;
    }
    if (variant().cuda) /* a GPU may compute the logits of an evaluation and of a probe in other ways */
        return cmocka_run_group_tests(on_any, NULL, NULL);
    return cmocka_run_group_tests(on_cpu, NULL, NULL);
}
