/* Checkpoints that are damaged or foreign: found out, by name, and nothing worse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "io/files/files.h"
#include "tests/support/files/files.h"
#include "tests/support/files/sample_checkpoint.h"

/* ---- damage ---- */

/* A flipped bit is found through the manifest, without the manifest through the seal, or changes nothing that is read.
 */
static void test_flipped_bits(void **state) {
    Error err;
    size_t size;
    assert_int_equal(sample_save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = file_read(sample_file(*state, "c", 9, ""), &size);
    const char *listed = sample_file(*state, "c", 9, ""), *alone = folder_file(*state, "step-00000009.h5");
    uint64_t random = 1;
    int harmless = 0;
    for (int i = 0; i < 1500; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (random >> 24) % size;
        int in_seal_words = at >= size - 128 && at < size - 128 + 31;
        bytes[at] ^= (char)(1 << (random >> 61));
        file_write(alone, bytes, size);
        int loaded = sample_loads(alone, &err);
        harmless += loaded;
        assert_true(!loaded || at >= size - 128);
        assert_true(!in_seal_words || loaded);
        if (i % 10 == 0) {
            file_write(listed, bytes, size);
            assert_false(sample_loads(listed, &err));
        }
        bytes[at] ^= (char)(1 << (random >> 61));
    }
    assert_in_range(harmless, 0, 100);
    file_write(listed, bytes, size);
    assert_true(sample_loads(listed, &err));
    free(bytes);
}

static void test_truncation(void **state) {
    Error err;
    size_t size;
    assert_int_equal(sample_save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = file_read(sample_file(*state, "c", 9, ""), &size);
    const char *alone = folder_file(*state, "step-00000009.h5");
    for (size_t n = 0; n < size; n += n < 600 || n + 200 > size ? 1 : 37) {
        file_write(alone, bytes, n);
        assert_true(!sample_loads(alone, &err) || n >= size - 128); /* only a cut seal leaves all values */
    }
    char *longer = calloc(1, size + 4096);
    memcpy(longer, bytes, size);
    file_write(sample_file(*state, "c", 9, ""), longer, size + 4096);
    assert_false(sample_loads(sample_file(*state, "c", 9, ""), &err));
    free(longer);
    free(bytes);
}

/* Loads 500 files with random bytes behind a sound superblock; ends the process without HDF5's exit handler, which
 * complains of memory the library itself loses on such files. */
static void load_garbage(const char *bytes, size_t size, const char *path) {
    CheckpointFile file;
    Error err;
    char *work = malloc(size);
    uint64_t random = 7;
    for (int i = 0; work && i < 500; i++) {
        memcpy(work, bytes, size);
        for (int k = 0; k < 1 + i % 20; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            work[48 + (random >> 24) % (size - 48)] = (char)(random >> 56);
        }
        file_write(path, work, size);
        if (checkpoint_load(path, &file, &err) == STATUS_OK)
            checkpoint_free(&file);
        else if (!strstr(err.message, path))
            _exit(1);
    }
    _exit(work ? 0 : 2);
}

/* Without seal HDF5 itself must find the damage, and whatever it makes of it, the program survives. */
static void test_unsealed_garbage(void **state) {
    Error err;
    size_t size;
    int result;
    assert_int_equal(sample_save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = file_read(sample_file(*state, "c", 9, ""), &size);
    const char *path = folder_file(*state, "foreign.h5");
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        load_garbage(bytes, size - 128, path);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    free(bytes);
}

/* ---- foreign files, each with one thing wrong, made with the HDF5 library from a sound one ---- */

typedef void (*Edit)(hid_t file);

static void replace(hid_t file, const char *name, hid_t type, int rank, const hsize_t *extents, hid_t creation) {
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(rank, extents, NULL);
    hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(data >= 0);
    H5Dclose(data);
    H5Sclose(space);
}

static const char victim[] = "/model/classifier.fc.weight";

static void edit_none(hid_t file) {
    (void)file;
}
static void edit_double(hid_t file) {
    replace(file, victim, H5T_IEEE_F64LE, 2, (hsize_t[]){10, 8}, H5P_DEFAULT);
}
static void edit_five_axes(hid_t file) {
    replace(file, victim, H5T_IEEE_F32LE, 5, (hsize_t[]){1, 1, 1, 1, 80}, H5P_DEFAULT);
}
static void edit_unwritten(hid_t file) {
    replace(file, victim, H5T_IEEE_F32LE, 2, (hsize_t[]){10, 8}, H5P_DEFAULT);
}
static void edit_huge(hid_t file) {
    replace(file, victim, H5T_IEEE_F32LE, 4, (hsize_t[]){1u << 30, 1u << 30, 16, 1}, H5P_DEFAULT);
}
static void edit_chunked(hid_t file) {
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 2, (hsize_t[]){5, 8});
    H5Pset_deflate(creation, 6);
    replace(file, victim, H5T_IEEE_F32LE, 2, (hsize_t[]){10, 8}, creation);
    H5Pclose(creation);
}
static void edit_external_data(hid_t file) {
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, "/etc/passwd", 0, 320);
    replace(file, victim, H5T_IEEE_F32LE, 2, (hsize_t[]){10, 8}, creation);
    H5Pclose(creation);
}
static void edit_external_link(hid_t file) {
    H5Ldelete(file, victim, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/x", file, victim, H5P_DEFAULT, H5P_DEFAULT);
}
static void edit_soft_link(hid_t file) {
    H5Lcreate_soft(victim, file, "/model/alias", H5P_DEFAULT, H5P_DEFAULT);
}
static void edit_cycle(hid_t file) {
    H5Lcreate_hard(file, "/model", file, "/model/again", H5P_DEFAULT, H5P_DEFAULT);
}
static void edit_same_bytes_twice(hid_t file) {
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/model/copy%d", i);
        H5Lcreate_hard(file, victim, file, name, H5P_DEFAULT, H5P_DEFAULT);
    }
}
static void edit_named_type(hid_t file) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tcommit2(file, "/model/type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
}
static void edit_no_cursor(hid_t file) {
    H5Adelete(file, "cursor");
}

static void put_integer(hid_t file, const char *name, int64_t value) {
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, &value);
    H5Aclose(attribute);
}
static void edit_schema(hid_t file) {
    put_integer(file, "schema", 99);
}
static void edit_negative_step(hid_t file) {
    put_integer(file, "step", -4);
}
static void edit_string_step(hid_t file) {
    H5Adelete(file, "step");
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t attribute = H5Acreate2(file, "step", type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, &(const char *){"9"});
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}
static void edit_long_step(hid_t file) {
    H5Adelete(file, "step");
    hid_t space = H5Screate_simple(1, (hsize_t[]){5000}, NULL);
    hid_t attribute = H5Acreate2(file, "step", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Aclose(attribute);
    H5Sclose(space);
}

static void edit_endless_tally(hid_t file) {
    hid_t attribute = H5Aopen(file, "tally", H5P_DEFAULT);
    double tally[sizeof(CheckpointTally) / sizeof(double)];
    H5Aread(attribute, H5T_NATIVE_DOUBLE, tally);
    tally[0] = INFINITY;
    H5Awrite(attribute, H5T_NATIVE_DOUBLE, tally);
    H5Aclose(attribute);
}
static void edit_short_tally(hid_t file) {
    H5Adelete(file, "tally");
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(file, "tally", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Aclose(attribute);
    H5Sclose(space);
}

static void test_foreign_structure(void **state) {
    static const struct {
        const char *what;
        Edit edit;
        const char *says;
    } cases[] = {
        {"nothing", edit_none, NULL},
        {"double", edit_double, "float32"},
        {"five axes", edit_five_axes, "four dimensions"},
        {"never written", edit_unwritten, "fewer bytes"},
        {"larger than the file", edit_huge, "larger than the file"},
        {"chunked and filtered", edit_chunked, "contiguous"},
        {"external data", edit_external_data, "contiguous"},
        {"external link", edit_external_link, "link"},
        {"soft link", edit_soft_link, "link"},
        {"cycle of groups", edit_cycle, "deep"},
        {"a hundred names for one dataset", edit_same_bytes_twice, "larger than the file"},
        {"named type", edit_named_type, "neither"},
        {"no cursor", edit_no_cursor, "cursor"},
        {"schema 99", edit_schema, "schema 99"},
        {"negative step", edit_negative_step, "range"},
        {"step is text", edit_string_step, "step"},
        {"step is an array", edit_long_step, "step"},
        {"tally is endless", edit_endless_tally, "range"},
        {"tally is a number", edit_short_tally, "tally"},
    };
    Error err;
    size_t size;
    assert_int_equal(sample_save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = file_read(sample_file(*state, "c", 9, ""), &size);
    const char *path = folder_file(*state, "foreign.h5");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_write(path, bytes, size - 128);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(file >= 0);
        cases[i].edit(file);
        H5Fclose(file);
        int loaded = sample_loads(path, &err);
        if (loaded != !cases[i].says || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("%s: %s", cases[i].what, loaded ? "was loaded" : err.message);
    }
    free(bytes);
}

/* Files of programs that did not yet keep an epoch's tally load as ever, with nothing counted. */
static void test_older_program(void **state) {
    Error err;
    size_t size;
    CheckpointFile loaded;
    const char *path = folder_file(*state, "older.h5");
    assert_int_equal(sample_save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = file_read(sample_file(*state, "c", 9, ""), &size);
    file_write(path, bytes, size - 128);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0 && H5Adelete(file, "tally") >= 0);
    H5Fclose(file);
    assert_int_equal(checkpoint_load(path, &loaded, &err), STATUS_OK);
    assert_true(loaded.meta.step == 9 && loaded.meta.tally.steps == 0 && loaded.meta.tally.loss == 0);
    checkpoint_free(&loaded);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_flipped_bits),      FOLDER_TEST(test_truncation),    FOLDER_TEST(test_unsealed_garbage),
        FOLDER_TEST(test_foreign_structure), FOLDER_TEST(test_older_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
