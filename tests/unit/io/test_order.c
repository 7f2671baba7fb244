/* Sample order: a permutation, window by window, that depends on (seed, epoch, layout) alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/loader/order.h"
#include "kernels/base/share.h"

enum { N = 1000, BLOCK = 16 };

static void make_ids(int64_t *ids, int64_t step) {
    for (int64_t i = 0; i < N; i++)
        ids[i] = i * step + i % 3 % step;
}

static int compare_ids(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_permutation(void **state) {
    (void)state;
    static const int blocks[] = {0, 1, 7, 16, 5000}, windows[] = {0, 1, 3, 1000};
    int64_t ids[N], order[N];
    for (int64_t step = 1; step <= 5; step += 4)
        for (int b = 0; b < 5; b++)
            for (int w = 0; w < 4; w++) {
                make_ids(ids, step);
                OrderLayout layout = {ids, N, blocks[b], windows[w]};
                memset(order, -1, sizeof order);
                assert_int_equal(order_fill(&layout, 3, 1, 1, order), STATUS_OK);
                assert_memory_not_equal(order, ids, sizeof order);
                qsort(order, N, sizeof *order, compare_ids);
                assert_memory_equal(order, ids, sizeof order);
            }
}

static void test_unshuffled_and_empty(void **state) {
    (void)state;
    int64_t ids[N], order[N];
    make_ids(ids, 2);
    OrderLayout layout = {ids, N, BLOCK, 2};
    assert_int_equal(order_fill(&layout, 3, 1, 0, order), STATUS_OK);
    assert_memory_equal(order, ids, sizeof order);
    layout.n = 0;
    assert_int_equal(order_fill(&layout, 3, 1, 1, order), STATUS_OK);
}

static void test_pure_in_seed_and_epoch(void **state) {
    (void)state;
    int64_t ids[N], first[N], again[N], other[N];
    make_ids(ids, 1);
    OrderLayout layout = {ids, N, BLOCK, 4};
    order_fill(&layout, 3, 7, 1, first);
    order_fill(&layout, 4, 7, 1, other);
    assert_memory_not_equal(first, other, sizeof first);
    order_fill(&layout, 3, 8, 1, other);
    assert_memory_not_equal(first, other, sizeof first);
    order_fill(&layout, 3, 7, 1, again);
    assert_memory_equal(first, again, sizeof first);
}

/* Every stretch of window * BLOCK positions touches exactly `window` blocks. */
static void test_window_locality(void **state) {
    (void)state;
    enum { WINDOW = 5, BLOCKS = 60 };
    static int64_t ids[BLOCKS * BLOCK], order[BLOCKS * BLOCK];
    for (int64_t i = 0; i < BLOCKS * BLOCK; i++)
        ids[i] = i;
    OrderLayout layout = {ids, BLOCKS * BLOCK, BLOCK, WINDOW};
    order_fill(&layout, 11, 1, 1, order);
    int in_block_order = 0;
    for (int w = 0; w < BLOCKS / WINDOW; w++) {
        char seen[BLOCKS] = {0};
        int distinct = 0;
        for (int i = w * WINDOW * BLOCK; i < (w + 1) * WINDOW * BLOCK; i++) {
            distinct += !seen[order[i] / BLOCK];
            seen[order[i] / BLOCK] = 1;
            in_block_order += i > 0 && order[i] == order[i - 1] + 1;
        }
        assert_int_equal(distinct, WINDOW);
    }
    assert_true(in_block_order < BLOCKS * BLOCK / 10);
}

/* Each item lands on each place about equally often: chi-square over 8 x 8 cells, 49 degrees of freedom; 100 is beyond
 * the 1e-5 quantile. */
static void test_uniform(void **state) {
    (void)state;
    enum { ITEMS = 8, ROUNDS = 8000 };
    int64_t ids[ITEMS], order[ITEMS];
    double count[ITEMS][ITEMS] = {{0}}, chi = 0;
    for (int i = 0; i < ITEMS; i++)
        ids[i] = i;
    OrderLayout layout = {ids, ITEMS, 1, 0};
    for (uint32_t e = 1; e <= ROUNDS; e++) {
        order_fill(&layout, 5, e, 1, order);
        for (int i = 0; i < ITEMS; i++)
            count[i][order[i]]++;
    }
    const double expected = (double)ROUNDS / ITEMS;
    for (int i = 0; i < ITEMS * ITEMS; i++) {
        const double difference = count[i / ITEMS][i % ITEMS] - expected;
        chi += difference * difference / expected;
    }
    /* Blocks and windows are shuffled one after the other, which keeps it uniform. */
    assert_true(chi < 100);
}

static void test_share(void **state) {
    (void)state;
    for (int64_t total = 0; total < 40; total++)
        for (int size = 1; size < 9; size++) {
            int64_t next = 0, largest = 0, smallest = total;
            for (int rank = 0; rank < size; rank++) {
                int64_t first, count;
                share_of(total, rank, size, &first, &count);
                assert_int_equal(first, next);
                assert_true(rank == 0 || count <= smallest);
                next += count;
                largest = count > largest ? count : largest;
                smallest = count < smallest ? count : smallest;
            }
            assert_int_equal(next, total);
            assert_true(largest - smallest <= 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_unshuffled_and_empty),
        cmocka_unit_test(test_pure_in_seed_and_epoch),
        cmocka_unit_test(test_window_locality),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
