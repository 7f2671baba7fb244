/* excon bench ops, on a device that does what a GPU may: copies from the host happen at the next wait, not before.
 * Which product is the reference, and that every source outlives its copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/ops.h"
#include "trainer/bench/bench.h"

enum { SIDE = 192, PENDING = 64 }; /* of the reference product; no convolution of the bench has so many channels */

static struct Late {
    const Ops *cpu;
    struct {
        void *dst;
        const void *src;
        size_t bytes;
    } copies[PENDING];
    int pending, most_pending;
    int references, plain_references, others, plain_others; /* plans made */
} late;

static void copy_in_late(Device *device, void *dst, const void *src, size_t bytes) {
    (void)device;
    assert_true(late.pending < PENDING);
    late.copies[late.pending].dst = dst;
    late.copies[late.pending].src = src;
    late.copies[late.pending++].bytes = bytes;
    late.most_pending = late.pending > late.most_pending ? late.pending : late.most_pending;
}

static void sync_late(Device *device) {
    for (int i = 0; i < late.pending; i++)
        memcpy(late.copies[i].dst, late.copies[i].src, late.copies[i].bytes);
    late.pending = 0;
    late.cpu->stream->sync(device);
}

static Status conv_create_seen(Device *device, const ConvGeometry *g, DType type, ConvPlan **out, Error *err) {
    if (g->C == SIDE && g->K == SIDE) {
        late.references++;
        late.plain_references += device->plain_conv;
    } else {
        late.others++;
        late.plain_others += device->plain_conv;
    }
    return late.cpu->conv->create(device, g, type, out, err);
}

static void test_references_and_copies(void **state) {
    (void)state;
    const BenchOptions options = {
        .batch = 1, .size = 8, .width = 4, .rows = 16, .dim = 8, .gemm = SIDE, .steps = 1, .json = 1};
    BenchContext b = {.options = &options};
    Error err;
    assert_int_equal(device_open_cpu(&b.runtime.device, 1, 0, &err), STATUS_OK);
    b.runtime.comm.size = 1;
    b.runtime.dtype = DTYPE_F32;
    late.cpu = b.runtime.device.ops;
    Ops ops = *late.cpu;
    MemoryOps memory = *ops.memory;
    StreamOps stream = *ops.stream;
    ConvOps conv = *ops.conv;
    memory.copy_in = copy_in_late;
    stream.sync = sync_late;
    conv.create = conv_create_seen;
    ops.memory = &memory;
    ops.stream = &stream;
    ops.conv = &conv;
    b.runtime.device.ops = &ops;
    json_init(&b.json);
    json_begin_object(&b.json, NULL);
    assert_int_equal(bench_ops(&b, &err), STATUS_OK);
    json_end_object(&b.json);

    assert_int_equal(late.pending, 0);
    assert_int_equal(late.most_pending, 1); /* each waited for by whoever frees its source */
    assert_int_equal(late.references, 1);
    assert_int_equal(late.plain_references, 1); /* the product itself, not a convolution library's 1x1 kernel */
    assert_true(late.others > 4);
    assert_int_equal(late.plain_others, 0);
    assert_non_null(strstr(b.json.text, "\"gemm_side\":192"));

    b.runtime.device.ops = late.cpu;
    json_free(&b.json);
    device_close(&b.runtime.device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_references_and_copies)};
    return cmocka_run_group_tests_name("bench_ops", tests, NULL, NULL);
}
