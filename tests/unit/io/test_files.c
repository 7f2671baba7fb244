/* Atomic files, the run lock and SHA-256. Faults come from build/tests/faults/fail_io.so: the program starts itself
 * again with the shim preloaded (`--write PATH TEXT` is that child). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/files/files.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/faults.h"

enum { TEXT_BYTES = 5000, MAX_CALLS = 40 };

static void fill(char text[TEXT_BYTES], char first) {
    for (int i = 0; i < TEXT_BYTES; i++)
        text[i] = (char)(first + i % 23);
}

static int holds(const char *path, char first) {
    char want[TEXT_BYTES];
    size_t size;
    char *got = file_read(path, &size);
    fill(want, first);
    int same = size == TEXT_BYTES && memcmp(got, want, TEXT_BYTES) == 0;
    free(got);
    return same;
}

static int child_write(const char *path, const char *first) {
    char text[TEXT_BYTES];
    Error err;
    fill(text, first[0]);
    Status status = files_write_atomic(path, text, sizeof text, 1, &err);
    if (status != STATUS_OK)
        printf("%s\n", err.message);
    return (int)status;
}

/* ---- atomic writes ---- */

static void test_write_and_read(void **state) {
    const char *path = folder_file(*state, "file");
    char *data;
    size_t size;
    Error err;
    assert_int_equal(files_write_atomic(path, "one\0two", 7, 1, &err), STATUS_OK);
    assert_int_equal(files_read(path, 7, &data, &size, &err), STATUS_OK);
    assert_int_equal(size, 7);
    assert_memory_equal(data, "one\0two", 8);
    free(data);
    assert_int_equal(files_read(path, 6, &data, &size, &err), STATUS_DATA);
    assert_null(data);
    assert_int_equal(files_write_atomic(path, "", 0, 1, &err), STATUS_OK);
    assert_int_equal(files_read(path, 0, &data, &size, &err), STATUS_OK);
    assert_int_equal(size, 0);
    assert_string_equal(data, "");
    free(data);
    assert_int_equal(files_read(folder_file(*state, "absent"), 9, &data, &size, &err), STATUS_NO_INPUT);
    assert_non_null(strstr(err.message, "absent"));
    assert_int_equal(files_read(((Folder *)*state)->path, 9, &data, &size, &err), STATUS_DATA);
    assert_true(files_exists(path));
    assert_false(files_exists(folder_file(*state, "absent")));
}

/* A link planted at the temporary's name must not be written through. */
static void test_temporary_is_not_followed(void **state) {
    const char *victim = folder_file(*state, "victim"), *path = folder_file(*state, "file");
    Error err;
    file_write(victim, "precious", 8);
    assert_int_equal(symlink(victim, folder_file(*state, "file.tmp")), 0);
    assert_int_equal(files_write_atomic(path, "new", 3, 0, &err), STATUS_OK);
    char *text = file_read(victim, NULL);
    assert_string_equal(text, "precious");
    free(text);
}

static void test_refused_places(void **state) {
    Error err;
    assert_int_equal(files_write_atomic(folder_file(*state, "no/file"), "x", 1, 0, &err), STATUS_CANNOT_CREATE);
    assert_non_null(strstr(err.message, "no/file"));
    file_write(folder_file(*state, "plain"), "x", 1);
    assert_int_equal(files_make_dirs(folder_file(*state, "plain/below"), &err), STATUS_CANNOT_CREATE);
    assert_non_null(strstr(err.message, "plain"));
    assert_int_equal(files_make_dirs("", &err), STATUS_CANNOT_CREATE);
    assert_int_equal(files_make_dirs(folder_file(*state, "a//b/c/"), &err), STATUS_OK);
    assert_int_equal(files_make_dirs(folder_file(*state, "a/b/c"), &err), STATUS_OK);
    assert_true(files_exists(folder_file(*state, "a/b/c")));
}

/* Every call of an atomic write fails in turn: the file is the old one, or the new one, whole; no temporary stays. */
static void test_every_call_fails(void **state) {
    const char *path = folder_file(*state, "file"), *temporary = folder_file(*state, "file.tmp");
    static const int codes[] = {ENOSPC, EIO, EROFS};
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        int failures = 0, at = 1;
        for (; at < MAX_CALLS; at++) {
            char output[512];
            file_write(path, "old", 3);
            Fault fault = {
                .path = ((Folder *)*state)->path, .calls = "create,write,fsync,rename", .at = at, .code = codes[c]};
            const char *const arguments[] = {"--write", path, "n", NULL};
            int result = run_self(arguments, &fault, output, sizeof output);
            if (result == STATUS_OK)
                break;
            failures++;
            assert_int_equal(result, codes[c] == EROFS ? STATUS_CANNOT_CREATE : STATUS_IO);
            assert_non_null(strstr(output, ((Folder *)*state)->path));
            assert_non_null(strstr(output, strerror(codes[c])));
            assert_false(files_exists(temporary));
            char *text = file_read(path, NULL);
            assert_true(strcmp(text, "old") == 0 || holds(path, 'n'));
            free(text);
        }
        assert_in_range(failures, 5, MAX_CALLS); /* create, write, fsync, rename, fsync of the folder */
        assert_true(holds(path, 'n'));
    }
}

static void test_killed_at_every_call(void **state) {
    const char *path = folder_file(*state, "file");
    int kills = 0;
    for (int at = 1; at < MAX_CALLS; at++) {
        file_write(path, "old", 3);
        Fault fault = {.path = ((Folder *)*state)->path, .at = at};
        const char *const arguments[] = {"--write", path, "n", NULL};
        int result = run_self(arguments, &fault, NULL, 0);
        if (result == STATUS_OK)
            break;
        kills++;
        assert_int_equal(result, 128 + SIGKILL);
        char *text = file_read(path, NULL);
        assert_true(strcmp(text, "old") == 0 || holds(path, 'n'));
        free(text);
    }
    assert_in_range(kills, 5, MAX_CALLS);
    assert_true(holds(path, 'n'));
    assert_false(files_exists(folder_file(*state, "file.tmp")));
}

static void test_short_writes(void **state) {
    const char *path = folder_file(*state, "file");
    Fault fault = {.path = ((Folder *)*state)->path, .short_writes = 1};
    const char *const arguments[] = {"--write", path, "s", NULL};
    assert_int_equal(run_self(arguments, &fault, NULL, 0), STATUS_OK);
    assert_true(holds(path, 's'));
    /* The third of five short writes fails: what was there stays. */
    fault.calls = "write";
    fault.at = 3;
    fault.code = ENOSPC;
    const char *const again[] = {"--write", path, "t", NULL};
    assert_int_equal(run_self(again, &fault, NULL, 0), STATUS_IO);
    assert_true(holds(path, 's'));
}

/* A disk that stores other bytes than it was given is found by reading back, before the old file is replaced. */
static void test_read_back(void **state) {
    const char *path = folder_file(*state, "file");
    char output[512];
    file_write(path, "old", 3);
    Fault fault = {.path = ((Folder *)*state)->path, .corrupt = 1};
    const char *const arguments[] = {"--write", path, "n", NULL};
    assert_int_equal(run_self(arguments, &fault, output, sizeof output), STATUS_IO);
    assert_non_null(strstr(output, "reads back"));
    char *text = file_read(path, NULL);
    assert_string_equal(text, "old");
    free(text);
    assert_false(files_exists(folder_file(*state, "file.tmp")));
}

static void test_links(void **state) {
    const char *link_path = folder_file(*state, "link");
    Error err;
    char target[64] = {0};
    file_write(folder_file(*state, "one"), "1", 1);
    assert_int_equal(files_link_atomic("one", link_path, &err), STATUS_OK);
    assert_int_equal(files_link_atomic("two", link_path, &err), STATUS_OK);
    assert_int_equal(readlink(link_path, target, sizeof target - 1), 3);
    assert_string_equal(target, "two");
    assert_false(files_exists(link_path));
}

/* ---- SHA-256 ---- */

static void test_sha256(void **state) {
    char hex[65];
    Error err;
    sha256_of("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_of("abc", 3, hex); /* FIPS 180-2, B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char block[1000];
    memset(block, 'a', sizeof block);
    Sha256 *hash = sha256_new();
    for (int i = 0; i < 1000; i++)
        sha256_add(hash, block, sizeof block);
    sha256_end(hash, hex); /* FIPS 180-2, B.3: a million times 'a' */
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    const char *path = folder_file(*state, "abc");
    file_write(path, "abc", 3);
    assert_int_equal(sha256_of_file(path, hex, &err), STATUS_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(sha256_of_file(folder_file(*state, "absent"), hex, &err), STATUS_NO_INPUT);
    assert_string_equal(hex, "");
}

/* ---- lock ---- */

static void test_lock_names_holder(void **state) {
    const char *path = folder_file(*state, "lock");
    int fd, second, ready[2];
    Error err;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test leaves no child behind */
        char taken = files_lock(path, &fd, NULL) == STATUS_OK ? 'y' : 'n';
        if (write(ready[1], &taken, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char taken = 0, pid[32], host[128] = {0};
    assert_int_equal(read(ready[0], &taken, 1), 1);
    assert_int_equal(taken, 'y');
    assert_int_equal(files_lock(path, &second, &err), STATUS_CANNOT_CREATE);
    assert_int_equal(second, -1);
    snprintf(pid, sizeof pid, "process %d on", (int)child);
    gethostname(host, sizeof host - 1);
    assert_non_null(strstr(err.message, pid));
    assert_non_null(strstr(err.message, host));
    assert_non_null(strstr(err.message, "since 2"));

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(files_exists(path)); /* stale: the holder had no time to remove it */
    assert_int_equal(files_lock(path, &fd, &err), STATUS_OK);
    assert_int_equal(files_lock(path, &second, &err), STATUS_CANNOT_CREATE);
    files_unlock(path, fd);
    assert_false(files_exists(path));
    assert_int_equal(files_lock(path, &fd, &err), STATUS_OK);
    files_unlock(path, fd);
    files_unlock(path, -1);
    close(ready[0]);
    close(ready[1]);
}

static void test_lock_text_of_strangers(void **state) {
    const char *path = folder_file(*state, "lock");
    static const char *const texts[] = {"", "garbage", "host 1", "\xff\xfe\0x", "elsewhere 1 2 3 4\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd;
        Error err;
        file_write(path, texts[i], strlen(texts[i]));
        assert_int_equal(files_lock(path, &fd, &err), STATUS_OK);
        files_unlock(path, fd);
    }
    int fd;
    Error err;
    assert_int_equal(files_lock(folder_file(*state, "no/lock"), &fd, &err), STATUS_CANNOT_CREATE);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(files_lock(path, &fd, &err), STATUS_CANNOT_CREATE);
    assert_false(files_exists(folder_file(*state, "elsewhere")));
}

#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--write") == 0)
        return child_write(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_write_and_read),
        FOLDER_TEST(test_temporary_is_not_followed),
        FOLDER_TEST(test_refused_places),
        FOLDER_TEST(test_every_call_fails),
        FOLDER_TEST(test_killed_at_every_call),
        FOLDER_TEST(test_short_writes),
        FOLDER_TEST(test_read_back),
        FOLDER_TEST(test_links),
        FOLDER_TEST(test_sha256),
        FOLDER_TEST(test_lock_names_holder),
        FOLDER_TEST(test_lock_text_of_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
