/* Arrays of foreign files: only numbers of the wanted kind that fit, each read back as it stands in the file; and files
 * that another program has open, which are in use and not damaged. */
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/arrays/arrays.h"
#include "io/dataset/dataset.h"
#include "io/import/import.h"
#include "io/inspect/tree.h"
#include "tests/support/files/sample_checkpoint.h"

static void put(hid_t file, const char *name, hid_t stored, hid_t memory, int rank, const hsize_t *dims,
                const void *values) {
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t data = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(data >= 0 && H5Dwrite(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(data);
    H5Sclose(space);
}

/* Half precision, as NumPy's float16 is stored. */
static hid_t half_type(void) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

static const char *numbers_file(Folder *folder) {
    const char *path = folder_file(folder, "numbers.h5");
    const hsize_t two[] = {2}, square[] = {2, 2};
    const double reals[] = {0.5, -3.25}, large[] = {1.0, 1e300}, odd[] = {INFINITY, NAN}, fractions[] = {0.7, 1.7};
    const long long whole[] = {0, 255, -1, 7}, wide[] = {3, 1LL << 33}, low[] = {-(1LL << 31) - 1, 0};
    const unsigned long long top[] = {5, ULLONG_MAX};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), half = half_type();
    put(file, "f64", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, 1, two, reals);
    put(file, "f32", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, 1, two, reals);
    put(file, "f16", half, H5T_NATIVE_DOUBLE, 1, two, reals);
    put(file, "large", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, two, large);
    put(file, "odd", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, two, odd);
    put(file, "fractions", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, two, fractions);
    put(file, "u8", H5T_STD_U8LE, H5T_NATIVE_LLONG, 1, two, whole);
    put(file, "i16", H5T_STD_I16BE, H5T_NATIVE_LLONG, 1, two, whole);
    put(file, "i64", H5T_STD_I64LE, H5T_NATIVE_LLONG, 1, two, whole);
    put(file, "square", H5T_STD_I64LE, H5T_NATIVE_LLONG, 2, square, whole);
    put(file, "wide", H5T_STD_I64LE, H5T_NATIVE_LLONG, 1, two, wide);
    put(file, "low", H5T_STD_I64LE, H5T_NATIVE_LLONG, 1, two, low);
    put(file, "top", H5T_STD_U64LE, H5T_NATIVE_ULLONG, 1, two, top);
    H5Tclose(half);
    H5Fclose(file);
    return path;
}

static void test_numbers_that_fit(void **state) {
    ArrayFile *file;
    Array array;
    Error err = {0};
    assert_int_equal(array_file_open(&file, numbers_file(*state), &err), STATUS_OK);
    static const char *const reals[] = {"f64", "f32", "f16"}, *const whole[] = {"u8", "i16", "i64"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(array_read(file, reals[i], ARRAY_F32, 1, &array, &err), STATUS_OK);
        assert_true(array.count == 2 && array.f32[0] == 0.5f && array.f32[1] == -3.25f);
        array_free(&array);
        assert_int_equal(array_read(file, whole[i], ARRAY_I32, 1, &array, &err), STATUS_OK);
        assert_true(array.count == 2 && array.i32[0] == 0 && array.i32[1] == 255);
        array_free(&array);
        assert_int_equal(array_read(file, whole[i], ARRAY_U8, 1, &array, &err), STATUS_OK);
        assert_true(array.count == 2 && array.u8[0] == 0 && array.u8[1] == 255);
        array_free(&array);
    }
    assert_int_equal(array_read(file, "odd", ARRAY_F32, 1, &array, &err), STATUS_OK);
    assert_true(isinf(array.f32[0]) && isnan(array.f32[1]));
    array_free(&array);
    int64_t length = 0;
    assert_int_equal(array_length(file, "f64", &length, &err), STATUS_OK);
    assert_int_equal(length, 2);
    array_file_close(file);
}

static void test_numbers_that_do_not(void **state) {
    static const struct {
        const char *name;
        ArrayType type;
        int rank;
        const char *says;
    } cases[] = {
        {"large", ARRAY_F32, 1, "large[1] = 1e+300 is beyond float32"},
        {"i64", ARRAY_F32, 1, "i64 holds integers"},
        {"u8", ARRAY_F32, 1, "u8 holds integers"},
        {"fractions", ARRAY_I32, 1, "fractions holds floating-point numbers"},
        {"f32", ARRAY_U8, 1, "f32 holds floating-point numbers"},
        {"wide", ARRAY_I32, 1, "wide[1] = 8589934592 is outside"},
        {"low", ARRAY_I32, 1, "low[0] = -2147483649 is outside"},
        {"top", ARRAY_I32, 1, "top[1] = "},
        {"square", ARRAY_U8, 2, "square[1,0] = -1 is outside 0..255"},
        {"square", ARRAY_I32, 1, "has 2 dimensions, 1 expected"},
        {"absent", ARRAY_I32, 1, "no dataset 'absent'"},
    };
    ArrayFile *file;
    Error err = {0};
    assert_int_equal(array_file_open(&file, numbers_file(*state), &err), STATUS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Array array;
        const Status status = array_read(file, cases[i].name, cases[i].type, cases[i].rank, &array, &err);
        if (status != STATUS_DATA || !strstr(err.message, cases[i].says) || !strstr(err.message, "numbers.h5"))
            fail_msg("case %zu: status %d, '%s'", i, status, err.message);
        assert_true(!array.f32 && !array.i32 && !array.u8);
    }
    array_file_close(file);
}

/* ---- in use ------------------------------------------------------------------------------------------------------ */

static Status open_arrays(const char *path, Error *err) {
    ArrayFile *file = NULL;
    Status status = array_file_open(&file, path, err);
    array_file_close(file);
    return status;
}

static Status pass(void *ctx, const TreeItem *item, Error *err) {
    (void)ctx;
    (void)item;
    (void)err;
    return STATUS_OK;
}

static Status open_tree(const char *path, Error *err) {
    return tree_read(path, pass, NULL, err);
}

static Status open_checkpoint(const char *path, Error *err) {
    CheckpointFile file;
    Status status = checkpoint_load(path, &file, err);
    checkpoint_free(&file);
    return status;
}

static void must_be_in_use(Status (*opens)(const char *, Error *), const char *path) {
    Error err = {0};
    const Status status = opens(path, &err);
    if (status != STATUS_CANNOT_CREATE || !strstr(err.message, "in use") || !strstr(err.message, path))
        fail_msg("status %d, '%s'", status, err.message);
}

/* As the HDF5 library locks a file that it writes. */
static void test_locked_file(void **state) {
    const char *path = numbers_file(*state);
    Error err = {0};
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    must_be_in_use(open_arrays, path);
    must_be_in_use(open_tree, path);
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
    assert_int_equal(open_arrays(path, &err), STATUS_OK);
    unsetenv("HDF5_USE_FILE_LOCKING");
    assert_int_equal(flock(fd, LOCK_SH), 0); /* another reader */
    assert_int_equal(open_arrays(path, &err), STATUS_OK);
    assert_int_equal(open_tree(path, &err), STATUS_OK);
    close(fd);
}

/* A real writer: another process that keeps the file open by the library, in its older and its newer format. */
static void test_open_in_another_process(void **state) {
    const char *path = folder_file(*state, "other.h5");
    for (int newer = 0; newer < 2; newer++) {
        int ready[2];
        char byte;
        assert_int_equal(pipe(ready), 0);
        const pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
            hid_t list = H5Pcreate(H5P_FILE_ACCESS);
            if (newer)
                H5Pset_libver_bounds(list, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
            H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, list));
            hid_t file = H5Fopen(path, H5F_ACC_RDWR, list);
            if (file < 0 || write(ready[1], "x", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        must_be_in_use(open_arrays, path);
        must_be_in_use(open_tree, path);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ready[0]);
        Error err = {0};
        const Status status = open_arrays(path, &err); /* killed: the newer format remembers that it was not closed */
        if (status != (newer ? STATUS_DATA : STATUS_OK) || (newer && !strstr(err.message, "without closing it")))
            fail_msg("format %d after the kill: status %d, '%s'", newer, status, err.message);
    }
}

static void test_dataset_in_use(void **state) {
    static const SyntheticOptions options = {1, 2, 16, 8, 4, 0.5};
    static const char *const files[] = {"data/index.h5", "data/train-0000.h5"};
    const char *dir = folder_file(*state, "data");
    Dataset dataset;
    Error err = {0};
    assert_int_equal(import_synthetic(dir, &options, NULL, &err), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        const int fd = open(folder_file(*state, files[i]), O_RDWR | O_CLOEXEC);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(dataset_open(&dataset, dir, 0, &err), STATUS_CANNOT_CREATE);
        assert_non_null(strstr(err.message, "in use"));
        assert_non_null(strstr(err.message, files[i]));
        close(fd);
    }
    assert_int_equal(dataset_open(&dataset, dir, 0, &err), STATUS_OK);
    dataset_close(&dataset);
}

/* The newest checkpoint is open elsewhere: neither set aside nor passed over for an older one. */
static void test_checkpoint_in_use(void **state) {
    const char *dir = folder_file(*state, "checkpoints");
    CheckpointFile file;
    Error err = {0};
    Notes notes;
    assert_int_equal(sample_save(dir, 3, &err), STATUS_OK);
    assert_int_equal(sample_save(dir, 7, &err), STATUS_OK);
    const int fd = open(sample_file(*state, "checkpoints", 7, ""), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    must_be_in_use(open_checkpoint, sample_file(*state, "checkpoints", 7, ""));
    int found = 1;
    assert_int_equal(checkpoint_load_newest(dir, &file, &found, NULL, &err), STATUS_CANNOT_CREATE);
    assert_int_equal(found, 0);
    assert_non_null(strstr(err.message, "in use"));
    close(fd);
    assert_int_equal(sample_newest(dir, &notes), 7);
    assert_int_equal(notes.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_open_in_another_process), /* first: it forks */
        FOLDER_TEST(test_numbers_that_fit),        FOLDER_TEST(test_numbers_that_do_not), FOLDER_TEST(test_locked_file),
        FOLDER_TEST(test_dataset_in_use),          FOLDER_TEST(test_checkpoint_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
