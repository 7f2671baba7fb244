/* Datasets: round trip, choosing samples, and every kind of damaged or foreign file refused with its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "io/dataset/dataset.h"
#include "io/dataset/index.h"
#include "io/dataset/shard.h"
#include "io/files/files.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

enum { ROWS = 40, CHUNK = 16, SIDE = 6, CLASSES = 4, IMAGE = SIDE * SIDE * 3, MASK = SIDE * SIDE };

typedef struct Pixels {
    uint8_t images[ROWS * IMAGE], masks[ROWS * MASK];
    int16_t boxes[ROWS * 4];
    int32_t labels[ROWS];
} Pixels;

/* Closed forms, different for every shard. */
static void fill_pixels(Pixels *pixels, int salt) {
    for (int i = 0; i < ROWS * IMAGE; i++)
        pixels->images[i] = (uint8_t)(i * 31 + salt * 7);
    for (int i = 0; i < ROWS * MASK; i++)
        pixels->masks[i] = (uint8_t)((i + salt) % 3 == 0);
    for (int i = 0; i < ROWS * 4; i++)
        pixels->boxes[i] = (int16_t)(i - salt);
    for (int i = 0; i < ROWS; i++)
        pixels->labels[i] = (i * 7 + salt) % CLASSES;
}

/* Two full train shards (the second ends in a short chunk) and one val shard. */
static void write_dataset(const char *dir) {
    static char *names[CLASSES] = {"one", "two words", "three", "four"};
    Dataset dataset = {.kind = "test",
                       .classes = CLASSES,
                       .height = SIDE,
                       .width = SIDE,
                       .mean = {0.1f, 0.2f, 0.3f},
                       .std = {0.4f, 0.5f, 0.6f},
                       .class_names = names,
                       .count = {2 * ROWS, ROWS},
                       .shard_count = {2, 1},
                       .has_boxes = 1,
                       .has_masks = 1,
                       .plan = "plan"};
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    ShardInfo infos[3] = {0};
    Pixels *pixels = malloc(sizeof *pixels);
    Error err = {0};
    snprintf(dataset.dir, sizeof dataset.dir, "%s", dir);
    dataset.mutex = &mutex;
    dataset.shards[SPLIT_TRAIN] = infos;
    dataset.shards[SPLIT_VAL] = infos + 2;
    for (int s = 0; s < 3; s++) {
        const Split split = s < 2 ? SPLIT_TRAIN : SPLIT_VAL;
        infos[s] = (ShardInfo){.first = s == 1 ? ROWS : 0, .rows = ROWS, .chunk_rows = CHUNK};
        index_shard_name(split, s % 2, infos[s].file);
        fill_pixels(pixels, s);
        const ShardRows rows = {pixels->images, pixels->labels, pixels->boxes, pixels->masks};
        if (shard_write(&dataset, split, &infos[s], &rows, &err) != STATUS_OK)
            fail_msg("%s", err.message);
    }
    if (index_write(&dataset, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    free(pixels);
}

static int setup(void **state) {
    char *dir = malloc(FOLDER_BYTES);
    folder_make(dir);
    write_dataset(dir);
    *state = dir;
    return 0;
}

static int teardown(void **state) {
    folder_remove(*state);
    free(*state);
    return 0;
}

static void test_round_trip(void **state) {
    Dataset dataset;
    Error err = {0};
    Pixels *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    assert_int_equal(dataset_open(&dataset, *state, 1, &err), STATUS_OK);
    assert_string_equal(dataset.kind, "test");
    assert_string_equal(dataset.class_names[1], "two words");
    assert_string_equal(dataset.plan, "plan");
    assert_int_equal(dataset.classes, CLASSES);
    assert_int_equal(dataset.height, SIDE);
    assert_int_equal(dataset.count[SPLIT_TRAIN], 2 * ROWS);
    assert_int_equal(dataset.count[SPLIT_VAL], ROWS);
    assert_true(dataset.mean[2] == 0.3f && dataset.std[0] == 0.4f);
    for (int s = 0; s < 3; s++) {
        const Split split = s < 2 ? SPLIT_TRAIN : SPLIT_VAL;
        const int shard = s % 2;
        fill_pixels(want, s);
        const int64_t first = dataset.shards[split][shard].first;
        assert_memory_equal(dataset.labels[split] + first, want->labels, sizeof want->labels);
        assert_int_equal(dataset_read_rows(&dataset, split, shard, 0, ROWS, got->images, got->boxes, got->masks, &err),
                         0);
        assert_memory_equal(got->images, want->images, sizeof want->images);
        assert_memory_equal(got->boxes, want->boxes, sizeof want->boxes);
        assert_memory_equal(got->masks, want->masks, sizeof want->masks);
        assert_int_equal(dataset_read_rows(&dataset, split, shard, 13, 20, got->images, NULL, NULL, &err), 0);
        assert_memory_equal(got->images, want->images + 13 * IMAGE, 20 * IMAGE);
    }
    assert_int_equal(dataset_read_rows(&dataset, SPLIT_VAL, 0, 30, 11, got->images, NULL, NULL, &err), STATUS_INTERNAL);
    dataset_close(&dataset);
    free(want);
    free(got);
}

static int files_equal(const char *a, const char *b) {
    char *x, *y;
    size_t x_size, y_size;
    assert_int_equal(files_read(a, 1 << 20, &x, &x_size, NULL), STATUS_OK);
    assert_int_equal(files_read(b, 1 << 20, &y, &y_size, NULL), STATUS_OK);
    const int equal = x_size == y_size && memcmp(x, y, x_size) == 0;
    free(x);
    free(y);
    return equal;
}

static void test_equal_contents_give_equal_bytes(void **state) {
    char other[FOLDER_BYTES];
    Dataset a, b;
    Error err = {0};
    char index_a[PATH_BYTES], index_b[PATH_BYTES];
    folder_make(other);
    usleep(1100000); /* times kept in the files would differ by a second */
    write_dataset(other);
    assert_true(files_equal(folder_join(index_a, *state, "index.h5"), folder_join(index_b, other, "index.h5")));
    assert_int_equal(dataset_open(&a, *state, 0, &err), STATUS_OK);
    assert_int_equal(dataset_open(&b, other, 0, &err), STATUS_OK);
    assert_string_equal(a.shards[SPLIT_TRAIN][1].sha256, b.shards[SPLIT_TRAIN][1].sha256);
    assert_string_not_equal(a.shards[SPLIT_TRAIN][0].sha256, b.shards[SPLIT_TRAIN][1].sha256);
    dataset_close(&a);
    dataset_close(&b);
    folder_remove(other);
}

static void test_select_and_hold_out(void **state) {
    Dataset dataset;
    Error err = {0};
    int64_t *ids, n, *train, train_n, *val, val_n, *val2, val2_n;
    assert_int_equal(dataset_open(&dataset, *state, 0, &err), STATUS_OK);
    assert_int_equal(dataset_select_classes(&dataset, SPLIT_TRAIN, 3, &ids, &n, &err), STATUS_OK);
    int64_t expected = 0;
    for (int64_t i = 0; i < 2 * ROWS; i++)
        if (dataset.labels[SPLIT_TRAIN][i] < 3)
            assert_int_equal(ids[expected++], i);
    assert_int_equal(n, expected);
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, n, 0.3, 9, &train, &train_n, &val, &val_n, &err), 0);
    assert_int_equal(train_n + val_n, n);
    int held[CLASSES] = {0};
    for (int64_t i = 0, t = 0, v = 0; i < n; i++) { /* both ascending, together exactly ids */
        if (v < val_n && val[v] == ids[i])
            held[dataset.labels[SPLIT_TRAIN][val[v++]]]++;
        else
            assert_int_equal(train[t++], ids[i]);
    }
    for (int c = 0; c < 3; c++)
        assert_int_equal(held[c], 6); /* round(0.3 * 20) */
    free(train);
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, n, 0.3, 10, &train, &train_n, &val2, &val2_n, &err),
                     0);
    assert_int_equal(val2_n, val_n);
    assert_memory_not_equal(val, val2, (size_t)val_n * sizeof *val);
    free(train);
    free(val);
    free(val2);
    /* A small share is one image of each class, not none; a class's only image stays in training. */
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, n, 0.01, 9, &train, &train_n, &val, &val_n, &err), 0);
    assert_int_equal(val_n, 3);
    free(train);
    free(val);
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, 1, 0.5, 9, &train, &train_n, &val, &val_n, &err), 0);
    assert_int_equal(val_n, 0);
    free(train);
    free(val);
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, n, 0, 9, &train, &train_n, &val, &val_n, &err), 0);
    assert_int_equal(val_n, 0);
    free(train);
    free(val);
    assert_int_equal(dataset_hold_out(&dataset, SPLIT_TRAIN, ids, n, 1.5, 9, &train, &train_n, &val, &val_n, &err),
                     STATUS_CONFIG);
    free(ids);
    assert_int_equal(dataset_select_classes(&dataset, SPLIT_TRAIN, CLASSES + 1, &ids, &n, &err), STATUS_CONFIG);
    dataset_close(&dataset);
}

/* ---- damage ---- */

static void expect_refusal(const char *dir, int verify, Status status, const char *word) {
    Dataset dataset;
    Error err = {0};
    const Status got = dataset_open(&dataset, dir, verify, &err);
    if (got == STATUS_OK)
        dataset_close(&dataset);
    if (got != status || !strstr(err.message, word))
        fail_msg("status %d, message '%s'; expected %d naming '%s'", got, err.message, status, word);
}

static void test_missing_pieces(void **state) {
    char path[PATH_BYTES];
    expect_refusal("/nonexistent/folder", 0, STATUS_NO_INPUT, "/nonexistent/folder");
    unlink(folder_join(path, *state, "train-0001.h5"));
    expect_refusal(*state, 0, STATUS_DATA, "train-0001.h5");
    unlink(folder_join(path, *state, "index.h5"));
    expect_refusal(*state, 0, STATUS_NO_INPUT, "index.h5");
    file_write(path, "not HDF5 at all", 15);
    expect_refusal(*state, 0, STATUS_DATA, "index.h5");
    file_write(path, "", 0);
    expect_refusal(*state, 0, STATUS_DATA, "index.h5");
}

static void test_truncated(void **state) {
    char path[PATH_BYTES];
    folder_join(path, *state, "train-0001.h5");
    const int64_t size = file_size(path);
    file_truncate(path, size - 1);
    expect_refusal(*state, 1, STATUS_DATA, "train-0001.h5");
    expect_refusal(*state, 0, STATUS_DATA, "train-0001.h5");
    file_truncate(path, size / 2);
    expect_refusal(*state, 0, STATUS_DATA, "train-0001.h5");
    file_truncate(path, 0);
    expect_refusal(*state, 0, STATUS_DATA, "train-0001.h5");
}

/* A bit flipped anywhere in a shard: the hash finds it; without the hash, either the shard is refused when opened, or
 * the read fails naming the chunk, or the flip lies in a gap and every byte still reads back. */
static void test_flipped_bit(void **state) {
    char path[PATH_BYTES];
    Pixels *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    folder_join(path, *state, "train-0000.h5");
    fill_pixels(want, 0);
    int named_chunks = 0;
    for (int64_t offset = 0; offset < file_size(path); offset += 61) {
        Dataset dataset;
        Error err = {0};
        file_flip(path, offset);
        expect_refusal(*state, 1, STATUS_DATA, "train-0000.h5");
        Status status = dataset_open(&dataset, *state, 0, &err);
        if (status == STATUS_OK) {
            status = dataset_read_rows(&dataset, SPLIT_TRAIN, 0, 0, ROWS, got->images, got->boxes, got->masks, &err);
            named_chunks += strstr(err.message, "chunk 1 (rows 16 to 31)") != NULL;
            if (status == STATUS_OK) {
                assert_memory_equal(got->images, want->images, sizeof want->images);
                assert_memory_equal(got->boxes, want->boxes, sizeof want->boxes);
                assert_memory_equal(got->masks, want->masks, sizeof want->masks);
                assert_memory_equal(dataset.labels[SPLIT_TRAIN], want->labels, sizeof want->labels);
            }
            dataset_close(&dataset);
        }
        assert_true(status == STATUS_OK || (status == STATUS_DATA && strstr(err.message, "train-0000.h5")));
        file_flip(path, offset);
    }
    assert_true(named_chunks >= CHUNK * IMAGE / 61);
    free(want);
    free(got);
}

static void test_flipped_bit_in_the_index(void **state) {
    char path[PATH_BYTES];
    folder_join(path, *state, "index.h5");
    const int64_t size = file_size(path);
    int refused = 0;
    for (int64_t offset = 0; offset < size; offset += 7) {
        Dataset dataset;
        Error err = {0};
        file_flip(path, offset);
        const Status status = dataset_open(&dataset, *state, 1, &err);
        if (status == STATUS_OK) {
            assert_int_equal(dataset.count[SPLIT_TRAIN], 2 * ROWS);
            assert_string_equal(dataset.class_names[1], "two words");
            dataset_close(&dataset);
        } else
            assert_int_equal(status, STATUS_DATA);
        refused += status != STATUS_OK;
        file_flip(path, offset);
    }
    assert_true(refused > size / 7 / 4);
}

typedef struct Foreign {
    const char *what;
    hid_t type;
    int rank;
    hsize_t dims[4];
    int chunked, deflate, external;
    const char *word; /* in the message */
} Foreign;

/* Replaces /images of a shard by something else of the same name. */
static void plant(const char *path, const Foreign *foreign) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_true(H5Ldelete(file, "images", H5P_DEFAULT) >= 0);
    if (foreign->external == 2)
        assert_true(H5Lcreate_external("/etc/passwd", "/images", file, "images", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    else if (foreign->external == 3)
        assert_true(H5Lcreate_soft("/masks", file, "images", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    else if (foreign->rank > 0) {
        const hsize_t chunk[4] = {CHUNK, SIDE, SIDE, 3};
        hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(foreign->rank, foreign->dims, NULL);
        if (foreign->chunked)
            H5Pset_chunk(plist, foreign->rank, chunk);
        if (foreign->deflate)
            H5Pset_deflate(plist, 1);
        if (foreign->external == 1)
            H5Pset_external(plist, "/etc/passwd", 0, H5F_UNLIMITED);
        hid_t dataset = H5Dcreate2(file, "images", foreign->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
        assert_true(dataset >= 0);
        H5Dclose(dataset);
        H5Sclose(space);
        H5Pclose(plist);
    }
    H5Fclose(file);
}

static void test_foreign_images(void **state) {
    char path[PATH_BYTES];
    const Foreign cases[] = {
        {"missing", 0, 0, {0}, 0, 0, 0, "missing"},
        {"type", H5T_STD_I16LE, 4, {ROWS, SIDE, SIDE, 3}, 0, 0, 0, "type"},
        {"rank", H5T_STD_U8LE, 3, {ROWS, SIDE, SIDE * 3}, 0, 0, 0, "shape"},
        {"rows", H5T_STD_U8LE, 4, {ROWS - 1, SIDE, SIDE, 3}, 0, 0, 0, "shape"},
        {"huge", H5T_STD_U8LE, 4, {(hsize_t)1 << 40, SIDE, SIDE, 3}, 1, 0, 0, "shape"},
        {"unwritten", H5T_STD_U8LE, 4, {ROWS, SIDE, SIDE, 3}, 0, 0, 0, "incomplete"},
        {"filter", H5T_STD_U8LE, 4, {ROWS, SIDE, SIDE, 3}, 1, 1, 0, "filter"},
        {"no checksum", H5T_STD_U8LE, 4, {ROWS, SIDE, SIDE, 3}, 1, 0, 0, "filter"},
        {"external storage", H5T_STD_U8LE, 4, {ROWS, SIDE, SIDE, 3}, 0, 0, 1, "storage"},
        {"external link", 0, 0, {0}, 0, 0, 2, "link"},
        {"soft link", 0, 0, {0}, 0, 0, 3, "link"},
    };
    folder_join(path, *state, "val-0000.h5");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        write_dataset(*state);
        plant(path, &cases[c]);
        expect_refusal(*state, 0, STATUS_DATA, "val-0000.h5");
        expect_refusal(*state, 0, STATUS_DATA, cases[c].word);
    }
}

/* Values that fit the types and still make no sense. */
static void test_lying_values(void **state) {
    char path[PATH_BYTES];
    int64_t rows = (int64_t)1 << 30;
    int32_t label = CLASSES;
    const hsize_t one = 1;
    write_dataset(*state);
    folder_join(path, *state, "train-0001.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), set = H5Dopen2(file, "labels", H5P_DEFAULT);
    hid_t memory = H5Screate_simple(1, &one, NULL), space = H5Dget_space(set);
    const hsize_t start = 5;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &one, NULL);
    assert_true(H5Dwrite(set, H5T_NATIVE_INT32, memory, space, H5P_DEFAULT, &label) >= 0);
    H5Sclose(space);
    H5Sclose(memory);
    H5Dclose(set);
    H5Fclose(file);
    expect_refusal(*state, 0, STATUS_DATA, "row 5 has label 4");

    write_dataset(*state);
    folder_join(path, *state, "index.h5");
    file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, "val", H5P_DEFAULT), attribute = H5Aopen(group, "count", H5P_DEFAULT);
    assert_true(H5Awrite(attribute, H5T_NATIVE_INT64, &rows) >= 0);
    H5Aclose(attribute);
    H5Gclose(group);
    H5Fclose(file);
    expect_refusal(*state, 0, STATUS_DATA, "index.h5");
    file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    set = H5Dopen2(file, "val/rows", H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, &rows) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    expect_refusal(*state, 0, STATUS_DATA, "val-0000.h5");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_equal_contents_give_equal_bytes),
        TEST(test_select_and_hold_out),
        TEST(test_missing_pieces),
        TEST(test_truncated),
        TEST(test_flipped_bit),
        TEST(test_flipped_bit_in_the_index),
        TEST(test_foreign_images),
        TEST(test_lying_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
