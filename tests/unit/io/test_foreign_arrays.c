/* Hostile files, as arrays and as a listing: what leads out of the file, claims more than it holds or needs a filter
 * that is not there is refused with 65 before memory is taken; gzip, as h5py writes it, is read. */
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "io/arrays/arrays.h"
#include "io/inspect/tree.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

enum { ROWS = 64, FOREIGN_FILTER = 300, ROOM = 1 << 30 };

static size_t pass_through(unsigned flags, size_t count, const unsigned values[], size_t bytes, size_t *room,
                           void **buffer) {
    (void)flags;
    (void)count;
    (void)values;
    (void)room;
    (void)buffer;
    return bytes;
}

static const H5Z_class2_t foreign_filter = {H5Z_CLASS_T_VERS, FOREIGN_FILTER, 1, 1, "lz5", NULL, NULL, pass_through};

/* Dataset `name` of `type`, `rows` long, written when `write`; `creation` is closed. */
static void put(hid_t file, const char *name, hid_t type, hsize_t rows, hid_t creation, int write) {
    int32_t values[ROWS] = {0};
    for (int i = 0; i < ROWS; i++)
        values[i] = i;
    const hsize_t most = creation == H5P_DEFAULT || H5Pget_layout(creation) != H5D_CHUNKED ? rows : H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &rows, &most);
    hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (data < 0)
        fail_msg("%s cannot be made", name);
    assert_true(!write || H5Dwrite(data, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(data);
    H5Sclose(space);
    if (creation != H5P_DEFAULT)
        H5Pclose(creation);
}

static hid_t chunks(hsize_t rows) {
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, &rows);
    return creation;
}

static void put_filtered(hid_t file) {
    hid_t gzip = chunks(16), foreign = chunks(16);
    H5Pset_shuffle(gzip);
    H5Pset_deflate(gzip, 6);
    H5Pset_fletcher32(gzip);
    put(file, "gzip", H5T_STD_I32LE, ROWS, gzip, 1);
    assert_true(H5Zregister(&foreign_filter) >= 0);
    H5Pset_filter(foreign, FOREIGN_FILTER, H5Z_FLAG_MANDATORY, 0, NULL);
    put(file, "foreign filter", H5T_STD_I32LE, ROWS, foreign, 1);
}

static void put_outside(hid_t file) {
    hid_t external = H5Pcreate(H5P_DATASET_CREATE), assembled = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t rows = ROWS;
    H5Pset_external(external, "/etc/passwd", 0, 4 * ROWS);
    put(file, "external", H5T_STD_I32LE, ROWS, external, 0);
    hid_t space = H5Screate_simple(1, &rows, NULL);
    H5Pset_virtual(assembled, space, "/etc/passwd", "/x", space);
    put(file, "virtual", H5T_STD_I32LE, ROWS, assembled, 0);
    H5Sclose(space);
    H5Lcreate_external("elsewhere.h5", "/x", file, "external link", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("elsewhere.h5", "/", file, "group", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/gzip", file, "soft link", H5P_DEFAULT, H5P_DEFAULT);
}

static const char *hostile_file(Folder *folder) {
    const char *path = folder_file(folder, "hostile.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_filtered(file);
    put_outside(file);
    put(file, "huge", H5T_STD_I32LE, (hsize_t)1 << 30, H5P_DEFAULT, 0);
    put(file, "endless", H5T_STD_I32LE, (hsize_t)1 << 62, chunks(16), 0);
    put(file, "wide chunk", H5T_STD_I32LE, ROWS, chunks((hsize_t)1 << 28), 0);
    put(file, "text", H5T_C_S1, ROWS, H5P_DEFAULT, 0);
    hid_t wide = H5Tcopy(H5T_STD_I32LE);
    H5Tset_size(wide, 4096);
    H5Tset_precision(wide, 8 * 4096); /* newer libraries make no integers of mostly unused bits */
    put(file, "wide integer", wide, ROWS, H5P_DEFAULT, 0);
    H5Tclose(wide);
    H5Gclose(H5Gcreate2(file, "folder", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    H5Zunregister(FOREIGN_FILTER);
    return path;
}

static void test_hostile(void **state) {
    static const struct {
        const char *name, *says;
    } cases[] = {
        {"external link", "soft or external link"},
        {"group/x", "soft or external link"},
        {"soft link", "soft or external link"},
        {"external", "outside the file"},
        {"virtual", "outside the file"},
        {"huge", "more elements than the file can hold"},
        {"endless", "more elements than the file can hold"},
        {"wide chunk", "chunks larger than the file"},
        {"text", "holds no plain numbers, integers (int32) expected"},
        {"wide integer", "holds no plain numbers, integers (int32) expected"},
        {"folder", "not a dataset"},
        {"foreign filter", "filter 300 (lz5), which this program does not have"},
    };
    const char *path = hostile_file(*state);
    struct rlimit before, limit;
    ArrayFile *file;
    Array array;
    Error err = {0};
    assert_int_equal(array_file_open(&file, path, &err), STATUS_OK);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    limit = (struct rlimit){ROOM, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
#endif
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Status status = array_read(file, cases[i].name, ARRAY_I32, 1, &array, &err);
        if (status != STATUS_DATA || !strstr(err.message, cases[i].says) || !strstr(err.message, "hostile.h5"))
            fail_msg("%s: status %d, '%s'", cases[i].name, status, err.message);
        assert_true(!array.f32 && !array.i32 && !array.u8);
        assert_true(array_exists(file, cases[i].name));
    }
    setrlimit(RLIMIT_AS, &before);
    assert_int_equal(array_read(file, "gzip", ARRAY_I32, 1, &array, &err), STATUS_OK);
    assert_true(array.count == ROWS && array.i32[1] == 1 && array.i32[ROWS - 1] == ROWS - 1);
    array_free(&array);
    array_file_close(file);
}

/* The program's own exit code and message. */
static void test_probe_refuses(void **state) {
    const char *program = getenv("EXCON"), *path = hostile_file(*state);
    char command[2048];
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Lmove(file, "external link", file, "z", H5P_DEFAULT, H5P_DEFAULT);
    H5Lmove(file, "gzip", file, "labels", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    snprintf(command, sizeof command, "%s probe supcon %s %s --set method=supcon --backend cpu >%s 2>&1",
             program && *program ? program : "build/excon", path, folder_file(*state, "out.h5"),
             folder_file(*state, "log"));
    const int status = system(command);
    char *said = file_read(folder_file(*state, "log"), NULL);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS_DATA ||
        !strstr(said, "hostile.h5: /z is a soft or external link, which is refused"))
        fail_msg("status %d, '%s'", status, said);
    free(said);
}

typedef struct Seen {
    int64_t items;
    int described; /* virtual dataset: type and shape, without what it is put together from */
} Seen;

static Status see(void *ctx, const TreeItem *item, Error *err) {
    Seen *seen = ctx;
    (void)err;
    seen->items++;
    if (strcmp(item->path, "virtual") == 0)
        seen->described = item->rank == 1 && item->shape[0] == ROWS && item->count == 0 && item->stored_bytes == 0;
    return STATUS_OK;
}

/* A small file of 40^7 paths: each group holds the next under 40 names. */
static void put_many_names(const char *path) {
    enum { LEVELS = 7, NAMES = 40 };
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    for (int level = 0; level < LEVELS; level++) {
        char group[16], name[32];
        snprintf(group, sizeof group, "group%d", level);
        H5Gclose(H5Gcreate2(file, group, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        for (int i = 0; i < NAMES && level > 0; i++) {
            snprintf(name, sizeof name, "group%d/name%d", level - 1, i);
            assert_true(H5Lcreate_hard(file, group, file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
        }
    }
    H5Fclose(file);
}

static void test_listing(void **state) {
    const char *path = hostile_file(*state), *many = folder_file(*state, "many.h5");
    Seen seen = {0, 0};
    Error err = {0};
    assert_int_equal(tree_read(path, see, &seen, &err), STATUS_OK);
    assert_int_equal(seen.items, 13);
    assert_true(seen.described);
    put_many_names(many);
    const Status status = tree_read(many, see, &seen, &err);
    if (status != STATUS_DATA || !strstr(err.message, "more than 262144 objects"))
        fail_msg("status %d, '%s'", status, err.message);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_hostile),
        FOLDER_TEST(test_probe_refuses),
        FOLDER_TEST(test_listing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
