/* excon probe on inputs of the wrong type, shape or range: refused with 65, naming dataset and element; nothing is
 * cast. */
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

enum { N = 4, SIDE = 16, DIM = 8 };

typedef enum Kind { END, F32, F64, I32, I64, U8 } Kind;

/* Dataset of `kind` with all values `fill`, the last one `last`; dims end at the first 0. */
typedef struct Data {
    const char *name;
    Kind kind;
    hsize_t dims[4];
    double fill, last;
} Data;

static void put(hid_t file, const Data *data) {
    const hid_t types[] = {-1, H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_U8LE};
    int rank = 0;
    size_t count = 1;
    while (rank < 4 && data->dims[rank])
        count *= data->dims[rank++];
    double *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = i + 1 < count ? data->fill : data->last;
    hid_t space = H5Screate_simple(rank, data->dims, NULL);
    hid_t set = H5Dcreate2(file, data->name, types[data->kind], space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    free(values);
}

#define Z                                                                                                              \
    { "z", F32, {2 * N, DIM}, 0.3535533905932738, 0.3535533905932738 }
#define IMAGES                                                                                                         \
    { "images", U8, {N, SIDE, SIDE, 3}, 100, 255 }
#define PICTURES                                                                                                       \
    { "images", U8, {N, 32, 32, 3}, 100, 255 }
#define IDS                                                                                                            \
    { "ids", I32, {N}, 3, 4 }
#define LOGITS                                                                                                         \
    { "logits", F32, {N, 4}, 0.5, 2 }
#define VIEWS                                                                                                          \
    { "images", F32, {N, 3, SIDE, SIDE}, 0.25, 1 }

static const struct {
    const char *op;
    Data data[4];
    int code;
    const char *says;
} cases[] = {
    {"supcon", {Z, {"labels", I32, {N}, 1, 0}}, 0, ""},
    {"supcon", {Z, {"labels", I64, {N}, 1, 0}}, 0, ""},
    {"supcon", {{"z", F64, {2 * N, DIM}, 0.35, 0.36}, {"labels", I64, {N}, 1, 0}}, 0, ""},
    {"supcon", {Z, {"labels", F64, {N}, 0.7, 1.7}}, 65, "labels holds floating-point numbers"},
    {"supcon", {Z, {"labels", F32, {N}, 1, 2}}, 65, "labels holds floating-point numbers"},
    {"supcon", {Z, {"labels", I64, {N}, 1, 8589934592.0}}, 65, "labels[3] = 8589934592"},
    {"supcon", {Z, {"labels", I32, {N}, 1, 2147483647.0}}, 65, "labels[3] = 2147483647"},
    {"supcon", {Z, {"labels", I32, {N}, 1, -1}}, 65, "labels[3] = -1"},
    {"supcon", {Z, {"labels", I32, {N, 1}, 1, 0}}, 65, "labels has 2 dimensions"},
    {"supcon", {{"z", I32, {2 * N, DIM}, 1, 0}, {"labels", I32, {N}, 1, 0}}, 65, "z holds integers"},
    {"supcon", {{"z", F64, {2 * N, DIM}, 1, 1e200}, {"labels", I32, {N}, 1, 0}}, 65, "z[7,7] = 1e+200"},
    {"supcon", {Z, {"labels", I32, {N}, 1, 0}, {"real", F32, {1}, 3, 3}}, 65, "real holds floating-point numbers"},
    {"augment", {IMAGES, IDS}, 0, ""},
    {"augment", {{"images", I64, {N, SIDE, SIDE, 3}, 100, 255}, IDS}, 0, ""},
    {"augment", {{"images", F32, {N, SIDE, SIDE, 3}, 0.5, 1}, IDS}, 65, "images holds floating-point numbers"},
    {"augment", {{"images", I32, {N, SIDE, SIDE, 3}, 0, 256}, IDS}, 65, "images[3,15,15,2] = 256"},
    {"augment", {IMAGES, {"ids", I64, {N}, 3, 8589934592.0}}, 65, "ids[3] = 8589934592"},
    {"augment", {IMAGES, {"ids", I32, {N}, 3, -2}}, 65, "ids[3] = -2"},
    {"augment", {IMAGES, {"ids", F32, {N}, 3, 4}}, 65, "ids holds floating-point numbers"},
    {"augment", {IMAGES, IDS, {"std", F32, {3}, 1, NAN}}, 65, "std"},
    {"augment", {IMAGES, IDS, {"mean", F32, {3}, 0, NAN}}, 65, "mean"},
    {"augment", {IMAGES, IDS, {"mean", I32, {3}, 0, 1}}, 65, "mean holds integers"},
    {"corrupt --corruption fog --severity 2", {PICTURES, IDS}, 0, ""},
    {"corrupt --corruption fog --severity 2", {IMAGES, IDS}, 65, "not for a side of 16"},
    {"corrupt --corruption fog --severity 2", {PICTURES, {"ids", I32, {N + 1}, 3, 4}}, 65, "and ids [n]"},
    {"corrupt --corruption fog --severity 2", {PICTURES, {"ids", I32, {N}, 3, -2}}, 65, "ids[3] = -2"},
    {"corrupt --corruption fog --severity 2", {{"images", F32, {N, 32, 32, 3}, 0.5, 1}, IDS}, 65, "floating-point"},
    {"corrupt --corruption gausian_noise --severity 2", {PICTURES, IDS}, 64, "did you mean 'gaussian_noise'?"},
    {"corrupt --corruption frost --severity 2", {PICTURES, IDS}, 64, "there are gaussian_noise, shot_noise"},
    {"corrupt --corruption fog --severity 6", {PICTURES, IDS}, 64, "--severity is 1 to 5"},
    {"corrupt --corruption fog", {PICTURES, IDS}, 64, "--severity is 1 to 5"},
    {"corrupt", {PICTURES, IDS}, 64, "needs --corruption NAME"},
    {"calibration", {LOGITS, {"labels", I32, {N}, 1, 3}}, 0, ""},
    {"calibration", {LOGITS, {"labels", I64, {N}, 1, 0}}, 0, ""},
    {"calibration --bins 1", {LOGITS, {"labels", I32, {N}, 1, 3}}, 0, ""},
    {"calibration --bins 0", {LOGITS, {"labels", I32, {N}, 1, 3}}, 64, "--bins is 1 to 100000"},
    {"calibration --bins -3", {LOGITS, {"labels", I32, {N}, 1, 3}}, 64, "--bins is 1 to 100000"},
    {"calibration --bins 100001", {LOGITS, {"labels", I32, {N}, 1, 3}}, 64, "--bins is 1 to 100000"},
    {"calibration --bins ten", {LOGITS, {"labels", I32, {N}, 1, 3}}, 64, "bins"},
    {"calibration", {LOGITS, {"labels", I32, {N}, 1, 4}}, 65, "labels[3] = 4 is no class of 0..3"},
    {"calibration", {LOGITS, {"labels", I32, {N}, 1, -1}}, 65, "labels[3] = -1"},
    {"calibration", {LOGITS, {"labels", I32, {N - 1}, 1, 1}}, 65, "labels [n]"},
    {"calibration", {LOGITS, {"labels", F32, {N}, 1, 2}}, 65, "labels holds floating-point numbers"},
    {"calibration", {{"logits", F32, {N, 4}, 1, NAN}, {"labels", I32, {N}, 1, 3}}, 65, "logits[3,3] is not finite"},
    {"calibration", {{"logits", F32, {N, 4}, 1, INFINITY}, {"labels", I32, {N}, 1, 3}}, 65, "logits[3,3] is not"},
    {"calibration", {{"logits", I32, {N, 4}, 1, 2}, {"labels", I32, {N}, 1, 3}}, 65, "logits holds integers"},
    {"calibration", {{"logits", F32, {N}, 1, 2}, {"labels", I32, {N}, 1, 3}}, 65, "logits has 1 dimension"},
    {"calibration", {LOGITS}, 65, "labels"},
    {"calibration", {{"labels", I32, {N}, 1, 3}}, 65, "logits"},
    {"encode", {VIEWS}, 0, ""},
    {"encode", {{"images", U8, {N, 3, SIDE, SIDE}, 100, 255}}, 65, "images holds integers"},
    {"explain", {VIEWS, {"targets", I32, {N}, 1, 2}}, 0, ""},
    {"explain", {VIEWS, {"targets", F64, {N}, 1, 2.5}}, 65, "targets holds floating-point numbers"},
    {"explain", {VIEWS, {"targets", I64, {N}, 1, 4294967297.0}}, 65, "targets[3] = 4294967297"},
};

static void test_inputs(void **state) {
    const char *program = getenv("EXCON");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *in = folder_file(*state, "in.h5"), *out = folder_file(*state, "out.h5"),
                   *log = folder_file(*state, "log");
        char command[4096];
        size_t size;
        hid_t file = H5Fcreate(in, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        for (const Data *data = cases[c].data; data < cases[c].data + 4 && data->kind != END; data++)
            put(file, data);
        H5Fclose(file);
        snprintf(command, sizeof command,
                 "%s probe %s %s %s --set method=supcon --set model.encoder=resnet10 --set model.width=16 "
                 "--set data.classes=4 --backend cpu >%s 2>&1",
                 program && *program ? program : "build/excon", cases[c].op, in, out, log);
        const int status = system(command);
        char *said = file_read(log, &size);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != cases[c].code || !strstr(said, cases[c].says))
            fail_msg("case %zu (%s): status %d, expected %d and '%s', got: %.300s", c, cases[c].op,
                     WIFEXITED(status) ? WEXITSTATUS(status) : status, cases[c].code, cases[c].says, said);
        free(said);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_inputs, folder_setup, folder_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
