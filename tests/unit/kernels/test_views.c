/* The random transform: Philox against published vectors, drawn parameters and pixels against an independent
 * implementation on top of torchvision (tests/golden/views.h5, made by scripts/golden/views_golden.py), and what must
 * not matter: backend, threads, batching, storage type. Run from the repository root. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <hdf5_hl.h>

#include "kernels/contract/views_draw.h"
#include "kernels/cpu/device/lanes.h"
#include "tests/support/numbers/block.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"
#include "tests/support/numbers/view_recipe.h"

#define GOLDEN "tests/golden/views.h5"

/* Host values on the device, and back into a block of the caller's. */
static Tensor upload(Device *d, DType type, int64_t n, const void *host) {
    Tensor t = tensor_new(d, type, n);
    d->ops->memory->copy_in(d, t.data, host, (size_t)n * dtype_size(type));
    d->ops->stream->sync(d); /* it has read `host` */
    return t;
}

static void *download(const Tensor *t) {
    void *host = block(t->n, dtype_size(t->type));
    t->device->ops->memory->copy_out(t->device, host, t->data, (size_t)t->n * dtype_size(t->type));
    assert_true(tensor_guards_hold(t));
    return host;
}

/* What views_make leaves, on the host. */
typedef struct Views {
    void *out;          /* [n,H,W,3] of the type asked for */
    ViewParams *params; /* [n] */
} Views;

static Views make_views(Device *d, const ViewSpec *spec, int64_t n, int H, int W, const uint8_t *images,
                        const int64_t *ids, DType type) {
    const int64_t values = n * H * W * 3;
    Tensor source = upload(d, DTYPE_U8, values, images), number = upload(d, DTYPE_I64, n, ids);
    Tensor out = tensor_new(d, type, values), params = tensor_new(d, DTYPE_U8, n * (int64_t)sizeof(ViewParams));
    d->ops->views->make(d, spec, n, H, W, source.data, number.data, type, out.data, params.data);
    Views views = {download(&out), download(&params)};
    tensor_free(&source), tensor_free(&number), tensor_free(&out), tensor_free(&params);
    return views;
}

static void views_free(Views *views) {
    free(views->out), free(views->params);
}

/* ---- Philox ---- */

/* Known answers of Random123 (kat_vectors, philox4x32 10): counter, key, result. */
static void test_philox_known_answers(void **state) {
    (void)state;
    static const uint32_t known[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int k = 0; k < 3; k++) {
        const uint32_t *v = known[k];
        Philox4 got = philox4x32(v[4] | (uint64_t)v[5] << 32, v[0] | (uint64_t)v[1] << 32, v[2] | (uint64_t)v[3] << 32);
        assert_memory_equal(got.v, v + 6, 16);
    }
}

/* ---- golden ---- */

typedef struct Golden {
    ViewSpec spec;
    int H, W;
    int64_t n;
    int64_t *ids;     /* [n] */
    int32_t *choices; /* [n, 11]: crop, flip, jittered, order, grey */
    float *factors;   /* [n, 4] */
    uint8_t *images;  /* [n, H, W, 3], NULL for draws alone */
    float *out;       /* [n, H, W, 3] */
} Golden;

static void read_values(hid_t file, const char *group, const char *name, hid_t type, void *out) {
    char path[64];
    snprintf(path, sizeof path, "%s/%s", group, name);
    assert_true(H5LTread_dataset(file, path, type, out) >= 0);
}

static ViewSpec spec_from(const double v[21]) {
    ViewSpec spec = {.kind = (ViewKind)v[0], .seed = (uint64_t)v[1], .epoch = (uint32_t)v[2], .view = (uint32_t)v[3]};
    float *fields[] = {&spec.scale_min,
                       &spec.scale_max,
                       &spec.ratio_min,
                       &spec.ratio_max,
                       &spec.flip_probability,
                       &spec.jitter_probability,
                       &spec.grey_probability,
                       &spec.brightness,
                       &spec.contrast,
                       &spec.saturation,
                       &spec.hue};
    for (int k = 0; k < 11; k++)
        *fields[k] = (float)v[4 + k];
    for (int c = 0; c < 3; c++) {
        spec.mean[c] = (float)v[15 + c];
        spec.std[c] = (float)v[18 + c];
    }
    return spec;
}

static Golden golden_read(hid_t file, const char *group, int pixels) {
    Golden g = {0};
    double spec[21];
    int32_t size[2];
    hsize_t dims[2];
    char path[64];
    read_values(file, group, "spec", H5T_NATIVE_DOUBLE, spec);
    read_values(file, group, "size", H5T_NATIVE_INT32, size);
    snprintf(path, sizeof path, "%s/choices", group);
    assert_true(H5LTget_dataset_info(file, path, dims, NULL, NULL) >= 0);
    g.spec = spec_from(spec);
    g.H = size[0];
    g.W = size[1];
    g.n = (int64_t)dims[0];
    int64_t values = g.n * g.H * g.W * 3;
    g.ids = block(g.n, sizeof *g.ids);
    g.choices = block(g.n * 11, sizeof *g.choices);
    g.factors = block(g.n * 4, sizeof *g.factors);
    read_values(file, group, "ids", H5T_NATIVE_INT64, g.ids);
    read_values(file, group, "choices", H5T_NATIVE_INT32, g.choices);
    read_values(file, group, "factors", H5T_NATIVE_FLOAT, g.factors);
    if (pixels) {
        g.images = block(values, sizeof *g.images);
        g.out = block(values, sizeof *g.out);
        read_values(file, group, "images", H5T_NATIVE_UINT8, g.images);
        read_values(file, group, "out", H5T_NATIVE_FLOAT, g.out);
    }
    return g;
}

static void golden_free(Golden *g) {
    free(g->ids), free(g->choices), free(g->factors), free(g->images), free(g->out);
}

static void assert_params(const ViewParams *p, const int32_t choices[11], const float factors[4]) {
    assert_memory_equal(p->crop, choices, sizeof p->crop);
    assert_int_equal(p->flip, choices[4]);
    assert_int_equal(p->jittered, choices[5]);
    assert_memory_equal(p->order, choices + 6, sizeof p->order);
    assert_int_equal(p->grey, choices[10]);
    for (int k = 0; k < 4; k++)
        assert_true(p->jitter[k] == factors[k]);
}

static hid_t golden_open(void) {
    hid_t file = H5Fopen(GOLDEN, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static int golden_count(hid_t file, const char *name) {
    int32_t count = 0;
    assert_true(H5LTread_dataset_int(file, name, &count) >= 0);
    assert_true(count > 0);
    return count;
}

static void test_draws(void **state) {
    (void)state;
    hid_t file = golden_open();
    int cases = golden_count(file, "draw_cases");
    for (int k = 0; k < cases; k++) {
        char group[32];
        snprintf(group, sizeof group, "draws%d", k);
        Golden g = golden_read(file, group, 0);
        for (int64_t i = 0; i < g.n; i++) {
            ViewParams p;
            views_draw(&g.spec, g.ids[i], g.H, g.W, &p);
            assert_params(&p, g.choices + i * 11, g.factors + i * 4);
        }
        golden_free(&g);
    }
    H5Fclose(file);
}

/* A hue in sextants reaches 13, so float32 keeps it to 5e-7 and the pixel with it; saturation and contrast stretch that
 * by up to 2, a standard deviation of 0.22 by 4.5: 5e-6, and as much again for the roundings of the other operators. */
#define PIXEL_TOLERANCE 1e-5

static int pixels_agree(const char *what, int64_t n, int64_t image, const float *got, const float *want) {
    double off = 0;
    int64_t worst = 0;
    for (int64_t i = 0; i < n * image; i++) {
        double here = fabs((double)got[i] - (double)want[i]);
        if (!(here <= off)) {
            off = here;
            worst = i;
        }
    }
    if (!(off <= PIXEL_TOLERANCE))
        print_message("%s, image %d, value %d: got %.8g, want %.8g\n", what, (int)(worst / image), (int)(worst % image),
                      (double)got[worst], (double)want[worst]);
    return off <= PIXEL_TOLERANCE;
}

static void test_pixels(void **state) {
    Device *d = *state;
    hid_t file = golden_open();
    int cases = golden_count(file, "pixel_cases");
    for (int k = 0; k < cases; k++) {
        char group[32];
        snprintf(group, sizeof group, "pixels%d", k);
        Golden g = golden_read(file, group, 1);
        Views views = make_views(d, &g.spec, g.n, g.H, g.W, g.images, g.ids, DTYPE_F32);
        for (int64_t i = 0; i < g.n; i++)
            assert_params(&views.params[i], g.choices + i * 11, g.factors + i * 4);
        assert_true(pixels_agree(group, g.n, (int64_t)g.H * g.W * 3, views.out, g.out));
        views_free(&views);
        golden_free(&g);
    }
    H5Fclose(file);
}

/* ---- what must not matter ---- */

typedef struct Batch {
    int64_t n;
    int H, W;
    uint8_t *images;
    int64_t *ids;
} Batch;

static Batch batch_new(int64_t n, int H, int W) {
    Batch b = {n, H, W, block(n * H * W * 3, 1), block(n, sizeof(int64_t))};
    PhiloxReader reader = philox_reader(1, PHILOX_SYNTHETIC, (uint64_t)n, (uint32_t)H);
    for (int64_t i = 0; i < n * H * W * 3; i++)
        b.images[i] = (uint8_t)philox_next(&reader);
    for (int64_t i = 0; i < n; i++)
        b.ids[i] = 1000 + i;
    return b;
}

static void batch_free(Batch *b) {
    free(b->images), free(b->ids);
}

/* Below and above what a block of the CUDA backend has threads for and what it keeps in shared memory, and odd ones. */
static const int sizes[][2] = {{1, 1}, {3, 5}, {40, 56}, {33, 31}, {64, 64}, {120, 130}, {130, 140}, {1, 300}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void test_backends_agree(void **state) {
    Device *d = *state, cpu;
    Error err;
    assert_int_equal(device_open_cpu(&cpu, 1, 0, &err), STATUS_OK);
    for (int s = 0; s < SIZES; s++)
        for (int kind = VIEW_STANDARD; kind <= VIEW_CROP_FLIP; kind++) {
            Batch b = batch_new(6, sizes[s][0], sizes[s][1]);
            ViewSpec spec = view_recipe((ViewKind)kind);
            Views got = make_views(d, &spec, b.n, b.H, b.W, b.images, b.ids, DTYPE_F32);
            Views want = make_views(&cpu, &spec, b.n, b.H, b.W, b.images, b.ids, DTYPE_F32);
            char what[64];
            snprintf(what, sizeof what, "%d x %d, kind %d", b.H, b.W, kind);
            assert_memory_equal(got.params, want.params, (size_t)b.n * sizeof(ViewParams));
            assert_true(pixels_agree(what, b.n, (int64_t)b.H * b.W * 3, got.out, want.out));
            views_free(&got), views_free(&want);
            batch_free(&b);
        }
    device_close(&cpu);
}

/* The views of `b`, three images to a call. */
static void make_in_parts(Device *d, const ViewSpec *spec, const Batch *b, Tensor *images, Tensor *ids, Tensor *out) {
    const int64_t image = (int64_t)b->H * b->W * 3;
    for (int64_t first = 0; first < b->n; first += 3) {
        int64_t count = first + 3 < b->n ? 3 : b->n - first;
        d->ops->views->make(d, spec, count, b->H, b->W, (uint8_t *)images->data + first * image,
                            (int64_t *)ids->data + first, DTYPE_F32, (float *)out->data + first * image, NULL);
    }
}

static void test_threads_and_batching_do_not_matter(void **state) {
    Device *d = *state;
    int threads = d->threads;
    ViewSpec spec = view_recipe(VIEW_RANDOM);
    for (int odd = 0; odd < 2; odd++) {
        Batch b = batch_new(7, 40 + odd, 56 + odd);
        int64_t values = b.n * b.H * b.W * 3;
        Views want = make_views(d, &spec, b.n, b.H, b.W, b.images, b.ids, DTYPE_F32);
        Tensor images = upload(d, DTYPE_U8, values, b.images), ids = upload(d, DTYPE_I64, b.n, b.ids);
        for (d->threads = 1; d->threads <= 3; d->threads++) {
            Tensor out = tensor_new(d, DTYPE_F32, values);
            make_in_parts(d, &spec, &b, &images, &ids, &out);
            void *got = download(&out);
            assert_memory_equal(got, want.out, (size_t)values * sizeof(float));
            free(got);
            tensor_free(&out);
        }
        tensor_free(&images), tensor_free(&ids);
        views_free(&want);
        batch_free(&b);
    }
    d->threads = threads;
    d->ops->views->make(d, &spec, 0, 40, 56, NULL, NULL, DTYPE_F32, NULL, NULL);
}

static void test_bf16_is_f32_rounded(void **state) {
    Device *d = *state;
    for (int s = 0; s <= SIZES; s++) {
        const int H = s < SIZES ? sizes[s][0] : 224, W = s < SIZES ? sizes[s][1] : 224;
        Batch b = batch_new(d->kind == DEVICE_CUDA ? 2 : 5, H, W);
        ViewSpec spec = view_recipe(VIEW_RANDOM);
        Views wide = make_views(d, &spec, b.n, H, W, b.images, b.ids, DTYPE_F32);
        Views narrow = make_views(d, &spec, b.n, H, W, b.images, b.ids, DTYPE_BF16);
        for (int64_t i = 0; i < b.n * H * W * 3; i++)
            assert_true(((uint16_t *)narrow.out)[i] == bf16_of_float(((float *)wide.out)[i]));
        views_free(&wide), views_free(&narrow);
        batch_free(&b);
    }
}

/* ---- statistics: five standard deviations of a mean over DRAWS views ---- */

enum { DRAWS = 20000 };

static void assert_mean(const char *what, double sum, double want, double deviation) {
    double off = fabs(sum / DRAWS - want), allowed = 5 * deviation / sqrt(DRAWS);
    if (!(off <= allowed))
        print_message("%s: mean %.5g, expected %.5g +- %.2g\n", what, sum / DRAWS, want, allowed);
    assert_true(off <= allowed);
}

static void test_statistics(void **state) {
    (void)state;
    ViewSpec spec = view_recipe(VIEW_RANDOM);
    double flips = 0, jittered = 0, greys = 0, area = 0, firsts[4] = {0}, hue = 0, brightness = 0, both = 0;
    for (int64_t id = 0; id < DRAWS; id++) {
        ViewParams p;
        views_draw(&spec, id, 64, 64, &p);
        const int32_t *crop = p.crop;
        assert_true(crop[0] >= 0 && crop[1] >= 0 && crop[2] > 0 && crop[3] > 0);
        assert_true(crop[0] + crop[2] <= 64 && crop[1] + crop[3] <= 64);
        flips += p.flip;
        jittered += p.jittered;
        greys += p.grey;
        both += p.grey && p.flip;
        area += (double)(crop[2] * crop[3]) / 4096;
        firsts[p.order[0]] += p.jittered;
        hue += (double)p.jitter[3];
        brightness += (double)p.jitter[0];
        assert_true(p.jitter[0] >= 0.6f && p.jitter[0] <= 1.4f && fabsf(p.jitter[3]) <= 0.1f);
    }
    assert_mean("flip", flips, 0.5, 0.5);
    assert_mean("jitter", jittered, 0.8, 0.4);
    assert_mean("grey", greys, 0.2, 0.4);
    assert_mean("grey and flip", both, 0.1, 0.3);
    assert_mean("hue", hue, 0, 0.1);
    assert_mean("brightness", brightness, 1, 0.21);
    for (int k = 0; k < 4; k++)
        assert_mean("first operator", firsts[k], 0.2, 0.4);
    assert_true(area / DRAWS > 0.5 && area / DRAWS < 0.6); /* 0.6 less what does not fit and is drawn again */
}

static void test_views_differ(void **state) {
    (void)state;
    ViewSpec spec = view_recipe(VIEW_RANDOM), other = spec;
    int same[4] = {0};
    for (int64_t id = 0; id < 200; id++) {
        ViewParams p, q;
        views_draw(&spec, id, 64, 64, &p);
        for (int change = 0; change < 4; change++) {
            other = spec;
            other.view += change == 0;
            other.epoch += change == 1;
            other.seed += change == 2;
            views_draw(&other, id + (change == 3), 64, 64, &q);
            same[change] += memcmp(p.crop, q.crop, sizeof p.crop) == 0;
        }
    }
    for (int change = 0; change < 4; change++)
        assert_true(same[change] <= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_backends_agree),
        cmocka_unit_test(test_threads_and_batching_do_not_matter),
        cmocka_unit_test(test_bf16_is_f32_rounded),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_views_differ),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
