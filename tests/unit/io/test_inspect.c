/* excon inspect and excon digest on checkpoints, shards and what is neither. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "io/checkpoint/checkpoint.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "trainer/cli/commands/commands.h"

typedef Status (*Command)(int argc, char **argv, Error *err);

/* Runs a subcommand with standard output in a file; caller frees *output. */
static Status run_with(Folder *folder, Command command, const char *file, const char *option, char **output,
                       Error *err) {
    char *argv[] = {(char[]){"command"}, strdup(file), option ? strdup(option) : NULL, NULL};
    const char *path = folder_file(folder, "stdout");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(kept >= 0 && out >= 0);
    dup2(out, STDOUT_FILENO);
    Status status = command(option ? 3 : 2, argv, err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(out);
    close(kept);
    free(argv[1]);
    free(argv[2]);
    *output = file_read(path, NULL);
    return status;
}

static Status run(Folder *folder, Command command, const char *file, int json, char **output, Error *err) {
    return run_with(folder, command, file, json ? "--json" : NULL, output, err);
}

static const char *make_checkpoint(Folder *folder, CheckpointFile *state, CheckpointTensor *tensor) {
    static float values[6] = {1, 2, 3, 4, 5, 6};
    Error err;
    *tensor = (CheckpointTensor){.name = "model/fc.weight", .rank = 2, .shape = {2, 3}, .data = values};
    *state = (CheckpointFile){.meta = {.step = 12, .epoch = 2, .best = -1, .best_step = -1, .method = "excon"},
                              .tensors = tensor,
                              .count = 1};
    assert_int_equal(checkpoint_save(folder_file(folder, "c"), state, 1, 0, -1, &err), STATUS_OK);
    return folder_file(folder, "c/last.h5");
}

static void test_checkpoint_text_and_json(void **state) {
    CheckpointFile file;
    CheckpointTensor tensor;
    Error err;
    char hex[65], *text;
    const char *path = make_checkpoint(*state, &file, &tensor);
    assert_int_equal(checkpoint_digest(&file, hex, &err), STATUS_OK);

    assert_int_equal(run(*state, command_digest, path, 0, &text, &err), STATUS_OK);
    assert_int_equal(strlen(text), 65);
    assert_memory_equal(text, hex, 64);
    free(text);

    assert_int_equal(run(*state, command_inspect, path, 0, &text, &err), STATUS_OK);
    assert_non_null(strstr(text, "model/fc.weight"));
    assert_non_null(strstr(text, "2x3"));
    assert_non_null(strstr(text, "1 2 3 4 5 6"));
    assert_non_null(strstr(text, "\"excon\""));
    assert_non_null(strstr(text, hex));
    free(text);

    assert_int_equal(run(*state, command_inspect, path, 1, &text, &err), STATUS_OK);
    assert_non_null(strstr(text,
                           "{\"path\":\"model/fc.weight\",\"kind\":\"dataset\",\"type\":\"float32\",\"shape\":[2,3],"
                           "\"stored_bytes\":24,\"filters\":0,\"values\":[1,2,3,4,5,6]}"));
    assert_non_null(strstr(text, "\"kind\":\"checkpoint\",\"bytes\":24,\"digest\":\""));
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
}

static void test_damage_and_absence(void **state) {
    CheckpointFile file;
    CheckpointTensor tensor;
    Error err;
    char *text;
    size_t size;
    const char *path = make_checkpoint(*state, &file, &tensor);
    char *bytes = file_read(path, &size);
    bytes[size - 128 - 5] ^= 4;
    file_write(path, bytes, size);
    free(bytes);
    const Command both[] = {command_digest, command_inspect};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(*state, both[i], path, 0, &text, &err), STATUS_DATA);
        assert_non_null(strstr(err.message, path));
        free(text);
        assert_int_equal(run(*state, both[i], folder_file(*state, "absent"), 0, &text, &err), STATUS_NO_INPUT);
        free(text);
        file_write(folder_file(*state, "text"), "plain text", 10);
        assert_int_equal(run(*state, both[i], folder_file(*state, "text"), 0, &text, &err), STATUS_DATA);
        free(text);
    }
}

static void test_shard(void **state) {
    const char *path = folder_file(*state, "train-0000.h5");
    Error err;
    char *text;
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 4, (hsize_t[]){2, 8, 8, 3});
    H5Pset_fletcher32(creation);
    hid_t space = H5Screate_simple(4, (hsize_t[]){4, 8, 8, 3}, NULL);
    hid_t data = H5Dcreate2(file, "images", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Lcreate_external("/etc/hostname", "/x", file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    assert_true(data >= 0);
    H5Dclose(data);
    H5Sclose(space);
    H5Pclose(creation);
    H5Fclose(file);
    assert_int_equal(run(*state, command_inspect, path, 1, &text, &err), STATUS_OK);
    assert_non_null(strstr(text, "\"type\":\"uint8\",\"shape\":[4,8,8,3]"));
    assert_non_null(strstr(text, "{\"path\":\"elsewhere\",\"kind\":\"link\"}"));
    assert_non_null(strstr(text, "\"kind\":\"shard\""));
    free(text);
}

static void put_strings(hid_t file, const char *name, H5T_cset_t set, hsize_t n, size_t length, const char *bytes,
                        int attribute) {
    hid_t type = H5Tcopy(H5T_C_S1), space = n ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
    H5Tset_size(type, length);
    H5Tset_cset(type, set);
    hid_t object = attribute ? H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT)
                             : H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(object >= 0);
    if (attribute) {
        H5Awrite(object, type, bytes);
        H5Aclose(object);
    } else {
        H5Dwrite(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes);
        H5Dclose(object);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void test_strings(void **state) {
    const char *path = folder_file(*state, "words.h5");
    static char many[400][8], text[] = "ten thousand";
    Error err;
    char *output;
    for (int i = 0; i < 400; i++)
        snprintf(many[i], sizeof many[i], "w%05d", i);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_strings(file, "utf8", H5T_CSET_UTF8, 0, 8, "gr\xc3\xbcn\0\0", 1);
    put_strings(file, "ascii", H5T_CSET_ASCII, 0, sizeof text, text, 1);
    put_strings(file, "names", H5T_CSET_UTF8, 2, 8, "cat\0\0\0\0\0dog\0\0\0\0", 0);
    put_strings(file, "many", H5T_CSET_ASCII, 400, 8, many[0], 0);
    H5Fclose(file);
    assert_int_equal(run(*state, command_inspect, path, 0, &output, &err), STATUS_OK);
    assert_non_null(strstr(output, "  \"gr\xc3\xbcn\"\n"));
    assert_non_null(strstr(output, "  \"ten thousand\"\n"));
    assert_non_null(strstr(output, "  \"cat\" \"dog\"\n"));
    assert_non_null(strstr(output, "  \"w00000\" \"w00001\""));
    assert_non_null(strstr(output, "\"w00145\" and 254 more\n")); /* 146 of 7 bytes fit into TREE_TEXTS_BYTES */
    free(output);
    assert_int_equal(run(*state, command_inspect, path, 1, &output, &err), STATUS_OK);
    assert_non_null(strstr(output, "\"value\":\"ten thousand\""));
    assert_non_null(strstr(output, "\"values\":[\"cat\",\"dog\"]}"));
    free(output);
}

/* A line per file, and what is wrong with the rest. */
static void test_summaries_and_folders(void **state) {
    CheckpointFile file;
    CheckpointTensor tensor;
    Error err;
    char *text;
    const char *path = make_checkpoint(*state, &file, &tensor), *folder = folder_file(*state, "c");
    static const char line[] = "c/last.h5: checkpoint, epoch 1, step 12, excon,  width 0\n";
    assert_int_equal(run_with(*state, command_inspect, path, "--summary", &text, &err), STATUS_OK);
    assert_non_null(strstr(text, line));
    free(text);
    assert_int_equal(run(*state, command_inspect, folder, 0, &text, &err), STATUS_OK);
    assert_non_null(
        strstr(text, "/c:\nlast.h5 is step-00000012.h5\nstep-00000012.h5: checkpoint, epoch 1, step 12, excon"));
    free(text);
    assert_int_equal(run(*state, command_inspect, folder, 1, &text, &err), STATUS_OK);
    assert_non_null(strstr(text, "/c/step-00000012.h5\",\"kind\":\"checkpoint\",\"epoch\":1,\"step\":12,"));
    free(text);
    file_write(folder_file(*state, "c/broken.h5"), "plain text", 10);
    assert_int_equal(run(*state, command_inspect, folder, 0, &text, &err), STATUS_DATA);
    assert_non_null(strstr(text, "\nstep-00000012.h5: checkpoint"));
    free(text);
    assert_int_equal(run(*state, command_inspect, "/dev", 0, &text, &err), STATUS_NO_INPUT);
    free(text);
}

#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_checkpoint_text_and_json),
        FOLDER_TEST(test_damage_and_absence),
        FOLDER_TEST(test_shard),
        FOLDER_TEST(test_strings),
        FOLDER_TEST(test_summaries_and_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
