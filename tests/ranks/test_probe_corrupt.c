/* `excon probe corrupt` on 1, 2 and 3 ranks: the bytes that the library gives for all images at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/arrays/arrays.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/probe.h"
#include "trainer/evaluate/corruptions/corruptions.h"

enum { N = 7, SIDE = 32, IMAGE = 3 * SIDE * SIDE }; /* 7: uneven shares on 2 and 3 ranks */

static uint8_t images[N * IMAGE], want[sizeof images];
static int32_t ids[N] = {12, 5, 40, 0, 2147483647, 7, 5};

static void write_input(const char *path) {
    ArrayFile *file;
    Error err;
    const Array pixels = {.rank = 4, .shape = {N, SIDE, SIDE, 3}, .count = (int64_t)sizeof images, .u8 = images};
    const Array numbers = {.rank = 1, .shape = {N}, .count = N, .i32 = ids};
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)((i * i / 7 + 31 * (i % 3) + 50 * (i / IMAGE)) % 256);
    assert_int_equal(array_file_create(&file, path, &err), STATUS_OK);
    assert_int_equal(array_write(file, "images", &pixels, &err), STATUS_OK);
    assert_int_equal(array_write(file, "ids", &numbers, &err), STATUS_OK);
    assert_int_equal(array_file_publish(file, &err), STATUS_OK);
}

static void check_output(const char *path) {
    ArrayFile *file;
    Array out;
    Error err;
    assert_int_equal(array_file_open(&file, path, &err), STATUS_OK);
    assert_int_equal(array_read(file, "out", ARRAY_U8, 4, &out, &err), STATUS_OK);
    array_file_close(file);
    assert_int_equal(out.count, sizeof want);
    assert_int_equal(out.shape[0], N);
    assert_memory_equal(out.u8, want, sizeof want);
    array_free(&out);
}

static void test_ranks(void **state) {
    if (probe_missing()) {
        print_message("skipped: %s\n", probe_missing());
        skip();
    }
    static const char *const names[] = {"glass_blur", "spatter"};
    const char *in = folder_file(*state, "in.h5"), *out = folder_file(*state, "out.h5"),
               *log = folder_file(*state, "log"), *backend = getenv("EXCON_BACKEND");
    int64_t wide[N];
    Error err;
    write_input(in);
    for (int i = 0; i < N; i++)
        wide[i] = ids[i];
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        assert_int_equal(corrupt_images(corruption_find(names[k]), 4, SIDE, N, wide, images, want, &err), STATUS_OK);
        for (int ranks = 1; ranks <= 3; ranks++) {
            remove(out);
            const char *const list[] = {"probe",  "corrupt",    in,  out,         "--corruption",
                                        names[k], "--severity", "4", "--backend", backend ? backend : "cpu",
                                        NULL};
            assert_int_equal(probe_program(list, ranks, log), 0);
            check_output(out);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_ranks, folder_setup, folder_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
