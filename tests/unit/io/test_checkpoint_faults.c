/* Checkpoints under crashes and failing calls at every point of a save. The program starts itself again with the fault
 * shim preloaded (`--save DIR STEP` is that child). */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/files/files.h"
#include "tests/support/files/sample_checkpoint.h"
#include "tests/support/programs/faults.h"

enum { MAX_CALLS = 200 };

static int child_save(const char *dir, const char *step) {
    Error err;
    Status status = sample_save_best(dir, atoll(step), 2, 1, -1, -1, &err);
    if (status != STATUS_OK)
        printf("%s\n", err.message);
    fflush(stdout);
    _exit((int)status);
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
        assert_int_equal(sample_save_best(dir, 1, 3, 1, -1, -1, &err), STATUS_OK);
        assert_int_equal(sample_save_best(dir, 2, 3, 0, 1, -1, &err), STATUS_OK);
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
        int64_t got = sample_newest(dir, &notes);
        assert_true(got == 2 || got == step);
        assert_int_equal(notes.count, 0);
        assert_true(sample_loads(sample_file(*state, dir_name, 2, ""), &err) || step > 2);
        if (sample_link(dir, "best.h5") == 1)
            assert_true(sample_loads(sample_file(*state, dir_name, 1, ""), &err));
        /* The next save succeeds and cleans up. */
        assert_int_equal(sample_save_best(dir, 4, 1, 0, got, -1, &err), STATUS_OK);
        assert_int_equal(sample_newest(dir, &notes), 4);
        assert_false(files_exists(sample_file(*state, dir_name, step, ".tmp")));
        assert_int_equal(sample_link(dir, "last.h5"), 4);
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

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--save") == 0)
        return child_save(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_full_disk_at_every_call),
        FOLDER_TEST(test_io_error_at_every_call),
        FOLDER_TEST(test_killed_at_every_call),
        FOLDER_TEST(test_killed_while_saving_a_step_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
