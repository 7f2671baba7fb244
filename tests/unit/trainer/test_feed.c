/* From shards to the device: uploads that overlap work, images resident on the device, and the feed on either, against
 * direct reads. Nothing here waits for the device where a training run would not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/import/import.h"
#include "kernels/base/share.h"
#include "kernels/ops.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/numbers/device_fixture.h"
#include "trainer/data/feed.h"

enum {
    CLASSES = 3,
    SIDE = 16,
    PER_CLASS = 41,
    N = CLASSES * PER_CLASS,
    CHUNK = 16,
    BATCH = 19,
    IMAGE = SIDE * SIDE * 3
};

typedef struct Fixture {
    Device *device;
    char dir[FOLDER_BYTES];
    Dataset dataset;
    uint8_t images[N * IMAGE]; /* of the train split, by id */
    int64_t ids[N], n;         /* a selection with gaps */
} Fixture;

static int setup(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    Error err;
    const SyntheticOptions synthetic = {7, CLASSES, SIDE, PER_CLASS, 3, 0.5};
    const ImportOptions options = {.threads = 2, .shard_rows = 48, .chunk_rows = CHUNK};
    if (!f || open_test_device((void **)&f->device) != 0)
        return -1;
    folder_make(f->dir);
    assert_int_equal(import_synthetic(f->dir, &synthetic, &options, &err), STATUS_OK);
    assert_int_equal(dataset_open(&f->dataset, f->dir, 1, &err), STATUS_OK);
    assert_int_equal(f->dataset.count[SPLIT_TRAIN], N);
    for (int s = 0; s < f->dataset.shard_count[SPLIT_TRAIN]; s++) {
        const ShardInfo *info = &f->dataset.shards[SPLIT_TRAIN][s];
        assert_int_equal(dataset_read_rows(&f->dataset, SPLIT_TRAIN, s, 0, info->rows, f->images + info->first * IMAGE,
                                           NULL, NULL, &err),
                         STATUS_OK);
    }
    for (int64_t id = 0; id < N; id++)
        if (id % 5 != 3)
            f->ids[f->n++] = id;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    Fixture *f = *state;
    dataset_close(&f->dataset);
    folder_remove(f->dir);
    const int left = close_test_device((void **)&f->device);
    free(f);
    return left;
}

static void *device_block(Device *d, size_t bytes) {
    void *p;
    Error err;
    assert_int_equal(d->ops->memory->alloc(d, bytes, &p, &err), STATUS_OK);
    return p;
}

/* ---- uploads ----------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 30, BYTES = 4096, HALF = 1000 };

static uint8_t pattern(int round, int64_t i) {
    return (uint8_t)(i * 7 + round * 31 + 1);
}

static void fill(uint8_t *host, int round) {
    for (int64_t i = 0; i < BYTES; i++)
        host[i] = pattern(round, i);
}

/* Round r goes through slot r % slots and is used (copied into its place) `ahead` rounds after it was sent. eager: the
 * host waits for every copy and spoils its source at once, so that copies run as early as they may; else when the slot
 * comes up again. */
static void run_rounds(Device *d, int slots, int ahead, int eager) {
    uint8_t *host[DEVICE_UPLOADS], *staged[DEVICE_UPLOADS], *used = device_block(d, ROUNDS * BYTES);
    static uint8_t result[ROUNDS * BYTES];
    Error err;
    for (int s = 0; s < slots; s++) {
        assert_int_equal(d->ops->memory->host_alloc(d, BYTES, (void **)&host[s], &err), STATUS_OK);
        staged[s] = device_block(d, BYTES);
        d->ops->upload->release(d, s);
    }
    for (int r = 0; r < ROUNDS + ahead; r++) {
        const int s = r % slots, u = r - ahead;
        if (r < ROUNDS) {
            d->ops->upload->finish(d, s);
            fill(host[s], r);
            d->ops->upload->start(d, s, staged[s], host[s], HALF);
            d->ops->upload->start(d, s, staged[s] + HALF, host[s] + HALF, BYTES - HALF);
            if (eager) {
                d->ops->upload->finish(d, s);
                memset(host[s], 0xEE, BYTES);
            }
        }
        if (u >= 0) {
            d->ops->upload->wait(d, u % slots);
            d->ops->memory->copy(d, used + u * BYTES, staged[u % slots], BYTES);
            d->ops->upload->release(d, u % slots);
        }
    }
    d->ops->memory->copy_out(d, result, used, ROUNDS * BYTES);
    for (int r = 0; r < ROUNDS; r++)
        for (int64_t i = 0; i < BYTES; i++)
            if (result[r * BYTES + i] != pattern(r, i))
                fail_msg("%d slots, %d ahead, eager %d: round %d, byte %lld is %d", slots, ahead, eager, r,
                         (long long)i, result[r * BYTES + i]);
    for (int s = 0; s < slots; s++) {
        d->ops->memory->host_release(d, host[s], BYTES);
        d->ops->memory->release(d, staged[s], BYTES);
    }
    d->ops->memory->release(d, used, ROUNDS * BYTES);
}

static void test_uploads(void **state) {
    const Fixture *f = *state;
    for (int slots = 1; slots <= DEVICE_UPLOADS; slots++)
        for (int ahead = 0; ahead < slots; ahead++)
            for (int eager = 0; eager < 2; eager++)
                run_rounds(f->device, slots, ahead, eager);
}

/* Nothing to copy, slots never used, and memory given back while a copy is under way. */
static void test_upload_edges(void **state) {
    const Fixture *f = *state;
    Device *d = f->device;
    uint8_t *host, *staged = device_block(d, BYTES);
    Error err;
    assert_int_equal(d->ops->memory->host_alloc(d, BYTES, (void **)&host, &err), STATUS_OK);
    d->ops->upload->start(d, 0, staged, host, 0);
    for (int s = 0; s < DEVICE_UPLOADS; s++) {
        d->ops->upload->wait(d, s);
        d->ops->upload->finish(d, s);
    }
    d->ops->upload->start(d, 1, staged, host, BYTES);
    d->ops->memory->host_release(d, host, BYTES);
    assert_int_equal(d->ops->memory->host_alloc(d, BYTES, (void **)&host, &err), STATUS_OK);
    d->ops->upload->start(d, 1, staged, host, BYTES);
    d->ops->memory->release(d, staged, BYTES);
    d->ops->memory->host_release(d, host, BYTES);
}

/* ---- resident images --------------------------------------------------------------------------------------------- */

static void open_resident(const Fixture *f, Resident *resident) {
    Error err = {0};
    if (resident_open(resident, f->device, &f->dataset, SPLIT_TRAIN, f->ids, f->n, &err) != STATUS_OK ||
        resident_fill(resident, NULL, NULL, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

static void check_progress(void *ctx, int64_t images, int64_t n) {
    int64_t *last = ctx;
    assert_true(images > *last && images <= n);
    *last = images;
}

static void test_resident(void **state) {
    const Fixture *f = *state;
    Device *d = f->device;
    const size_t before = d->bytes_now;
    uint8_t images[IMAGE];
    Resident resident;
    Error err;
    int64_t seen = 0;
    assert_int_equal(resident_open(&resident, d, &f->dataset, SPLIT_TRAIN, f->ids, f->n, &err), STATUS_OK);
    assert_int_equal(d->bytes_now - before, f->n * IMAGE);
    assert_int_equal(resident_fill(&resident, check_progress, &seen, &err), STATUS_OK);
    assert_int_equal(seen, f->n);
    for (int64_t i = 0; i < f->n; i++) {
        d->ops->memory->copy_out(d, images, resident.images + i * IMAGE, IMAGE);
        assert_memory_equal(images, f->images + f->ids[i] * IMAGE, IMAGE);
    }
    resident_free(&resident);
    resident_free(&resident);
    assert_int_equal(d->bytes_now, before);
}

static void test_resident_too_large(void **state) {
    const Fixture *f = *state;
    Dataset huge = f->dataset;
    Resident resident;
    Error err = {0};
    huge.height = huge.width = 1 << 20;
    assert_int_equal(resident_open(&resident, f->device, &huge, SPLIT_TRAIN, f->ids, f->n, &err), STATUS_SYSTEM);
    assert_non_null(strstr(err.message, "out of memory"));
    resident_free(&resident);
    assert_int_equal(
        resident_open(&resident, f->device, &f->dataset, SPLIT_TRAIN, f->ids, (int64_t)INT32_MAX + 1, &err),
        STATUS_SYSTEM);
    resident_free(&resident);
}

static void test_resident_from_damaged_shard(void **state) {
    const Fixture *f = *state;
    char dir[FOLDER_BYTES], path[PATH_BYTES];
    const SyntheticOptions synthetic = {7, CLASSES, SIDE, PER_CLASS, 3, 0.5};
    const ImportOptions options = {.threads = 2, .shard_rows = 48, .chunk_rows = CHUNK};
    Dataset dataset;
    Resident resident;
    Error err = {0};
    folder_make(dir);
    assert_int_equal(import_synthetic(dir, &synthetic, &options, &err), STATUS_OK);
    assert_int_equal(dataset_open(&dataset, dir, 0, &err), STATUS_OK);
    file_flip(folder_join(path, dir, "train-0001.h5"), 20000);
    assert_int_equal(resident_open(&resident, f->device, &dataset, SPLIT_TRAIN, f->ids, f->n, &err), STATUS_OK);
    assert_int_equal(resident_fill(&resident, NULL, NULL, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "train-0001.h5"));
    resident_free(&resident);
    dataset_close(&dataset);
    folder_remove(dir);
}

/* ---- feed -------------------------------------------------------------------------------------------------------- */

/* A feed with its loader, and what it fed: copies on the device, in the order of the steps. */
typedef struct Run {
    const Fixture *fixture;
    LoaderConfig config;
    Loader *loader;
    Resident resident;
    Feed feed;
    uint8_t *images; /* device [n,H,W,3] */
    int64_t *ids;    /* device [n] */
    int64_t rows;    /* fed since run_start */
} Run;

static void run_open(Run *run, const Fixture *f, LoaderMode mode, int rank, int size) {
    static const float mean[3] = {0.5f, 0.5f, 0.5f}, std[3] = {0.25f, 0.25f, 0.25f};
    Error err = {0};
    *run = (Run){.fixture = f,
                 .config = {.dataset = &f->dataset,
                            .split = SPLIT_TRAIN,
                            .layout = {f->ids, f->n, CHUNK, 3},
                            .mode = mode,
                            .seed = 5,
                            .shuffle = 1,
                            .batch = BATCH,
                            .rank = rank,
                            .size = size,
                            .prefetch = 2,
                            .cache_bytes = 2 * CHUNK * IMAGE,
                            .device = f->device}};
    if (mode == LOADER_IDS)
        open_resident(f, &run->resident);
    if (loader_open(&run->loader, &run->config, &err) != STATUS_OK ||
        feed_init(&run->feed, f->device, mode == LOADER_IDS ? &run->resident : NULL, (BATCH + size - 1) / size, SIDE,
                  mean, std, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    run->images = device_block(f->device, (size_t)f->n * IMAGE);
    run->ids = device_block(f->device, (size_t)f->n * sizeof *run->ids);
}

static void run_close(Run *run) {
    Device *d = run->fixture->device;
    feed_drop(&run->feed, run->loader);
    loader_close(run->loader);
    feed_free(&run->feed);
    resident_free(&run->resident);
    d->ops->memory->release(d, run->images, (size_t)run->fixture->n * IMAGE);
    d->ops->memory->release(d, run->ids, (size_t)run->fixture->n * sizeof *run->ids);
}

static void run_start(Run *run, uint32_t epoch, int64_t first) {
    Error err = {0};
    feed_drop(&run->feed, run->loader);
    if (loader_start_epoch(run->loader, epoch, first, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    run->rows = 0;
}

/* One step; 0 at the end of the epoch. prefetch: 0 no; 1 when the loader is ready; 2 waits for the loader first, so
 * that the batch is prefetched for certain, and then for the device; 3 for the loader and for that batch's copy, which
 * so runs as early as it may. */
static int run_step(Run *run, int prefetch) {
    Device *d = run->fixture->device;
    Batch batch;
    Error err = {0};
    int done;
    if (feed_next(&run->feed, run->loader, &batch, &done, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    if (done)
        return 0;
    feed_load(&run->feed, &batch);
    d->ops->memory->copy(d, run->images + run->rows * IMAGE, run->feed.images, (size_t)batch.rows * IMAGE);
    d->ops->memory->copy(d, run->ids + run->rows, run->feed.ids, (size_t)batch.rows * sizeof *run->ids);
    const int last = batch.global_first + batch.global_rows == run->config.layout.n;
    while (prefetch >= 2 && !last && !loader_ready(run->loader))
        ;
    if (prefetch)
        feed_prefetch(&run->feed, run->loader);
    assert_true(prefetch < 2 || run->feed.has_ahead == !last);
    if (prefetch == 2)
        d->ops->stream->sync(d);
    if (prefetch == 3 && !last)
        d->ops->upload->finish(d, run->feed.filling);
    for (int64_t r = 0; r < batch.rows; r++)
        assert_int_equal(batch.labels[r], run->fixture->dataset.labels[SPLIT_TRAIN][batch.ids[r]]);
    run->rows += batch.rows;
    feed_done(&run->feed, run->loader, &batch);
    return 1;
}

/* What was fed since run_start must be this rank's rows of the epoch's order from global batch `first` on. */
static void check_fed(const Run *run, uint32_t epoch, int64_t first) {
    const Fixture *f = run->fixture;
    static uint8_t images[N * IMAGE];
    int64_t ids[N], order[N], seen = 0;
    f->device->ops->memory->copy_out(f->device, images, run->images, (size_t)run->rows * IMAGE);
    f->device->ops->memory->copy_out(f->device, ids, run->ids, (size_t)run->rows * sizeof *ids);
    order_fill(&run->config.layout, run->config.seed, epoch, 1, order);
    for (int64_t at = first * BATCH; seen < run->rows; at += BATCH) {
        int64_t own, rows;
        share_of(f->n - at < BATCH ? f->n - at : BATCH, run->config.rank, run->config.size, &own, &rows);
        for (int64_t r = 0; r < rows; r++, seen++) {
            const int64_t id = order[at + own + r];
            assert_int_equal(ids[seen], id);
            assert_memory_equal(images + seen * IMAGE, f->images + id * IMAGE, IMAGE);
        }
    }
    assert_int_equal(seen, run->rows);
}

static void test_feed_in_every_mode(void **state) {
    const Fixture *f = *state;
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++)
        for (int size = 1; size <= 3; size += 2) {
            Run run;
            int64_t all = 0;
            for (int rank = 0; rank < size; rank++) {
                run_open(&run, f, mode, rank, size);
                for (uint32_t epoch = 1; epoch <= 4; epoch++) {
                    run_start(&run, epoch, epoch % 2);
                    while (run_step(&run, (int)epoch - 1))
                        ;
                    check_fed(&run, epoch, epoch % 2);
                }
                all += run.rows;
                run_close(&run);
            }
            assert_int_equal(all, f->n);
        }
}

/* An epoch is left with a batch on its way, at another place of which, or of another one, the next begins: a rollback.
 */
static void test_feed_rolls_back(void **state) {
    const Fixture *f = *state;
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++) {
        Run run;
        run_open(&run, f, mode, 0, 1);
        for (int turn = 0; turn < 12; turn++) {
            const int64_t first = turn * 5 % 4;
            run_start(&run, 1 + (uint32_t)turn / 3, first);
            for (int step = 0; step < turn % 4; step++)
                assert_true(run_step(&run, 1 + turn % 3));
            check_fed(&run, 1 + (uint32_t)turn / 3, first);
        }
        run_start(&run, 9, 0);
        assert_true(run_step(&run, 2));
        assert_true(run.feed.has_ahead);
        run_close(&run); /* with a batch on its way */
    }
}

/* Two feeds on one device share the upload slots: the trainer's, and the evaluator's between two passes. */
static void test_two_feeds(void **state) {
    const Fixture *f = *state;
    Run train, evaluate;
    run_open(&train, f, LOADER_IDS, 0, 1);
    run_open(&evaluate, f, LOADER_STREAM, 0, 1);
    run_start(&train, 1, 0);
    run_start(&evaluate, 2, 0);
    for (int i = 0; run_step(&train, 2); i++)
        if (i % 3 > 0)
            assert_true(run_step(&evaluate, 2));
    check_fed(&train, 1, 0);
    check_fed(&evaluate, 2, 0);
    run_close(&evaluate);
    run_close(&train);
}

static void test_feed_bytes(void **state) {
    const Fixture *f = *state;
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++) {
        const size_t before = f->device->bytes_now;
        Run run;
        run_open(&run, f, mode, 0, 1);
        const size_t here = f->device->bytes_now - before - (size_t)f->n * (IMAGE + sizeof(int64_t));
        assert_int_equal(here, feed_bytes(&run.feed) + run.resident.bytes);
        assert_int_equal(feed_bytes(&run.feed),
                         mode == LOADER_IDS ? BATCH * (IMAGE + 2 * 12) : BATCH * 2 * (IMAGE + 8));
        run_close(&run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uploads),
        cmocka_unit_test(test_upload_edges),
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_resident_too_large),
        cmocka_unit_test(test_resident_from_damaged_shard),
        cmocka_unit_test(test_feed_in_every_mode),
        cmocka_unit_test(test_feed_rolls_back),
        cmocka_unit_test(test_two_feeds),
        cmocka_unit_test(test_feed_bytes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
