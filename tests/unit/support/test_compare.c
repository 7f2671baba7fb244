/* The comparator that other tests rely on: what it lets pass and what it does not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/numbers/compare.h"

static const Tolerance whole = {.name = "whole", .relative_l2 = 0.1, .element_factor = INFINITY, .reason = "a test"};
static const Tolerance open_nan = {
    .name = "open", .relative_l2 = 0.1, .element_factor = INFINITY, .reason = "a test", .nan_is_open = true};
static const Tolerance floored = {
    .name = "floored", .relative_l2 = 0.1, .element_factor = INFINITY, .reason = "a test", .least_norm = 1};

#define AGREES(tolerance, ...)                                                                                         \
    compare_within("test", sizeof((double[]){__VA_ARGS__}) / sizeof(double) / 2, (double[]){__VA_ARGS__},              \
                   (double[]){__VA_ARGS__} + sizeof((double[]){__VA_ARGS__}) / sizeof(double) / 2, tolerance)

/* The first half of the numbers is what came, the second what was wanted. */
static void test_distance(void **state) {
    (void)state;
    assert_true(AGREES(&whole, 3, 4, 3, 4));
    assert_true(AGREES(&whole, 3, 4.49, 3, 4));
    assert_false(AGREES(&whole, 3, 4.51, 3, 4));
    assert_true(AGREES(&whole, 0, 0, 0, 0));
    assert_false(AGREES(&whole, 0, 1e-300, 0, 0));
    assert_true(AGREES(&floored, 0.09, 0, 0, 0));
    assert_false(AGREES(&floored, 0.11, 0, 0, 0));
    assert_true(compare_within("nothing", 0, NULL, NULL, &whole));
}

static void test_not_finite(void **state) {
    (void)state;
    const Tolerance *all[] = {&whole, &floored, tolerance_of(TOLERANCE_EXACT), tolerance_of(TOLERANCE_BF16)};
    for (int i = 0; i < 4; i++) {
        assert_false(AGREES(all[i], 3, NAN, 3, 4));
        assert_false(AGREES(all[i], 3, 4, 3, NAN));
        assert_false(AGREES(all[i], NAN, 4, NAN, 4));
        assert_false(AGREES(all[i], 3, INFINITY, 3, INFINITY));
        assert_false(AGREES(all[i], 3, 4, 3, INFINITY));
    }
    assert_true(AGREES(&open_nan, 7, 4, NAN, 4));
    assert_false(AGREES(&open_nan, 7, NAN, NAN, 4));
    assert_true(AGREES(&open_nan, 7, NAN, NAN, NAN));
}

/* One element far off hides in the norm of many, but not from the limit of each. */
static void test_one_element(void **state) {
    (void)state;
    double got[10000], want[10000];
    for (int i = 0; i < 10000; i++)
        got[i] = want[i] = 1;
    got[1234] += 5e-4; /* 5e-6 of the norm, 50 times an f32's share of the element */
    assert_false(compare_vectors("one element", 10000, got, want, TOLERANCE_F32));
    got[1234] = 1 + 0.9e-4;
    assert_true(compare_vectors("one element", 10000, got, want, TOLERANCE_F32));
    assert_false(compare_vectors("one element", 10000, got, want, TOLERANCE_EXACT));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_one_element)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
