/* Importers: contents against what was drawn, interruption and repair, and every fault of a source named. */
#include <fcntl.h>
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

#include "io/dataset/dataset.h"
#include "io/files/files.h"
#include "io/import/import.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"
#include "tests/support/files/layout.h"

typedef struct Fixture {
    char src[FOLDER_BYTES], dst[FOLDER_BYTES], path[PATH_BYTES];
    Error err;
} Fixture;

typedef struct Pictures {
    Dataset dataset;
    uint8_t *images, *masks;
    int16_t *boxes;
} Pictures;

static int setup(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    folder_make(f->src);
    folder_make(f->dst);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    Fixture *f = *state;
    folder_remove(f->src);
    folder_remove(f->dst);
    free(f);
    return 0;
}

static Pictures load_split(const char *dir, Split split) {
    Pictures p = {0};
    Error err = {0};
    if (dataset_open(&p.dataset, dir, 1, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    const size_t n = (size_t)p.dataset.count[split], pixels = (size_t)p.dataset.height * (size_t)p.dataset.width;
    p.images = malloc(n * pixels * 3);
    p.masks = malloc(n * pixels);
    p.boxes = malloc(n * 4 * sizeof *p.boxes);
    for (int s = 0; s < p.dataset.shard_count[split]; s++) {
        const ShardInfo *info = &p.dataset.shards[split][s];
        const size_t first = (size_t)info->first;
        if (dataset_read_rows(&p.dataset, split, s, 0, info->rows, p.images + first * pixels * 3, p.boxes + first * 4,
                              p.masks + first * pixels, &err) != STATUS_OK)
            fail_msg("%s", err.message);
    }
    return p;
}

static void pictures_free(Pictures *p) {
    free(p->images);
    free(p->masks);
    free(p->boxes);
    dataset_close(&p->dataset);
}

/* ---- Tiny ImageNet ---- */

static const ImportOptions small_shards = {.threads = 2, .shard_rows = 16, .chunk_rows = 8};

static Status import_tiny(Fixture *f) {
    return importer_tiny_imagenet.run(f->src, f->dst, &small_shards, &f->err);
}

/* Which source image row `row` is: the colours and boxes of one class are all different. */
static void check_tiny_split(const char *dir, Split split, int per_class) {
    Pictures p = load_split(dir, split);
    char seen[LAYOUT_CLASSES][LAYOUT_TRAIN] = {{0}};
    int in_source_order = 0;
    assert_int_equal(p.dataset.count[split], LAYOUT_CLASSES * per_class);
    for (int64_t row = 0; row < p.dataset.count[split]; row++) {
        const int label = p.dataset.labels[split][row], index = p.boxes[row * 4 + 1];
        const uint8_t *image = p.images + row * LAYOUT_SIDE * LAYOUT_SIDE * 3;
        uint8_t rgb[3];
        assert_in_range(label, 0, LAYOUT_CLASSES - 1);
        assert_in_range(index, 0, per_class - 1);
        tiny_colour(label, index, split == SPLIT_VAL, rgb);
        for (int i = 0; i < LAYOUT_SIDE * LAYOUT_SIDE * 3; i++) /* one colour at quality 95: 3 levels of error */
            assert_in_range(image[i] + 3 - rgb[i % 3], 0, 6);
        assert_int_equal(p.boxes[row * 4], split == SPLIT_VAL ? 1 : label);
        assert_int_equal(p.boxes[row * 4 + 2], split == SPLIT_VAL ? 20 : label + 10);
        seen[label][index]++;
        in_source_order += row > 0 && label == p.dataset.labels[split][row - 1];
    }
    for (int i = 0; i < LAYOUT_CLASSES * per_class; i++)
        assert_int_equal(seen[i / per_class][i % per_class], 1);
    assert_true(in_source_order < LAYOUT_CLASSES * per_class * 2 / 3);
    pictures_free(&p);
}

static void test_tiny(void **state) {
    Fixture *f = *state;
    tiny_layout_write(f->src);
    assert_int_equal(import_tiny(f), STATUS_OK);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
    check_tiny_split(f->dst, SPLIT_VAL, LAYOUT_VAL);
    Dataset dataset;
    assert_int_equal(dataset_open(&dataset, f->dst, 1, &f->err), STATUS_OK);
    assert_string_equal(dataset.class_names[0], "n00000001 one");
    assert_string_equal(dataset.class_names[1], "n00000020 twenty, score");
    assert_string_equal(dataset.class_names[2], "n00000300");
    assert_true(dataset.mean[0] == 0.4802f && dataset.std[2] == 0.2262f);
    dataset_close(&dataset);
}

static void test_tiny_first_classes(void **state) {
    Fixture *f = *state;
    ImportOptions options = {.classes = 2};
    tiny_layout_write(f->src);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    Dataset dataset;
    assert_int_equal(dataset_open(&dataset, f->dst, 1, &f->err), STATUS_OK);
    assert_int_equal(dataset.classes, 2);
    assert_int_equal(dataset.count[SPLIT_TRAIN], 2 * LAYOUT_TRAIN);
    assert_int_equal(dataset.count[SPLIT_VAL], 2 * LAYOUT_VAL);
    dataset_close(&dataset);
    options.classes = 4;
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_USAGE);
}

typedef enum Fault { FAULT_REMOVE, FAULT_HALF, FAULT_TEXT, FAULT_SMALL } Fault;

static void test_tiny_faults(void **state) {
    Fixture *f = *state;
    const struct {
        const char *file;
        Fault fault;
        const char *text;
        Status status;
    } cases[] = {
        {"wnids.txt", FAULT_REMOVE, NULL, STATUS_NO_INPUT},
        {"wnids.txt", FAULT_TEXT, "n00000001\nn00000001\n", STATUS_DATA},
        {"wnids.txt", FAULT_TEXT, "../../etc\n", STATUS_DATA},
        {"wnids.txt", FAULT_TEXT, "", STATUS_DATA},
        {"val/val_annotations.txt", FAULT_REMOVE, NULL, STATUS_NO_INPUT},
        {"val/val_annotations.txt", FAULT_TEXT, "val_0.JPEG\tn1\t0\t0\t1\t1\n", STATUS_DATA},
        {"val/val_annotations.txt", FAULT_TEXT, "val_0.JPEG\tn00000001\t0\t0\t1\n", STATUS_DATA},
        {"train/n00000020/n00000020_boxes.txt", FAULT_REMOVE, NULL, STATUS_NO_INPUT},
        {"train/n00000020/n00000020_boxes.txt", FAULT_TEXT, "n00000020_0.JPEG 5 5 x 9\n", STATUS_DATA},
        {"train/n00000020/n00000020_boxes.txt", FAULT_TEXT, "n00000020_0.JPEG 5 5 4 9\n", STATUS_DATA},
        {"train/n00000020/n00000020_boxes.txt", FAULT_TEXT, "../n00000020_0.JPEG 5 5 6 9\n", STATUS_DATA},
        {"train/n00000020/images/n00000020_7.JPEG", FAULT_REMOVE, NULL, STATUS_NO_INPUT},
        {"train/n00000020/images/n00000020_7.JPEG", FAULT_HALF, NULL, STATUS_DATA},
        {"train/n00000020/images/n00000020_7.JPEG", FAULT_TEXT, "", STATUS_DATA},
        {"train/n00000020/images/n00000020_7.JPEG", FAULT_TEXT, "GIF89a is not a JPEG", STATUS_DATA},
        {"train/n00000020/images/n00000020_7.JPEG", FAULT_SMALL, NULL, STATUS_DATA},
        {"val/images/val_5.JPEG", FAULT_HALF, NULL, STATUS_DATA},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        static const uint8_t grey[3] = {9, 9, 9};
        tiny_layout_write(f->src);
        folder_join(f->path, f->src, cases[c].file);
        if (cases[c].fault == FAULT_REMOVE)
            unlink(f->path);
        else if (cases[c].fault == FAULT_HALF)
            file_truncate(f->path, file_size(f->path) / 2);
        else if (cases[c].fault == FAULT_TEXT)
            file_write(f->path, cases[c].text, strlen(cases[c].text));
        else
            jpeg_write(f->path, LAYOUT_SIDE / 2, 0, grey);
        const Status status = import_tiny(f);
        if (status != cases[c].status || !strstr(f->err.message, cases[c].file))
            fail_msg("case %zu: status %d, message '%s'", c, status, f->err.message);
        assert_true(access(folder_join(f->path, f->dst, "index.h5"), F_OK) != 0);
    }
    tiny_layout_write(f->src); /* mended: the import goes on where it stopped */
    assert_int_equal(import_tiny(f), STATUS_OK);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

/* ---- lists and folders as they come ---- */

typedef enum Harm { HARM_CUT, HARM_EMPTY, HARM_CR, HARM_DOUBLED, HARM_UTF16, HARM_CRLF } Harm;

static void harm_list(const char *path, Harm harm) {
    char *text, out[8192];
    size_t size, n = 0;
    assert_int_equal(files_read(path, 4000, &text, &size, NULL), STATUS_OK);
    if (harm == HARM_CUT) {
        for (n = size - 1; n > 0 && text[n - 1] != '\n';)
            n--;
        memcpy(out, text, n);
    } else if (harm == HARM_DOUBLED) {
        memcpy(out, text, size);
        memcpy(out + size, text, size);
        n = 2 * size;
    } else if (harm == HARM_CRLF) {
        n = (size_t)sprintf(out, "\xef\xbb\xbf"); /* and a byte-order mark */
    } else if (harm == HARM_UTF16) {
        n = (size_t)sprintf(out, "\xff\xfe");
    }
    for (size_t i = 0; i < size && (harm == HARM_CR || harm == HARM_UTF16 || harm == HARM_CRLF); i++) {
        if (text[i] == '\n' && harm != HARM_UTF16)
            out[n++] = '\r';
        if (text[i] != '\n' || harm != HARM_CR)
            out[n++] = text[i];
        if (harm == HARM_UTF16)
            out[n++] = 0;
    }
    file_write(path, out, n);
    free(text);
}

static void test_tiny_harmed_lists(void **state) {
    Fixture *f = *state;
    static const char *const lists[] = {"val/val_annotations.txt", "train/n00000300/n00000300_boxes.txt", "wnids.txt"};
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (Harm harm = HARM_CUT; harm < HARM_CRLF; harm++) {
            tiny_layout_write(f->src);
            harm_list(folder_join(f->path, f->src, lists[l]), harm);
            const Status status = import_tiny(f);
            if (status != STATUS_DATA || !strstr(f->err.message, lists[l]))
                fail_msg("%s, harm %d: status %d, message '%s'", lists[l], (int)harm, status, f->err.message);
            assert_true(access(folder_join(f->path, f->dst, "index.h5"), F_OK) != 0);
        }
}

static void test_tiny_windows_lists(void **state) {
    Fixture *f = *state;
    static const char *const lists[] = {"val/val_annotations.txt", "train/n00000001/n00000001_boxes.txt",
                                        "train/n00000020/n00000020_boxes.txt", "wnids.txt", "words.txt"};
    tiny_layout_write(f->src);
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        harm_list(folder_join(f->path, f->src, lists[l]), HARM_CRLF);
    if (import_tiny(f) != STATUS_OK)
        fail_msg("%s", f->err.message);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
    check_tiny_split(f->dst, SPLIT_VAL, LAYOUT_VAL);
    Dataset dataset;
    assert_int_equal(dataset_open(&dataset, f->dst, 1, &f->err), STATUS_OK);
    assert_string_equal(dataset.class_names[1], "n00000020 twenty, score");
    dataset_close(&dataset);
}

static void test_tiny_droppings(void **state) {
    Fixture *f = *state;
    static const char *const files[] = {"train/n00000001/images/._n00000001_0.JPEG",
                                        "train/n00000001/images/.DS_Store",
                                        "train/n00000020/images/Thumbs.db",
                                        "train/n00000020/images/desktop.ini",
                                        "train/n00000300/images/thumbs.DB",
                                        "val/images/._val_0.JPEG",
                                        "val/images/.hidden.jpg",
                                        "val/images/README"};
    static const char *const folders[] = {"train/__MACOSX", "train/.git", "train/@eaDir"};
    tiny_layout_write(f->src);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        file_write(folder_join(f->path, f->src, files[i]), "\0\5\26\7", 4);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(folder_join(f->path, f->src, folders[i]), 0755), 0);
    if (import_tiny(f) != STATUS_OK)
        fail_msg("%s", f->err.message);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
    check_tiny_split(f->dst, SPLIT_VAL, LAYOUT_VAL);
}

static void test_tiny_unlisted_image(void **state) {
    Fixture *f = *state;
    static const char *const files[] = {"train/n00000020/images/extra.JPEG",
                                        "train/n00000020/images/n00000020_1 (1).jpg", "val/images/extra.JPEG",
                                        "val/images/val_1 copy.PNG"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        tiny_layout_write(f->src);
        file_write(folder_join(f->path, f->src, files[i]), "x", 1);
        assert_int_equal(import_tiny(f), STATUS_DATA);
        if (!strstr(f->err.message, strrchr(files[i], '/') + 1) || !strstr(f->err.message, "1 image "))
            fail_msg("%s", f->err.message);
        unlink(f->path);
    }
    assert_int_equal(mkdir(folder_join(f->path, f->src, "train/n00000400"), 0755), 0);
    assert_int_equal(import_tiny(f), STATUS_DATA);
    assert_non_null(strstr(f->err.message, "n00000400"));
}

/* ---- pictures replaced under the same names ---- */

/* Another picture of the same name; size and time of change stay as they were, as after some copies. */
static void replace_picture(Fixture *f, const char *name) {
    static const uint8_t other[3] = {250, 5, 250};
    struct stat before;
    folder_join(f->path, f->src, name);
    assert_int_equal(stat(f->path, &before), 0);
    jpeg_write(f->path, LAYOUT_SIDE, 0, other);
    const int64_t missing = before.st_size - file_size(f->path);
    if (missing > 0) { /* what follows the end of the picture is not read */
        FILE *file = fopen(f->path, "ab");
        for (int64_t i = 0; i < missing; i++)
            fputc(0, file);
        fclose(file);
    }
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
}

static void test_tiny_replaced_pictures(void **state) {
    Fixture *f = *state;
    int64_t made = -1;
    ImportOptions options = small_shards;
    char shard[PATH_BYTES], before[65], after[65];
    options.made = &made;
    tiny_layout_write(f->src);
    assert_int_equal(import_tiny(f), STATUS_OK);
    sha256_of_file(folder_join(shard, f->dst, "train-0000.h5"), before, NULL);
    tiny_layout_write(f->src); /* the same bytes at another time, as a copy has them */
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    assert_int_equal(made, 0);
    static const char *const names[] = {"train/n00000020/images/n00000020_9.JPEG", "val/images/val_5.JPEG"};
    for (int i = 0; i < 2; i++) {
        tiny_layout_write(f->src);
        replace_picture(f, names[i]);
        if (importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err) != STATUS_CANNOT_CREATE ||
            !strstr(f->err.message, "other pictures"))
            fail_msg("%s: %s", names[i], f->err.message);
    }
    sha256_of_file(shard, after, NULL);
    assert_string_equal(before, after); /* refused: nothing is touched */
    tiny_layout_write(f->src);
    assert_int_equal(import_tiny(f), STATUS_OK);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

/* A shard that an interrupted import finished is made again when one of its pictures changed meanwhile. */
static void test_tiny_replaced_before_resuming(void **state) {
    Fixture *f = *state;
    int64_t made = -1;
    ImportOptions options = small_shards;
    char hidden[PATH_BYTES];
    options.made = &made;
    tiny_layout_write(f->src);
    replace_picture(f, "train/n00000020/images/n00000020_9.JPEG");
    folder_join(hidden, f->src, "hidden");
    folder_join(f->path, f->src, "val/images/val_3.JPEG");
    assert_int_equal(rename(f->path, hidden), 0);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_NO_INPUT);
    assert_int_equal(made, LAYOUT_CLASSES * LAYOUT_TRAIN);
    tiny_layout_write(f->src);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    assert_in_range(made, LAYOUT_CLASSES * LAYOUT_VAL + 12, LAYOUT_CLASSES * LAYOUT_VAL + 16); /* one shard of train */
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

/* ---- two importers ---- */

static void test_second_importer_is_refused(void **state) {
    Fixture *f = *state;
    char who[32];
    int lock;
    tiny_layout_write(f->src);
    assert_int_equal(files_lock(folder_join(f->path, f->dst, "import.lock"), &lock, &f->err), STATUS_OK);
    assert_int_equal(import_tiny(f), STATUS_CANNOT_CREATE);
    snprintf(who, sizeof who, "process %ld ", (long)getpid());
    assert_non_null(strstr(f->err.message, who));
    assert_non_null(strstr(f->err.message, f->path));
    files_unlock(f->path, lock);
    assert_int_equal(import_tiny(f), STATUS_OK);
    assert_true(access(f->path, F_OK) != 0);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

/* ---- interruption ---- */

static void test_interrupted_import_resumes(void **state) {
    Fixture *f = *state;
    int64_t made = -1;
    ImportOptions options = small_shards;
    options.made = &made;
    tiny_layout_write(f->src);
    /* The fourth shard of train cannot be finished: the source's last images are unreadable for now. */
    char hidden[PATH_BYTES];
    folder_join(f->path, f->src, "val/images");
    assert_int_equal(rename(f->path, folder_join(hidden, f->src, "val/hidden")), 0);
    assert_int_equal(mkdir(f->path, 0755), 0);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_NO_INPUT);
    assert_int_equal(made, LAYOUT_CLASSES * LAYOUT_TRAIN);
    assert_int_equal(rename(hidden, f->path), 0);
    /* What a kill leaves: a temporary, and a finished shard whose bytes changed since. */
    file_write(folder_join(f->path, f->dst, "val-0000.h5.tmp"), "half a shard", 12);
    file_flip(folder_join(f->path, f->dst, "train-0001.h5"), 9000);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    assert_int_equal(made, 16 + LAYOUT_CLASSES * LAYOUT_VAL);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
    check_tiny_split(f->dst, SPLIT_VAL, LAYOUT_VAL);
    assert_true(access(folder_join(f->path, f->dst, "import.partial"), F_OK) != 0);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    assert_int_equal(made, 0);
    /* A finished dataset that was damaged is mended, the sound shards are kept. */
    file_truncate(folder_join(f->path, f->dst, "train-0002.h5"), 100);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_OK);
    assert_int_equal(made, 16);
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

static void test_other_plan(void **state) {
    Fixture *f = *state;
    ImportOptions options = {.classes = 2};
    tiny_layout_write(f->src);
    assert_int_equal(import_tiny(f), STATUS_OK);
    assert_int_equal(importer_tiny_imagenet.run(f->src, f->dst, &options, &f->err), STATUS_CANNOT_CREATE);
    assert_non_null(strstr(f->err.message, f->dst));
    check_tiny_split(f->dst, SPLIT_TRAIN, LAYOUT_TRAIN);
}

static const SyntheticOptions synthetic = {11, 6, 20, 100, 30, 0.8};

/* SIGKILL at several moments; the last run completes and equals an undisturbed import, shard by shard. */
static void test_killed_import_resumes(void **state) {
    Fixture *f = *state;
    const ImportOptions options = {.threads = 1, .shard_rows = 64, .chunk_rows = 16};
    int killed = 0;
    for (int i = 1; i <= 8; i++) {
        const pid_t child = fork();
        if (child == 0)
            _exit((int)import_synthetic(f->dst, &synthetic, &options, NULL));
        usleep((useconds_t)(4000 * i));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        killed += WIFSIGNALED(status);
    }
    assert_true(killed > 0);
    assert_int_equal(import_synthetic(f->dst, &synthetic, &options, &f->err), STATUS_OK);
    assert_int_equal(import_synthetic(f->src, &synthetic, &options, &f->err), STATUS_OK);
    Dataset a, b;
    assert_int_equal(dataset_open(&a, f->dst, 1, &f->err), STATUS_OK);
    assert_int_equal(dataset_open(&b, f->src, 1, &f->err), STATUS_OK);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        assert_int_equal(a.shard_count[split], b.shard_count[split]);
        for (int s = 0; s < a.shard_count[split]; s++)
            assert_string_equal(a.shards[split][s].sha256, b.shards[split][s].sha256);
    }
    dataset_close(&a);
    dataset_close(&b);
}

/* ---- CIFAR-100 ---- */

static void test_cifar(void **state) {
    Fixture *f = *state;
    cifar_layout_write(f->src);
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_OK);
    for (Split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        Pictures p = load_split(f->dst, split);
        const int n = split == SPLIT_TRAIN ? CIFAR_TRAIN : CIFAR_VAL;
        char seen[CIFAR_TRAIN] = {0};
        assert_int_equal(p.dataset.count[split], n);
        assert_string_equal(p.dataset.class_names[1], "aquarium_fish");
        assert_false(p.dataset.has_boxes);
        for (int row = 0; row < n; row++) {
            const uint8_t *image = p.images + (size_t)row * 3072;
            const int record = image[0] / 5; /* pixel 0 of plane 0 */
            assert_int_equal(p.dataset.labels[split][row], record * 3 % CIFAR_CLASSES);
            for (int i = 0; i < 3072; i++)
                assert_int_equal(image[i], cifar_pixel(record, i % 3, i / 3));
            seen[record]++;
        }
        for (int i = 0; i < n; i++)
            assert_int_equal(seen[i], 1);
        pictures_free(&p);
    }
}

static void test_cifar_faults(void **state) {
    Fixture *f = *state;
    static const char *const files[] = {"train.bin", "test.bin", "fine_label_names.txt"};
    for (int i = 0; i < 3; i++) {
        cifar_layout_write(f->src);
        unlink(folder_join(f->path, f->src, files[i]));
        assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_NO_INPUT);
        assert_non_null(strstr(f->err.message, files[i]));
    }
    cifar_layout_write(f->src);
    folder_join(f->path, f->src, "test.bin");
    file_truncate(f->path, file_size(f->path) - 1);
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_DATA);
    assert_non_null(strstr(f->err.message, "test.bin"));
    cifar_layout_write(f->src);
    file_flip(f->path, 3074 * 2 + 1); /* label 6 % 5 = 1 becomes 5, of 5 classes */
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_DATA);
    assert_non_null(strstr(f->err.message, "record 2"));
}

static void test_cifar_harmed_names(void **state) {
    Fixture *f = *state;
    static const char longer[] = "apple\naquarium_fish\nbaby\nbear\nbeaver\nbed\n";
    folder_join(f->path, f->src, "fine_label_names.txt");
    for (Harm harm = HARM_EMPTY; harm < HARM_CRLF; harm++) {
        cifar_layout_write(f->src);
        harm_list(f->path, harm);
        const Status status = importer_cifar100.run(f->src, f->dst, NULL, &f->err);
        if (status != STATUS_DATA || !strstr(f->err.message, "fine_label_names.txt"))
            fail_msg("harm %d: status %d, message '%s'", (int)harm, status, f->err.message);
    }
    cifar_layout_write(f->src);
    file_write(f->path, longer, sizeof longer - 1);
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_DATA);
    assert_non_null(strstr(f->err.message, "bed"));
    cifar_layout_write(f->src);
    harm_list(f->path, HARM_CRLF);
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_OK);
    Dataset dataset;
    assert_int_equal(dataset_open(&dataset, f->dst, 1, &f->err), STATUS_OK);
    assert_string_equal(dataset.class_names[0], "apple");
    assert_string_equal(dataset.class_names[4], "beaver");
    dataset_close(&dataset);
    cifar_layout_write(f->src); /* the same names, plainly written, and the records changed: another dataset */
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_OK);
    file_flip(folder_join(f->path, f->src, "train.bin"), 3000);
    assert_int_equal(importer_cifar100.run(f->src, f->dst, NULL, &f->err), STATUS_CANNOT_CREATE);
}

/* ---- synthetic ---- */

static void test_synthetic(void **state) {
    Fixture *f = *state;
    assert_int_equal(import_synthetic(f->dst, &synthetic, &small_shards, &f->err), STATUS_OK);
    Pictures p = load_split(f->dst, SPLIT_TRAIN);
    const int64_t n = p.dataset.count[SPLIT_TRAIN], pixels = 20 * 20;
    int count[6] = {0};
    double sum = 0;
    assert_int_equal(n, 600);
    for (int64_t row = 0; row < n; row++) {
        int box[4] = {20, 20, -1, -1}, area = 0;
        for (int i = 0; i < pixels; i++)
            if (p.masks[row * pixels + i]) {
                const int x = i % 20, y = i / 20;
                assert_int_equal(p.masks[row * pixels + i], 1);
                box[0] = x < box[0] ? x : box[0];
                box[1] = y < box[1] ? y : box[1];
                box[2] = x > box[2] ? x : box[2];
                box[3] = y > box[3] ? y : box[3];
                area++;
            }
        for (int i = 0; i < 4; i++)
            assert_int_equal(p.boxes[row * 4 + i], box[i]);
        assert_in_range(area, 12, 200);
        count[p.dataset.labels[SPLIT_TRAIN][row]]++;
        for (int i = 0; i < pixels; i++)
            sum += p.images[(row * pixels + i) * 3] / 255.0;
    }
    for (int c = 0; c < 6; c++)
        assert_int_equal(count[c], 100);
    const double off =
        sum / (double)(n * pixels) - (double)p.dataset.mean[0]; /* the mean is taken over 512 of the 600 */
    assert_true(off > -0.02 && off < 0.02);
    pictures_free(&p);
}

/* The object alone decides: neither its mean colour nor the picture's tells the class. A nearest-centroid classifier on
 * the mean colours of object and picture must stay near chance (1/6; 600 samples, six sigma is 0.09). */
static void test_synthetic_colour_is_no_cue(void **state) {
    Fixture *f = *state;
    enum { FEATURES = 6, PIXELS = 20 * 20 };
    const SyntheticOptions options = {12, 6, 20, 100, 100, 0.0};
    double centre[6][FEATURES] = {{0}}, (*feature)[FEATURES] = calloc(600, sizeof *feature);
    int right = 0;
    assert_int_equal(import_synthetic(f->dst, &options, NULL, &f->err), STATUS_OK);
    Pictures p = load_split(f->dst, SPLIT_VAL);
    for (int row = 0; row < 600; row++) {
        double area = 0;
        for (int i = 0; i < PIXELS; i++) {
            const double inside = p.masks[row * PIXELS + i];
            area += inside;
            for (int c = 0; c < 3; c++) {
                feature[row][c] += inside * p.images[(row * PIXELS + i) * 3 + c];
                feature[row][3 + c] += (double)p.images[(row * PIXELS + i) * 3 + c] / PIXELS;
            }
        }
        for (int c = 0; c < 3; c++)
            feature[row][c] /= area;
        for (int k = 0; k < FEATURES; k++)
            centre[p.dataset.labels[SPLIT_VAL][row]][k] += row < 300 ? feature[row][k] / 50 : 0;
    }
    for (int row = 300; row < 600; row++) {
        double best = 1e30;
        int guess = -1;
        for (int c = 0; c < 6; c++) {
            double distance = 0;
            for (int k = 0; k < FEATURES; k++)
                distance += (feature[row][k] - centre[c][k]) * (feature[row][k] - centre[c][k]);
            if (distance < best) {
                best = distance;
                guess = c;
            }
        }
        right += guess == p.dataset.labels[SPLIT_VAL][row];
    }
    assert_true(right < 300 * (1.0 / 6 + 0.13)); /* 300 samples: six sigma */
    free(feature);
    pictures_free(&p);
}

static void test_synthetic_options(void **state) {
    Fixture *f = *state;
    const SyntheticOptions cases[] = {
        {1, 1, 32, 10, 10, 0.5}, {1, 21, 32, 10, 10, 0.5}, {1, 10, 4, 10, 10, 0.5},
        {1, 10, 32, 0, 10, 0.5}, {1, 10, 32, 10, 10, 1.5}, {1, 10, 32, 10, 10, -0.1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        assert_int_equal(import_synthetic(f->dst, &cases[c], NULL, &f->err), STATUS_USAGE);
}

/* ---- the real thing ---- */

static void test_real_tiny_imagenet(void **state) {
    Fixture *f = *state;
    const char *src = getenv("EXCON_TINY_IMAGENET");
    const ImportOptions options = {.classes = 4};
    if (!src) {
        print_message("skipped: EXCON_TINY_IMAGENET does not name a folder in the official layout\n");
        skip();
    }
    assert_int_equal(importer_tiny_imagenet.run(src, f->dst, &options, &f->err), STATUS_OK);
    Pictures p = load_split(f->dst, SPLIT_TRAIN);
    assert_int_equal(p.dataset.count[SPLIT_TRAIN], 4 * 500);
    assert_int_equal(p.dataset.count[SPLIT_VAL], 4 * 50);
    double sum = 0;
    for (int64_t i = 0; i < 2000 * 64 * 64 * 3; i++)
        sum += p.images[i] / 255.0;
    sum /= 2000.0 * 64 * 64 * 3;
    assert_true(sum > 0.3 && sum < 0.6); /* official mean over all classes and channels: 0.44 */
    for (int64_t row = 0; row < 2000; row++)
        assert_true(p.boxes[row * 4 + 2] < 64 && p.boxes[row * 4 + 3] < 64);
    pictures_free(&p);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_killed_import_resumes), /* first: it forks, before any OpenMP team exists */
        TEST(test_tiny),
        TEST(test_tiny_first_classes),
        TEST(test_tiny_faults),
        TEST(test_tiny_harmed_lists),
        TEST(test_tiny_windows_lists),
        TEST(test_tiny_droppings),
        TEST(test_tiny_unlisted_image),
        TEST(test_tiny_replaced_pictures),
        TEST(test_tiny_replaced_before_resuming),
        TEST(test_second_importer_is_refused),
        TEST(test_interrupted_import_resumes),
        TEST(test_other_plan),
        TEST(test_cifar),
        TEST(test_cifar_faults),
        TEST(test_cifar_harmed_names),
        TEST(test_synthetic),
        TEST(test_synthetic_colour_is_no_cue),
        TEST(test_synthetic_options),
        TEST(test_real_tiny_imagenet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
