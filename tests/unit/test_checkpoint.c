/* Checkpoints: round trip, equal bytes, damage of every kind, crashes and failing calls at every point of a save,
 * pruning. The program starts itself again with the fault shim preloaded (`--save DIR STEP` is that child). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "io/checkpoint/checkpoint.h"
#include "io/files/files.h"
#include "tests/support/faults.h"
#include "tests/support/folder.h"

enum { TENSORS = 6, MAX_CALLS = 200 };

static const CheckpointTensor layout[TENSORS] = {
    {.name = "model/encoder.conv1.weight", .rank = 4, .shape = {8, 3, 3, 3}},
    {.name = "model/encoder.bn1.running_mean", .rank = 1, .shape = {8}},
    {.name = "model/classifier.fc.weight", .rank = 2, .shape = {10, 8}},
    {.name = "momentum/encoder.conv1.weight", .rank = 4, .shape = {8, 3, 3, 3}},
    {.name = "momentum/a.scalar", .rank = 0},
    {.name = "extra/deep/three.axes", .rank = 3, .shape = {2, 3, 4}},
};

static size_t values_of(const CheckpointTensor *tensor) {
    size_t n = 1;
    for (int d = 0; d < tensor->rank; d++)
        n *= (size_t)tensor->shape[d];
    return n;
}

/* State that depends on the step, so that one checkpoint is never mistaken for another. */
static void state_make(int64_t step, CheckpointMeta *meta, CheckpointTensor tensors[TENSORS]) {
    *meta = (CheckpointMeta){.step = step,
                             .epoch = 1 + step / 10,
                             .cursor = step % 10,
                             .world_size = 2,
                             .best = -1,
                             .best_step = -1,
                             .width = 64,
                             .classes = 200,
                             .image_size = 64,
                             .projection = 128,
                             .mean = {0.4f, 0.5f, 0.6f},
                             .std = {0.1f, 0.2f, 0.3f}};
    strcpy(meta->method, "excon");
    strcpy(meta->encoder, "resnet18");
    memset(meta->config_hash, 'c', 64);
    for (int t = 0; t < TENSORS; t++) {
        tensors[t] = layout[t];
        size_t n = values_of(&tensors[t]);
        tensors[t].data = malloc(n * sizeof(float));
        assert_non_null(tensors[t].data);
        for (size_t i = 0; i < n; i++)
            tensors[t].data[i] = (float)(step * 1000 + t) + (float)i / 1024;
    }
    tensors[0].data[0] = NAN;
    tensors[0].data[1] = -0.0f;
    tensors[0].data[2] = 1e-42f;
}

static void state_free(CheckpointTensor tensors[TENSORS]) {
    for (int t = 0; t < TENSORS; t++)
        free(tensors[t].data);
}

static Status save_best(const char *dir, int64_t step, int keep, int is_best, int64_t best_step, int64_t resumed_from,
                        Error *err) {
    CheckpointMeta meta;
    CheckpointTensor tensors[TENSORS];
    state_make(step, &meta, tensors);
    meta.best_step = is_best ? step : best_step;
    meta.best = meta.best_step >= 0 ? 0.5 : -1;
    Status status = checkpoint_save(dir, &meta, tensors, TENSORS, keep, is_best, resumed_from, err);
    state_free(tensors);
    return status;
}

static Status save(const char *dir, int64_t step, Error *err) {
    return save_best(dir, step, 3, 0, -1, -1, err);
}

/* 1 when the loaded state is exactly that of its step. */
static int state_right(const CheckpointFile *file) {
    CheckpointMeta meta;
    CheckpointTensor tensors[TENSORS];
    state_make(file->meta.step, &meta, tensors);
    meta.best = file->meta.best;
    meta.best_step = file->meta.best_step;
    int right = file->count == TENSORS && memcmp(&meta, &file->meta, sizeof meta) == 0;
    for (int t = 0; t < TENSORS && right; t++) {
        const CheckpointTensor *got = checkpoint_find(file, layout[t].name);
        right = got && got->rank == layout[t].rank && memcmp(got->shape, layout[t].shape, sizeof got->shape) == 0 &&
                memcmp(got->data, tensors[t].data, values_of(got) * sizeof(float)) == 0;
    }
    state_free(tensors);
    return right;
}

typedef struct Notes {
    int count;
    char last[4096];
} Notes;

static void take_note(void *ctx, const char *text) {
    Notes *notes = ctx;
    notes->count++;
    snprintf(notes->last, sizeof notes->last, "%s", text);
}

/* Step of the newest valid checkpoint, checked to be right; -1: none there; -2: STATUS_DATA. */
static int64_t newest(const char *dir, Notes *notes) {
    CheckpointFile file;
    Error err;
    int found;
    memset(notes, 0, sizeof *notes);
    Status status = checkpoint_load_newest(dir, &file, &found, take_note, notes, &err);
    if (status == STATUS_DATA) {
        assert_non_null(strstr(err.message, dir));
        return -2;
    }
    assert_int_equal(status, STATUS_OK);
    if (!found)
        return -1;
    assert_true(state_right(&file));
    int64_t step = file.meta.step;
    checkpoint_free(&file);
    return step;
}

static const char *step_file(Folder *folder, const char *dir, int64_t step, const char *suffix) {
    char name[96];
    snprintf(name, sizeof name, "%s/step-%08lld.h5%s", dir, (long long)step, suffix);
    return folder_file(folder, name);
}

static int64_t link_step(const char *dir, const char *name) {
    char path[PATH_MAX], target[64] = {0};
    long long step = -1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (readlink(path, target, sizeof target - 1) <= 0 || !files_exists(path))
        return -1;
    assert_int_equal(sscanf(target, "step-%lld.h5", &step), 1);
    return step;
}

static int child_save(const char *dir, const char *step) {
    Error err;
    Status status = save_best(dir, atoll(step), 2, 1, -1, -1, &err);
    if (status != STATUS_OK)
        printf("%s\n", err.message);
    fflush(stdout);
    _exit(status);
}

/* ---- sound files ---- */

static void test_round_trip(void **state) {
    const char *dir = folder_file(*state, "checkpoints");
    CheckpointFile file;
    Error err;
    Notes notes;
    assert_int_equal(newest(dir, &notes), -1);
    assert_int_equal(save(dir, 7, &err), STATUS_OK);
    assert_int_equal(checkpoint_load(step_file(*state, "checkpoints", 7, ""), &file, &err), STATUS_OK);
    assert_int_equal(file.meta.step, 7);
    assert_true(state_right(&file));
    assert_null(checkpoint_find(&file, "model/none"));
    checkpoint_free(&file);
    assert_int_equal(checkpoint_load(folder_file(*state, "checkpoints/last.h5"), &file, &err), STATUS_OK);
    assert_true(state_right(&file));
    checkpoint_free(&file);
    assert_int_equal(newest(dir, &notes), 7);
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
        assert_int_equal(save(folder_file(*state, dir), 3, &err), STATUS_OK);
        bytes[i] = slurp(step_file(*state, dir, 3, ""), &size[i]);
        usleep(i ? 0 : 1100000);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* The digest depends on every value and the cursor, on nothing else, and not on the order of the tensors. */
static void test_digest(void **state) {
    (void)state;
    CheckpointFile file = {.count = TENSORS};
    CheckpointTensor tensors[TENSORS], swapped;
    Error err;
    char base[65], other[65];
    state_make(5, &file.meta, tensors);
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
    for (int t = 0; t < TENSORS; t++) {
        float *last = &tensors[t].data[values_of(&tensors[t]) - 1], old = *last;
        *last = nextafterf(old, INFINITY);
        checkpoint_digest(&file, other, &err);
        assert_string_not_equal(base, other);
        *last = old;
    }
    tensors[2].shape[0] = 8;
    tensors[2].shape[1] = 10;
    checkpoint_digest(&file, other, &err);
    assert_string_not_equal(base, other);
    state_free(tensors);
}

/* ---- damage ---- */

static int load_is_right(const char *path, Error *err) {
    CheckpointFile file;
    Status status = checkpoint_load(path, &file, err);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_DATA);
        assert_non_null(strstr(err->message, path));
        return 0;
    }
    int right = state_right(&file);
    checkpoint_free(&file);
    assert_true(right);
    return 1;
}

/* A flipped bit is found through the manifest, without the manifest through the seal, or changes nothing that is read.
 */
static void test_flipped_bits(void **state) {
    Error err;
    size_t size;
    assert_int_equal(save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = slurp(step_file(*state, "c", 9, ""), &size);
    const char *listed = step_file(*state, "c", 9, ""), *alone = folder_file(*state, "step-00000009.h5");
    uint64_t random = 1;
    int harmless = 0;
    for (int i = 0; i < 1500; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (random >> 24) % size;
        int in_seal_words = at >= size - 128 && at < size - 128 + 31;
        bytes[at] ^= (char)(1 << (random >> 61));
        spill(alone, bytes, size);
        int loaded = load_is_right(alone, &err);
        harmless += loaded;
        assert_true(!loaded || at >= size - 128);
        assert_true(!in_seal_words || loaded);
        if (i % 10 == 0) {
            spill(listed, bytes, size);
            assert_false(load_is_right(listed, &err));
        }
        bytes[at] ^= (char)(1 << (random >> 61));
    }
    assert_in_range(harmless, 0, 100);
    spill(listed, bytes, size);
    assert_true(load_is_right(listed, &err));
    free(bytes);
}

static void test_truncation(void **state) {
    Error err;
    size_t size;
    assert_int_equal(save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = slurp(step_file(*state, "c", 9, ""), &size);
    const char *alone = folder_file(*state, "step-00000009.h5");
    for (size_t n = 0; n < size; n += n < 600 || n + 200 > size ? 1 : 37) {
        spill(alone, bytes, n);
        assert_true(!load_is_right(alone, &err) || n >= size - 128); /* only a cut seal leaves all values */
    }
    char *longer = calloc(1, size + 4096);
    memcpy(longer, bytes, size);
    spill(step_file(*state, "c", 9, ""), longer, size + 4096);
    assert_false(load_is_right(step_file(*state, "c", 9, ""), &err));
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
        spill(path, work, size);
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
    assert_int_equal(save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = slurp(step_file(*state, "c", 9, ""), &size);
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
    };
    Error err;
    size_t size;
    assert_int_equal(save(folder_file(*state, "c"), 9, &err), STATUS_OK);
    char *bytes = slurp(step_file(*state, "c", 9, ""), &size);
    const char *path = folder_file(*state, "foreign.h5");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spill(path, bytes, size - 128);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(file >= 0);
        cases[i].edit(file);
        H5Fclose(file);
        int loaded = load_is_right(path, &err);
        if (loaded != !cases[i].says || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("%s: %s", cases[i].what, loaded ? "was loaded" : err.message);
    }
    free(bytes);
}

/* ---- newest valid ---- */

static void test_newest_valid(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (int64_t step = 1; step <= 3; step++)
        assert_int_equal(save_best(dir, step, 9, step == 3, -1, -1, &err), STATUS_OK);
    size_t size;
    char *bytes = slurp(step_file(*state, "c", 3, ""), &size);
    bytes[size / 2] ^= 1;
    spill(step_file(*state, "c", 3, ""), bytes, size);
    free(bytes);
    assert_int_equal(truncate(step_file(*state, "c", 2, ""), 700), 0);
    unlink(folder_file(*state, "c/manifest.json"));

    assert_int_equal(newest(dir, &notes), 1);
    assert_int_equal(notes.count, 2);
    assert_non_null(strstr(notes.last, "step-00000002.h5.bad"));
    assert_true(files_exists(step_file(*state, "c", 3, ".bad")));
    assert_true(files_exists(step_file(*state, "c", 2, ".bad")));
    assert_false(files_exists(step_file(*state, "c", 3, "")));
    assert_int_equal(link_step(dir, "last.h5"), 1);
    assert_int_equal(link_step(dir, "best.h5"), -1);

    /* A second bad file of the same step does not overwrite the first. */
    assert_int_equal(save(dir, 2, &err), STATUS_OK);
    assert_int_equal(truncate(step_file(*state, "c", 2, ""), 700), 0);
    assert_int_equal(newest(dir, &notes), 1);
    assert_true(files_exists(step_file(*state, "c", 2, ".bad.2")));

    /* Never silently from zero. */
    assert_int_equal(truncate(step_file(*state, "c", 1, ""), 0), 0);
    assert_int_equal(newest(dir, &notes), -2);
    assert_int_equal(notes.count, 1);
    assert_int_equal(newest(dir, &notes), -2);
}

static void test_renamed_checkpoint(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    assert_int_equal(save(dir, 4, &err), STATUS_OK);
    size_t size;
    char *bytes = slurp(step_file(*state, "c", 4, ""), &size);
    spill(step_file(*state, "c", 8, ""), bytes, size);
    free(bytes);
    assert_int_equal(newest(dir, &notes), 4);
    assert_non_null(strstr(notes.last, "step 4"));
    assert_true(files_exists(step_file(*state, "c", 8, ".bad")));
}

/* A hostile or torn manifest costs its witness, not the checkpoints. */
static void test_manifest_garbage(void **state) {
    static const char *const texts[] = {"", "{", "[[[[[[", "{\"file\":\"step-00000004.h5\",\"step\":4,\"bytes\":",
                                        "{\"file\":\"../../x\",\"step\":4,\"bytes\":1,\"sha256\":\"00\"}\n"};
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(save(dir, 4, &err), STATUS_OK);
        spill(folder_file(*state, "c/manifest.json"), texts[i], strlen(texts[i]));
        assert_int_equal(newest(dir, &notes), 4);
    }
}

/* ---- pruning ---- */

static int present(void **state, int64_t step) {
    return files_exists(step_file(*state, "c", step, ""));
}

static void test_pruning(void **state) {
    const char *dir = folder_file(*state, "c");
    Error err;
    Notes notes;
    for (int64_t step = 1; step <= 6; step++)
        assert_int_equal(save_best(dir, step, 2, step == 2, step > 2 ? 2 : -1, -1, &err), STATUS_OK);
    for (int64_t step = 1; step <= 6; step++)
        assert_int_equal(present(state, step), step == 2 || step >= 5);
    assert_int_equal(link_step(dir, "best.h5"), 2);
    assert_int_equal(link_step(dir, "last.h5"), 6);

    /* A restart from 5 (6 is the given-up future), keeping what it came from. */
    assert_int_equal(save_best(dir, 7, 2, 0, 2, 5, &err), STATUS_OK);
    assert_int_equal(save_best(dir, 8, 1, 0, 2, 5, &err), STATUS_OK);
    assert_int_equal(save_best(dir, 9, 0, 1, -1, 5, &err), STATUS_OK);
    for (int64_t step = 1; step <= 9; step++)
        assert_int_equal(present(state, step), step == 5 || step == 9);
    assert_int_equal(link_step(dir, "best.h5"), 9);
    char *manifest = slurp(folder_file(*state, "c/manifest.json"), NULL);
    assert_null(strstr(manifest, "step-00000008.h5"));
    assert_non_null(strstr(manifest, "step-00000009.h5"));
    char hex[65];
    assert_int_equal(sha256_of_file(step_file(*state, "c", 9, ""), hex, &err), STATUS_OK);
    assert_non_null(strstr(manifest, hex));
    free(manifest);

    /* Best is found again through the meta data when its link was lost. */
    unlink(folder_file(*state, "c/best.h5"));
    for (int64_t step = 10; step <= 12; step++)
        assert_int_equal(save_best(dir, step, 1, 0, 9, -1, &err), STATUS_OK);
    assert_true(present(state, 9) && present(state, 12));
    assert_false(present(state, 5) || present(state, 10) || present(state, 11));
    assert_int_equal(link_step(dir, "best.h5"), 9);

    /* Going back: later steps are set aside, and the newest is what was saved last. */
    assert_int_equal(save_best(dir, 10, 1, 0, 9, 9, &err), STATUS_OK);
    assert_true(files_exists(step_file(*state, "c", 12, ".superseded")));
    assert_int_equal(newest(dir, &notes), 10);
    assert_int_equal(notes.count, 0);
}

/* ---- faults ---- */

/* Steps 1 and 2 are there; step 3 (or step 2 anew, with other bytes) is saved under a fault at every call in turn. */
static void sweep(void **state, int64_t step, int code, int sticky) {
    int at = 1;
    for (; at < MAX_CALLS; at++) {
        char dir_name[32], text[32], output[2048];
        snprintf(dir_name, sizeof dir_name, "c%d", at);
        snprintf(text, sizeof text, "%lld", (long long)step);
        const char *dir = folder_file(*state, dir_name);
        Error err;
        Notes notes;
        assert_int_equal(save_best(dir, 1, 3, 1, -1, -1, &err), STATUS_OK);
        assert_int_equal(save_best(dir, 2, 3, 0, 1, -1, &err), STATUS_OK);
        Fault fault = {.path = dir, .at = at, .code = code, .sticky = sticky, .short_writes = 1};
        const char *const arguments[] = {"--save", dir, text, NULL};
        int result = run_self(arguments, &fault, output, sizeof output);
        if (code == 0)
            assert_true(result == STATUS_OK || result == 128 + SIGKILL);
        else
            assert_true(result == STATUS_OK || result == STATUS_IO || result == STATUS_CANNOT_CREATE);
        if (result != STATUS_OK && code != 0) {
            assert_non_null(strstr(output, dir));
            assert_non_null(strstr(output, strerror(code)));
        }
        int64_t got = newest(dir, &notes);
        assert_true(got == 2 || got == step);
        assert_int_equal(notes.count, 0);
        assert_true(load_is_right(step_file(*state, dir_name, 2, ""), &err) || step > 2);
        if (link_step(dir, "best.h5") == 1)
            assert_true(load_is_right(step_file(*state, dir_name, 1, ""), &err));
        /* The next save succeeds and cleans up. */
        assert_int_equal(save_best(dir, 4, 1, 0, got, -1, &err), STATUS_OK);
        assert_int_equal(newest(dir, &notes), 4);
        assert_false(files_exists(step_file(*state, dir_name, step, ".tmp")));
        assert_int_equal(link_step(dir, "last.h5"), 4);
        if (result == STATUS_OK)
            break;
    }
    assert_in_range(at, 15, MAX_CALLS - 1);
}

static void test_full_disk_at_every_call(void **state) {
    sweep(state, 3, ENOSPC, 1);
}
static void test_io_error_at_every_call(void **state) {
    sweep(state, 3, EIO, 0);
}
static void test_killed_at_every_call(void **state) {
    sweep(state, 3, 0, 0);
}
static void test_killed_while_saving_a_step_anew(void **state) {
    sweep(state, 2, 0, 0);
}

static void test_bad_arguments(void **state) {
    const char *dir = folder_file(*state, "c");
    CheckpointMeta meta;
    CheckpointTensor tensors[TENSORS];
    Error err;
    state_make(1, &meta, tensors);
    strcpy(tensors[1].name, tensors[0].name);
    assert_int_not_equal(checkpoint_save(dir, &meta, tensors, TENSORS, 1, 0, -1, &err), STATUS_OK);
    assert_non_null(strstr(err.message, tensors[0].name));
    strcpy(tensors[1].name, "/model/rooted");
    assert_int_equal(checkpoint_save(dir, &meta, tensors, TENSORS, 1, 0, -1, &err), STATUS_INTERNAL);
    assert_false(files_exists(dir));
    spill(folder_file(*state, "plain"), "x", 1);
    assert_int_equal(save(folder_file(*state, "plain/c"), 1, &err), STATUS_CANNOT_CREATE);
    state_free(tensors);
}

#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--save") == 0)
        return child_save(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_round_trip),
        FOLDER_TEST(test_equal_bytes),
        cmocka_unit_test(test_digest),
        FOLDER_TEST(test_flipped_bits),
        FOLDER_TEST(test_truncation),
        FOLDER_TEST(test_unsealed_garbage),
        FOLDER_TEST(test_foreign_structure),
        FOLDER_TEST(test_newest_valid),
        FOLDER_TEST(test_renamed_checkpoint),
        FOLDER_TEST(test_manifest_garbage),
        FOLDER_TEST(test_pruning),
        FOLDER_TEST(test_full_disk_at_every_call),
        FOLDER_TEST(test_io_error_at_every_call),
        FOLDER_TEST(test_killed_at_every_call),
        FOLDER_TEST(test_killed_while_saving_a_step_anew),
        FOLDER_TEST(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
