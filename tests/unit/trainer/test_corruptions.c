/* Corruptions of images: every byte against libraries that share nothing with the code, on fixed images (the digests in
 * tests/golden/corruptions.h5, made by scripts/golden/corruptions_golden.py), and what must hold on any: the same bytes
 * for any order, split and number of threads, stronger severities, the noises' moments. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/arrays/arrays.h"
#include "io/files/files.h"
#include "trainer/evaluate/corruptions/corruptions.h"
#include "trainer/evaluate/corruptions/portable_math.h"

#define GOLDEN "tests/golden/corruptions.h5"

static const int sides[] = {64, 32};

/* The golden images of one size. */
typedef struct Golden {
    int side, n;
    size_t image; /* bytes of one */
    uint8_t *images;
    int64_t ids[8];
} Golden;

static Array read_array(const ArrayFile *file, const char *format, int side, const char *name, ArrayType type) {
    char path[64];
    Array array;
    Error err;
    snprintf(path, sizeof path, format, side, name);
    if (array_read(file, path, type, -1, &array, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return array;
}

static ArrayFile *golden_file(void) {
    ArrayFile *file;
    Error err;
    if (array_file_open(&file, GOLDEN, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return file;
}

static Golden golden_read(const ArrayFile *file, int side) {
    Array images = read_array(file, "images%d%s", side, "", ARRAY_U8);
    Array ids = read_array(file, "ids%d%s", side, "", ARRAY_I32);
    Golden g = {.side = side, .n = (int)ids.count, .image = 3 * (size_t)side * (size_t)side, .images = images.u8};
    assert_true(g.n > 0 && g.n <= 8);
    assert_int_equal((size_t)images.count, g.image * (size_t)g.n);
    for (int i = 0; i < g.n; i++)
        g.ids[i] = ids.i32[i];
    array_free(&ids);
    return g;
}

static void corrupt(const Corruption *c, int severity, int side, int64_t n, const int64_t *ids, const uint8_t *in,
                    uint8_t *out) {
    Error err;
    if (corrupt_images(c, severity, side, n, ids, in, out, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

/* ---- against other libraries ---- */

/* How far the rows that the file holds are from those of `out`, to be printed beside a wrong digest. */
static int largest_difference(const ArrayFile *file, const Golden *g, const Corruption *c, int severity,
                              const uint8_t *out) {
    Array want = read_array(file, "out%d/%s", g->side, c->name, ARRAY_U8);
    const int first = g->side == 64 ? 3 : 1, step = g->side == 64 ? 8 : 2, rows = g->side / step;
    const size_t row = 3 * (size_t)g->side;
    int largest = 0;
    for (int i = 0; i < g->n; i++)
        for (int y = 0; y < rows; y++)
            for (size_t x = 0; x < row; x++) {
                const size_t at = (size_t)((severity - 1) * g->n + i) * (size_t)rows + (size_t)y;
                const int got = out[(size_t)i * g->image + (size_t)(first + step * y) * row + x];
                const int difference = abs(got - want.u8[at * row + x]);
                largest = difference > largest ? difference : largest;
            }
    array_free(&want);
    return largest;
}

static void test_golden(void **state) {
    (void)state;
    ArrayFile *file = golden_file();
    int wrong = 0;
    for (int k = 0; k < 2; k++) {
        Golden g = golden_read(file, sides[k]);
        uint8_t *out = malloc(g.image * (size_t)g.n);
        for (int c = 0; c < CORRUPTION_COUNT; c++) {
            Array digests = read_array(file, "sha256_%d/%s", g.side, corruptions[c].name, ARRAY_U8);
            for (int severity = 1; severity <= CORRUPTION_SEVERITIES; severity++) {
                char got[65], want[65];
                corrupt(&corruptions[c], severity, g.side, g.n, g.ids, g.images, out);
                sha256_of(out, g.image * (size_t)g.n, got);
                for (int b = 0; b < 32; b++)
                    sprintf(want + 2 * b, "%02x", digests.u8[32 * (severity - 1) + b]);
                if (strcmp(got, want) == 0)
                    continue;
                print_error("%s, severity %d, %d pixels: %s instead of %s, largest difference seen %d\n",
                            corruptions[c].name, severity, g.side, got, want,
                            largest_difference(file, &g, &corruptions[c], severity, out));
                wrong++;
            }
            array_free(&digests);
        }
        free(out);
        free(g.images);
    }
    array_file_close(file);
    assert_int_equal(wrong, 0);
}

/* ---- a function of image, id, corruption and severity, and of nothing else ---- */

enum { MANY = 7 };

/* MANY copies of the first golden image, with different ids. */
static Golden copies_of(const ArrayFile *file, int side) {
    Golden g = golden_read(file, side);
    uint8_t *many = malloc(g.image * MANY);
    for (int i = 0; i < MANY; i++) {
        memcpy(many + (size_t)i * g.image, g.images, g.image);
        g.ids[i] = 1000 + 37 * i;
    }
    free(g.images);
    g.images = many;
    g.n = MANY;
    return g;
}

static void test_pure(void **state) {
    (void)state;
    ArrayFile *file = golden_file();
    for (int k = 0; k < 2; k++) {
        Golden g = copies_of(file, sides[k]);
        uint8_t *want = malloc(g.image * MANY), *got = malloc(g.image * MANY);
        for (int c = 0; c < CORRUPTION_COUNT; c++)
            for (int severity = 1; severity <= CORRUPTION_SEVERITIES; severity += 2) {
                omp_set_num_threads(1);
                corrupt(&corruptions[c], severity, g.side, MANY, g.ids, g.images, want);
                /* threads, and the output in place of the input */
                omp_set_num_threads(3);
                memcpy(got, g.images, g.image * MANY);
                corrupt(&corruptions[c], severity, g.side, MANY, g.ids, got, got);
                assert_memory_equal(got, want, g.image * MANY);
                /* split in two, the second part first */
                corrupt(&corruptions[c], severity, g.side, MANY - 3, g.ids + 3, g.images, got + 3 * g.image);
                corrupt(&corruptions[c], severity, g.side, 3, g.ids, g.images, got);
                assert_memory_equal(got, want, g.image * MANY);
                /* backwards */
                int64_t ids[MANY];
                for (int i = 0; i < MANY; i++)
                    ids[i] = g.ids[MANY - 1 - i];
                corrupt(&corruptions[c], severity, g.side, MANY, ids, g.images, got);
                for (size_t i = 0; i < MANY; i++)
                    assert_memory_equal(got + i * g.image, want + (MANY - 1 - i) * g.image, g.image);
            }
        free(want);
        free(got);
        free(g.images);
    }
    array_file_close(file);
}

/* What draws nothing is the same for every id; the rest is not. */
static void test_ids(void **state) {
    (void)state;
    static const char *const plain[] = {"defocus_blur", "gaussian_blur", "zoom_blur", "brightness",
                                        "saturate",     "contrast",      "pixelate",  "jpeg_compression"};
    ArrayFile *file = golden_file();
    for (int k = 0; k < 2; k++) {
        Golden g = copies_of(file, sides[k]);
        uint8_t *out = malloc(g.image * MANY);
        for (int c = 0; c < CORRUPTION_COUNT; c++) {
            int draws = 1;
            for (size_t p = 0; p < sizeof plain / sizeof *plain; p++)
                draws = draws && strcmp(plain[p], corruptions[c].name) != 0;
            corrupt(&corruptions[c], 3, g.side, MANY, g.ids, g.images, out);
            int others = 0;
            for (size_t i = 1; i < MANY; i++)
                others += memcmp(out, out + i * g.image, g.image) != 0;
            if ((others > 0) != draws)
                fail_msg("%s: %d of %d ids give another image than the first", corruptions[c].name, others, MANY - 1);
        }
        free(out);
        free(g.images);
    }
    array_file_close(file);
}

/* ---- severities ---- */

/* Severities that are no scale of distances: glass (a blur, then its pixels exchanged farther; the first hardly blurs),
 * spatter (water, then mud), saturate (less, then more), elastic (less of the affine map, more of the local one). */
static int is_scale(const Corruption *c) {
    static const char *const others[] = {"glass_blur", "spatter", "saturate", "elastic_transform"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i], c->name) == 0)
            return 0;
    return 1;
}

/* Mean difference from the clean image, in grey levels. */
static double distance(const uint8_t *a, const uint8_t *b, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += abs(a[i] - b[i]);
    return sum / (double)n;
}

static void test_severities(void **state) {
    (void)state;
    ArrayFile *file = golden_file();
    for (int k = 0; k < 2; k++) {
        Golden g = copies_of(file, sides[k]);
        uint8_t *out = malloc(g.image * MANY), *first = malloc(g.image * MANY);
        for (int c = 0; c < CORRUPTION_COUNT; c++) {
            /* A standard deviation of a quarter of a pixel changes no byte. */
            const int nothing = g.side == 32 && strcmp(corruptions[c].name, "gaussian_blur") == 0;
            double before = 0.0;
            for (int severity = 1; severity <= CORRUPTION_SEVERITIES; severity++) {
                corrupt(&corruptions[c], severity, g.side, MANY, g.ids, g.images, out);
                if (severity == 1)
                    memcpy(first, out, g.image * MANY);
                const double now = distance(out, g.images, g.image * MANY);
                if (nothing && severity == 1)
                    assert_true(now == 0.0);
                else if (now <= (is_scale(&corruptions[c]) ? before : 0.0))
                    fail_msg("%s, %d pixels: severity %d is %g from the image, the one before %g", corruptions[c].name,
                             g.side, severity, now, before);
                before = now;
            }
            assert_memory_not_equal(out, first, g.image * MANY);
        }
        free(out);
        free(first);
        free(g.images);
    }
    array_file_close(file);
}

/* One colour: nothing to divide by, nothing out of range; what only moves or mixes pixels leaves it as it is. */
static void test_flat_images(void **state) {
    (void)state;
    static const char *const mixing[] = {"defocus_blur", "glass_blur", "gaussian_blur",     "motion_blur", "zoom_blur",
                                         "contrast",     "pixelate",   "elastic_transform", "saturate"};
    static const uint8_t greys[] = {0, 1, 128, 255};
    uint8_t in[3 * 64 * 64], out[sizeof in];
    const int64_t id = 5;
    for (size_t k = 0; k < 2 * sizeof greys; k++) {
        const int side = sides[k % 2];
        const uint8_t grey = greys[k / 2];
        memset(in, grey, sizeof in);
        for (int c = 0; c < CORRUPTION_COUNT; c++)
            for (int severity = 1; severity <= CORRUPTION_SEVERITIES; severity++) {
                corrupt(&corruptions[c], severity, side, 1, &id, in, out);
                for (size_t m = 0; m < sizeof mixing / sizeof *mixing; m++)
                    if (strcmp(mixing[m], corruptions[c].name) == 0 &&
                        !(severity > 3 && strcmp(mixing[m], "saturate") == 0))
                        for (int i = 0; i < 3 * side * side; i++)
                            assert_int_equal(out[i], grey);
            }
    }
}

/* ---- moments of the noises: five standard errors over VALUES values ---- */

enum { IMAGES = 20, VALUES = IMAGES * 3 * 64 * 64, GREY = 128 };

typedef struct Moments {
    double mean, sd, black, white; /* of colours 0..1; shares */
    double neighbours;             /* correlation of one image with the next */
} Moments;

static Moments moments_of(const char *name, int severity) {
    static uint8_t image[VALUES];
    int64_t ids[IMAGES];
    double sum = 0, squares = 0, products = 0, black = 0, white = 0;
    for (int i = 0; i < IMAGES; i++)
        ids[i] = i;
    memset(image, GREY, sizeof image);
    corrupt(corruption_find(name), severity, 64, IMAGES, ids, image, image);
    for (int i = 0; i < VALUES; i++) {
        const double d = (image[i] - GREY) / 255.0;
        sum += d;
        squares += d * d;
        products += d * ((image[(i + VALUES / IMAGES) % VALUES] - GREY) / 255.0);
        black += image[i] == 0;
        white += image[i] == 255;
    }
    return (Moments){sum / VALUES + GREY / 255.0, sqrt(squares / VALUES), black / VALUES, white / VALUES,
                     products / squares};
}

static void assert_within(const char *what, double got, double want, double bound) {
    if (fabs(got - want) > bound)
        fail_msg("%s is %g, expected %g within %g", what, got, want, bound);
}

static void test_moments(void **state) {
    (void)state;
    const double grey = GREY / 255.0, n = VALUES;
    const struct {
        const char *name;
        int severity;
        double sd;
    } noises[] = {{"gaussian_noise", 1, 0.04},
                  {"gaussian_noise", 2, 0.08},
                  {"speckle_noise", 1, 0.15 * grey},
                  {"shot_noise", 3, sqrt(grey / 50.0)}};
    for (size_t k = 0; k < sizeof noises / sizeof *noises; k++) {
        const Moments m = moments_of(noises[k].name, noises[k].severity);
        assert_within(noises[k].name, m.mean, grey, 5.0 * noises[k].sd / sqrt(n));
        assert_within(noises[k].name, m.sd, noises[k].sd, 5.0 * noises[k].sd / sqrt(2.0 * n));
        assert_within("correlation", m.neighbours, 0.0, 5.0 / sqrt(n));
    }
    const Moments m = moments_of("impulse_noise", 5);
    assert_within("black", m.black, 0.07, 5.0 * sqrt(0.07 * 0.93 / n));
    assert_within("white", m.white, 0.07, 5.0 * sqrt(0.07 * 0.93 / n));
}

/* ---- the table, and what is refused ---- */

static void test_table(void **state) {
    (void)state;
    for (int c = 0; c < CORRUPTION_COUNT; c++) {
        assert_int_equal(corruptions[c].number, c + 1);
        assert_ptr_equal(corruption_find(corruptions[c].name), &corruptions[c]);
    }
    assert_null(corruption_find("frost"));
    Error err;
    const int64_t id = 0;
    uint8_t image[3] = {0};
    assert_int_equal(corrupt_images(&corruptions[0], 1, 1, 1, &id, image, image, &err), STATUS_DATA);
    assert_non_null(strstr(err.message, "64x64"));
}

/* libm is good to an ulp or so. */
static void test_portable_math(void **state) {
    (void)state;
    for (int i = -20000; i <= 20000; i++) {
        const double x = i * 0.0331, e = exp(x), turns = i * 0.000731,
                     angle = 2.0 * M_PI * (turns - floor(turns + 0.5));
        double sine, cosine;
        assert_true(fabs(portable_exp(x) - e) <= 2e-15 * e);
        portable_sincos(turns, &sine, &cosine);
        assert_true(fabs(sine - sin(angle)) < 2e-15 && fabs(cosine - cos(angle)) < 2e-15);
        if (i > 0) {
            const double u = i / 20000.0, l = log(u);
            assert_true(fabs(portable_log(u) - l) <= 2e-15 * fabs(l));
        }
    }
    assert_true(portable_exp(-800.0) == 0.0);
    assert_true(portable_exp(0.0) == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_pure),          cmocka_unit_test(test_ids),
        cmocka_unit_test(test_severities), cmocka_unit_test(test_flat_images),   cmocka_unit_test(test_moments),
        cmocka_unit_test(test_table),      cmocka_unit_test(test_portable_math),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
