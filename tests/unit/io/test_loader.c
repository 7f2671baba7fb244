/* The loader against direct reads: contents, modes, rank shares, resume, pause, shutdown, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/import/import.h"
#include "io/loader/loader.h"
#include "kernels/base/share.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

enum { CLASSES = 5, SIDE = 16, PER_CLASS = 61, N = CLASSES * PER_CLASS, CHUNK = 16, BATCH = 37 };
enum { IMAGE = SIDE * SIDE * 3, MASK = SIDE * SIDE };

typedef struct Fixture {
    char dir[FOLDER_BYTES];
    Dataset dataset;
    uint8_t images[N * IMAGE], masks[N * MASK];
    int16_t boxes[N * 4];
    int64_t *ids, n;
} Fixture;

static void make_dataset(const char *dir) {
    Error err;
    const SyntheticOptions synthetic = {7, CLASSES, SIDE, PER_CLASS, 3, 0.5};
    const ImportOptions options = {.threads = 2, .shard_rows = 96, .chunk_rows = CHUNK};
    assert_int_equal(import_synthetic(dir, &synthetic, &options, &err), STATUS_OK);
}

static int setup(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    Error err;
    folder_make(f->dir);
    make_dataset(f->dir);
    assert_int_equal(dataset_open(&f->dataset, f->dir, 1, &err), STATUS_OK);
    assert_int_equal(f->dataset.count[SPLIT_TRAIN], N);
    for (int s = 0; s < f->dataset.shard_count[SPLIT_TRAIN]; s++) {
        const ShardInfo *info = &f->dataset.shards[SPLIT_TRAIN][s];
        assert_int_equal(dataset_read_rows(&f->dataset, SPLIT_TRAIN, s, 0, info->rows, f->images + info->first * IMAGE,
                                           f->boxes + info->first * 4, f->masks + info->first * MASK, &err),
                         STATUS_OK);
    }
    assert_int_equal(dataset_select_classes(&f->dataset, SPLIT_TRAIN, 0, &f->ids, &f->n, &err), STATUS_OK);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    Fixture *f = *state;
    free(f->ids);
    dataset_close(&f->dataset);
    folder_remove(f->dir);
    free(f);
    return 0;
}

static LoaderConfig config_of(const Fixture *f, LoaderMode mode, int64_t chunks) {
    return (LoaderConfig){.dataset = &f->dataset,
                          .split = SPLIT_TRAIN,
                          .layout = {f->ids, f->n, CHUNK, 3},
                          .mode = mode,
                          .seed = 5,
                          .shuffle = 1,
                          .batch = BATCH,
                          .rank = 0,
                          .size = 1,
                          .prefetch = 2,
                          .cache_bytes = chunks * CHUNK * (IMAGE + MASK + 8),
                          .want_masks = mode != LOADER_IDS};
}

static Loader *open_loader(const LoaderConfig *config, uint32_t epoch, int64_t first) {
    Error err = {0};
    Loader *loader;
    if (loader_open(&loader, config, &err) != STATUS_OK || loader_start_epoch(loader, epoch, first, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return loader;
}

static void check_batch(const Fixture *f, const LoaderConfig *config, const Batch *batch, const int64_t *order) {
    int64_t first, rows;
    share_of(batch->global_rows, config->rank, config->size, &first, &rows);
    assert_int_equal(batch->rows, rows);
    assert_int_equal(batch->first, first);
    assert_int_equal(batch->images == NULL, config->mode == LOADER_IDS);
    assert_int_equal(batch->index != NULL, config->mode == LOADER_IDS);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t id = order[batch->global_first + first + r];
        assert_int_equal(batch->ids[r], id);
        assert_int_equal(batch->labels[r], f->dataset.labels[SPLIT_TRAIN][id]);
        if (config->mode == LOADER_IDS) {
            assert_int_equal(config->layout.ids[batch->index[r]], id);
            continue;
        }
        assert_memory_equal(batch->images + r * IMAGE, f->images + id * IMAGE, IMAGE);
        assert_memory_equal(batch->masks + r * MASK, f->masks + id * MASK, MASK);
        assert_memory_equal(batch->boxes + r * 4, f->boxes + id * 4, 4 * sizeof(int16_t));
    }
}

/* Walks an epoch from `first`, checking every batch; returns the number of this rank's rows. */
static int64_t walk(const Fixture *f, const LoaderConfig *config, uint32_t epoch, int64_t first) {
    int64_t *order = malloc((size_t)config->layout.n * sizeof *order), rows = 0, number = first;
    Loader *loader = open_loader(config, epoch, first);
    order_fill(&config->layout, config->seed, epoch, config->shuffle, order);
    for (int done = 0;; number++) {
        Batch batch;
        Error err = {0};
        if (loader_next(loader, &batch, &done, &err) != STATUS_OK)
            fail_msg("%s", err.message);
        if (done)
            break;
        assert_int_equal(batch.global_first, number * config->batch);
        const int64_t left = config->layout.n - batch.global_first;
        assert_int_equal(batch.global_rows, left < config->batch ? left : config->batch);
        check_batch(f, config, &batch, order);
        rows += batch.rows;
        loader_release(loader, &batch);
    }
    assert_int_equal(number, loader_batches(loader));
    loader_close(loader);
    free(order);
    return rows;
}

static void test_contents_of_every_mode(void **state) {
    const Fixture *f = *state;
    for (int64_t chunks = 0; chunks < 40; chunks += 13) {
        LoaderConfig config = config_of(f, LOADER_STREAM, chunks);
        assert_int_equal(walk(f, &config, 1, 0), N);
    }
    LoaderConfig config = config_of(f, LOADER_IDS, 0);
    assert_int_equal(walk(f, &config, 1, 0), N);
    config = config_of(f, LOADER_MEMORY, 0);
    assert_int_equal(walk(f, &config, 1, 0), N);
    config.shuffle = 0;
    assert_int_equal(walk(f, &config, 2, 0), N);
}

static void test_ranks_share_every_batch(void **state) {
    const Fixture *f = *state;
    for (int size = 1; size <= 3; size++) {
        int64_t rows = 0;
        for (int rank = 0; rank < size; rank++) {
            LoaderConfig config = config_of(f, rank == 1 ? LOADER_MEMORY : rank == 2 ? LOADER_IDS : LOADER_STREAM, 4);
            config.rank = rank;
            config.size = size;
            rows += walk(f, &config, 3, 0);
        }
        assert_int_equal(rows, N);
    }
}

/* 305 = 101 * 3 + 2: in the tail batch the third of three ranks has nothing; with four ranks the fourth never has. */
static void test_ranks_without_rows(void **state) {
    const Fixture *f = *state;
    int64_t rows = 0;
    for (int rank = 0; rank < 4; rank++) {
        LoaderConfig config = config_of(f, LOADER_STREAM, 4);
        config.batch = 3;
        config.rank = rank;
        config.size = 4;
        const int64_t own = walk(f, &config, 1, 0);
        assert_true(rank < 3 || own == 0);
        rows += own;
    }
    assert_int_equal(rows, N);
}

static void test_class_subset(void **state) {
    Fixture *f = *state;
    Error err;
    int64_t *ids, n;
    assert_int_equal(dataset_select_classes(&f->dataset, SPLIT_TRAIN, 2, &ids, &n, &err), STATUS_OK);
    assert_int_equal(n, 2 * PER_CLASS);
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++) {
        LoaderConfig config = config_of(f, mode, 3);
        config.layout.ids = ids;
        config.layout.n = n;
        assert_int_equal(walk(f, &config, 1, 0), n);
    }
    free(ids);
}

static void test_resume_within_epoch(void **state) {
    const Fixture *f = *state;
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++) {
        LoaderConfig config = config_of(f, mode, 4);
        for (int64_t first = 0; first <= N / BATCH + 1; first += 4)
            assert_int_equal(walk(f, &config, 2, first), N - first * BATCH);
        assert_int_equal(walk(f, &config, 2, (N + BATCH - 1) / BATCH), 0);
    }
}

/* Epochs started over one another while batches are prefetched and held. */
static void test_restart(void **state) {
    const Fixture *f = *state;
    LoaderConfig config = config_of(f, LOADER_STREAM, 2);
    Loader *loader = open_loader(&config, 1, 0);
    int64_t order[N];
    Batch held, batch;
    int done;
    Error err;
    assert_int_equal(loader_next(loader, &held, &done, &err), STATUS_OK);
    for (uint32_t epoch = 2; epoch < 30; epoch++) {
        assert_int_equal(loader_start_epoch(loader, epoch, epoch % 5, &err), STATUS_OK);
        order_fill(&config.layout, config.seed, epoch, 1, order);
        for (uint32_t i = 0; i < epoch % 3; i++) {
            assert_int_equal(loader_next(loader, &batch, &done, &err), STATUS_OK);
            assert_int_equal(batch.global_first, (epoch % 5 + i) * BATCH);
            check_batch(f, &config, &batch, order);
            loader_release(loader, &batch);
        }
    }
    order_fill(&config.layout, config.seed, 1, 1, order);
    check_batch(f, &config, &held, order);
    loader_release(loader, &held);
    loader_close(loader);
}

static void test_misuse(void **state) {
    const Fixture *f = *state;
    LoaderConfig config = config_of(f, LOADER_STREAM, 2);
    Loader *loader;
    Batch batch[4];
    int done;
    Error err;
    assert_int_equal(loader_open(&loader, &config, &err), STATUS_OK);
    assert_int_equal(loader_next(loader, batch, &done, &err), STATUS_INTERNAL);
    assert_int_equal(loader_start_epoch(loader, 1, loader_batches(loader) + 1, &err), STATUS_DATA);
    assert_int_equal(loader_start_epoch(loader, 1, 0, &err), STATUS_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(loader_next(loader, &batch[i], &done, &err), STATUS_OK);
    assert_int_equal(loader_next(loader, &batch[3], &done, &err), STATUS_INTERNAL);
    loader_release(loader, &batch[0]);
    assert_int_equal(loader_next(loader, &batch[3], &done, &err), STATUS_OK);
    loader_close(loader);
    config.mode = LOADER_IDS; /* and want_masks */
    assert_int_equal(loader_open(&loader, &config, &err), STATUS_INTERNAL);
}

/* A batch that is ready comes at once; before the first epoch, after the last batch and when all are held there is
 * none.
 */
static void test_ready(void **state) {
    const Fixture *f = *state;
    for (LoaderMode mode = LOADER_STREAM; mode <= LOADER_IDS; mode++) {
        LoaderConfig config = config_of(f, mode, 2);
        Loader *loader;
        Batch batch[3];
        int done;
        Error err;
        assert_int_equal(loader_open(&loader, &config, &err), STATUS_OK);
        assert_int_equal(loader_ready(loader), 0);
        assert_int_equal(loader_start_epoch(loader, 1, 0, &err), STATUS_OK);
        for (int i = 0; i < 3; i++) {
            while (!loader_ready(loader))
                usleep(1000);
            assert_int_equal(loader_next(loader, &batch[i], &done, &err), STATUS_OK);
        }
        assert_int_equal(loader_ready(loader), 0);
        assert_int_equal(loader_start_epoch(loader, 1, loader_batches(loader), &err), STATUS_OK);
        assert_int_equal(loader_ready(loader), 0);
        loader_close(loader);
    }
}

/* Close at many moments of the first batches: waiting for slots, reading, computing the order. */
static void test_close_at_any_moment(void **state) {
    const Fixture *f = *state;
    for (int i = 0; i < 60; i++) {
        LoaderConfig config = config_of(f, (LoaderMode)(i % 3), 1);
        Loader *loader = open_loader(&config, 1, 0);
        if (i % 4 == 0)
            loader_pause(loader);
        usleep((useconds_t)(i * 37));
        loader_close(loader);
    }
    loader_close(NULL);
}

static void test_pause_gives_the_library_back(void **state) {
    Fixture *f = *state;
    Error err;
    static uint8_t images[N * IMAGE];
    LoaderConfig config = config_of(f, LOADER_STREAM, 1);
    Loader *loader = open_loader(&config, 1, 0);
    int64_t order[N];
    order_fill(&config.layout, config.seed, 1, 1, order);
    for (int done = 0;;) {
        Batch batch;
        assert_int_equal(loader_next(loader, &batch, &done, &err), STATUS_OK);
        if (done)
            break;
        loader_pause(loader);
        loader_pause(loader);
        assert_int_equal(dataset_read_rows(&f->dataset, SPLIT_TRAIN, 0, 0, 20, images, NULL, NULL, &err), STATUS_OK);
        loader_resume(loader);
        assert_int_equal(dataset_read_rows(&f->dataset, SPLIT_TRAIN, 1, 5, 20, images, NULL, NULL, &err), STATUS_OK);
        assert_memory_equal(images, f->images + (96 + 5) * IMAGE, 20 * IMAGE);
        loader_resume(loader);
        check_batch(f, &config, &batch, order);
        loader_release(loader, &batch);
    }
    loader_close(loader);
}

/* Two loaders at once on one dataset, as training and validation have. */
static void test_two_loaders(void **state) {
    const Fixture *f = *state;
    LoaderConfig config = config_of(f, LOADER_STREAM, 1);
    Loader *other = open_loader(&config, 9, 0);
    assert_int_equal(walk(f, &config, 1, 0), N);
    loader_close(other);
}

static void test_memory_bound(void **state) {
    const Fixture *f = *state;
    LoaderConfig config = config_of(f, LOADER_STREAM, 5);
    Loader *loader = open_loader(&config, 1, 0);
    const int64_t rows = 5 * CHUNK + 3 * BATCH;
    assert_int_equal(loader_memory_bytes(loader), rows * (IMAGE + MASK + 8) + 3 * BATCH * 12 + N * 8);
    loader_close(loader);
    config = config_of(f, LOADER_IDS, 5);
    loader = open_loader(&config, 1, 0);
    assert_int_equal(loader_memory_bytes(loader), 3 * BATCH * 16 + N * 8);
    LoaderCache cache;
    loader_cache(loader, &cache);
    assert_true(cache.cached_chunks >= cache.window_chunks);
    loader_close(loader);
}

static void test_cache_and_window(void **state) {
    const Fixture *f = *state;
    const int64_t all = (N + CHUNK - 1) / CHUNK; /* shards hold whole chunks but for the last one */
    static const struct {
        int64_t chunks;
        int window, shuffle;
        LoaderMode mode;
        int64_t cached, wanted; /* wanted -1: all */
    } cases[] = {
        {0, 3, 1, LOADER_STREAM, 1, 3},    {2, 3, 1, LOADER_STREAM, 2, 3},     {3, 3, 1, LOADER_STREAM, 3, 3},
        {2, 0, 1, LOADER_STREAM, 2, -1},   {2, 1000, 1, LOADER_STREAM, 2, -1}, {1000, 1000, 1, LOADER_STREAM, -1, -1},
        {1, 1000, 0, LOADER_STREAM, 1, 1}, {1, 1000, 1, LOADER_MEMORY, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LoaderConfig config = config_of(f, cases[i].mode, cases[i].chunks);
        LoaderCache cache;
        config.layout.window = cases[i].window;
        config.shuffle = cases[i].shuffle;
        Loader *loader = open_loader(&config, 1, 0);
        loader_cache(loader, &cache);
        assert_int_equal(cache.cached_chunks, cases[i].cached < 0 ? all : cases[i].cached);
        assert_int_equal(cache.window_chunks, cases[i].wanted < 0 ? all : cases[i].wanted);
        assert_int_equal(cache.chunk_bytes, CHUNK * (IMAGE + MASK + 8));
        loader_close(loader);
    }
}

static void test_damage_travels_with_its_batch(void **state) {
    (void)state;
    char dir[FOLDER_BYTES], path[PATH_BYTES];
    Error err = {0};
    Dataset dataset;
    folder_make(dir);
    make_dataset(dir);
    assert_int_equal(dataset_open(&dataset, dir, 0, &err), STATUS_OK);
    file_flip(folder_join(path, dir, "train-0001.h5"), 40000);
    int64_t *ids, n, seen = 0;
    assert_int_equal(dataset_select_classes(&dataset, SPLIT_TRAIN, 0, &ids, &n, &err), STATUS_OK);
    LoaderConfig config = {.dataset = &dataset,
                           .split = SPLIT_TRAIN,
                           .layout = {ids, n, CHUNK, 2},
                           .batch = CHUNK,
                           .size = 1,
                           .prefetch = 3,
                           .cache_bytes = 1};
    Loader *loader = open_loader(&config, 1, 0);
    Status status;
    for (int done = 0;;) {
        Batch batch;
        status = loader_next(loader, &batch, &done, &err);
        if (status != STATUS_OK || done)
            break;
        seen += batch.rows;
        loader_release(loader, &batch);
    }
    assert_int_equal(status, STATUS_DATA);
    assert_non_null(strstr(err.message, "train-0001.h5"));
    assert_non_null(strstr(err.message, "chunk"));
    assert_true(seen >= 96 && seen < 192);
    Batch batch;
    int done;
    assert_int_equal(loader_next(loader, &batch, &done, &err), STATUS_DATA);
    loader_close(loader);
    free(ids);
    dataset_close(&dataset);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents_of_every_mode),
        cmocka_unit_test(test_ranks_share_every_batch),
        cmocka_unit_test(test_ranks_without_rows),
        cmocka_unit_test(test_class_subset),
        cmocka_unit_test(test_resume_within_epoch),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_close_at_any_moment),
        cmocka_unit_test(test_pause_gives_the_library_back),
        cmocka_unit_test(test_two_loaders),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_cache_and_window),
        cmocka_unit_test(test_damage_travels_with_its_batch),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
