/* The random transform (contract/views.h) on the CPU.
 *
 * One thread makes one image at a time, in planar float32 [3][H][W] in its slice of the device's scratch, so that every
 * colour operator is a plain loop over H*W pixels. Results depend on the sample and the spec alone, never on the batch
 * or the thread count. */
#include "kernels/base/round.h"
#include "kernels/contract/views.h"
#include "kernels/contract/views_draw.h"
#include "kernels/contract/views_pixel.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"

enum { ALIGN_FLOATS = 16 };

/* One thread's scratch; every piece starts on a 64-byte boundary. */
typedef struct Canvas {
    float *plane[3];  /* [H*W] each: red, green, blue in [0,1] */
    float *source[3]; /* [W] one row of the crop, as floats in [0,1] */
    float *upper[3];  /* [W] the source row above (or at) the output row, already resampled to W columns */
    float *lower[3];  /* [W] the one below */
    int32_t *left;    /* [W] left source column of each output column */
    int32_t *right;   /* [W] its right neighbour inside the crop */
    float *share;     /* [W] weight of the right one */
} Canvas;

static size_t padded(size_t floats) {
    return round_up(floats, ALIGN_FLOATS);
}

static size_t canvas_floats(int H, int W) {
    return 3 * padded((size_t)H * (size_t)W) + 12 * padded((size_t)W);
}

static Canvas canvas_at(float *base, int H, int W) {
    size_t image = padded((size_t)H * (size_t)W), row = padded((size_t)W);
    float *rows = base + 3 * image;
    Canvas canvas;
    for (size_t c = 0; c < 3; c++) {
        canvas.plane[c] = base + c * image;
        canvas.source[c] = rows + c * row;
        canvas.upper[c] = rows + (3 + c) * row;
        canvas.lower[c] = rows + (6 + c) * row;
    }
    canvas.left = (int32_t *)(rows + 9 * row);
    canvas.right = (int32_t *)(rows + 10 * row);
    canvas.share = rows + 11 * row;
    return canvas;
}

static void plan_columns(const ViewParams *params, int W, Canvas *canvas) {
    for (int x = 0; x < W; x++) {
        ViewSample s = views_sample(params->flip ? W - 1 - x : x, params->crop[3], W);
        canvas->left[x] = s.first;
        canvas->right[x] = s.first + (s.first < params->crop[3] - 1);
        canvas->share[x] = s.share;
    }
}

/* Row `y` of the crop, resampled to W columns. */
static void resample_row(const uint8_t *image, const ViewParams *params, int W, int y, const Canvas *canvas,
                         float *const out[3]) {
    int w = params->crop[3];
    const uint8_t *row = image + ((int64_t)(params->crop[0] + y) * W + params->crop[1]) * 3;
    float *restrict r = canvas->source[0], *restrict g = canvas->source[1], *restrict b = canvas->source[2];
    for (int x = 0; x < w; x++) {
        r[x] = views_unit(row[3 * x]);
        g[x] = views_unit(row[3 * x + 1]);
        b[x] = views_unit(row[3 * x + 2]);
    }
    const int32_t *restrict left = canvas->left, *restrict right = canvas->right;
    const float *restrict share = canvas->share;
    for (int c = 0; c < 3; c++) {
        const float *restrict source = canvas->source[c];
        float *restrict line = out[c];
#pragma omp simd
        for (int x = 0; x < W; x++)
            line[x] = views_mix(source[left[x]], source[right[x]], share[x]);
    }
}

static void swap_rows(Canvas *canvas) {
    for (int c = 0; c < 3; c++) {
        float *kept = canvas->upper[c];
        canvas->upper[c] = canvas->lower[c];
        canvas->lower[c] = kept;
    }
}

/* Crop, bilinear resize to H x W and flip, into the planes. Consecutive output rows share resampled source rows. */
static void resize_crop(const uint8_t *image, const ViewParams *params, int H, int W, Canvas *canvas) {
    plan_columns(params, W, canvas);
    int have_upper = -1, have_lower = -1;
    for (int y = 0; y < H; y++) {
        const ViewSample s = views_sample(y, params->crop[2], H);
        const int second = s.first + (s.first < params->crop[2] - 1);
        if (have_upper != s.first && have_lower == s.first) {
            swap_rows(canvas);
            have_upper = s.first;
            have_lower = -1;
        }
        if (have_upper != s.first) {
            resample_row(image, params, W, s.first, canvas, canvas->upper);
            have_upper = s.first;
        }
        if (have_lower != second) {
            resample_row(image, params, W, second, canvas, canvas->lower);
            have_lower = second;
        }
        for (int c = 0; c < 3; c++) {
            const float *restrict upper = canvas->upper[c], *restrict lower = canvas->lower[c];
            float *restrict out = canvas->plane[c] + (int64_t)y * W;
#pragma omp simd
            for (int x = 0; x < W; x++)
                out[x] = views_mix(upper[x], lower[x], s.share);
        }
    }
}

static void adjust_brightness(float *const plane[3], int64_t n, float factor) {
    for (int c = 0; c < 3; c++) {
        float *restrict p = plane[c];
        for (int64_t i = 0; i < n; i++)
            p[i] = views_brightness(p[i], factor);
    }
}

static void adjust_contrast(float *const plane[3], int64_t n, float factor) {
    const float *r = plane[0], *g = plane[1], *b = plane[2];
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)views_grey(r[i], g[i], b[i]);
    float offset = (1.0f - factor) * (float)(sum / (double)n);
    for (int c = 0; c < 3; c++) {
        float *restrict p = plane[c];
        for (int64_t i = 0; i < n; i++)
            p[i] = views_blend(p[i], factor, offset);
    }
}

static void adjust_saturation(float *const plane[3], int64_t n, float factor) {
    float *restrict r = plane[0], *restrict g = plane[1], *restrict b = plane[2];
    for (int64_t i = 0; i < n; i++) {
        float rgb[3] = {r[i], g[i], b[i]};
        views_saturation(rgb, factor);
        r[i] = rgb[0];
        g[i] = rgb[1];
        b[i] = rgb[2];
    }
}

static void adjust_hue(float *const plane[3], int64_t n, float turn) {
    float *restrict r = plane[0], *restrict g = plane[1], *restrict b = plane[2];
    for (int64_t i = 0; i < n; i++) {
        float rgb[3] = {r[i], g[i], b[i]};
        views_hue(rgb, turn);
        r[i] = rgb[0];
        g[i] = rgb[1];
        b[i] = rgb[2];
    }
}

static void make_grey(float *const plane[3], int64_t n) {
    float *restrict r = plane[0], *restrict g = plane[1], *restrict b = plane[2];
    for (int64_t i = 0; i < n; i++)
        r[i] = g[i] = b[i] = views_grey(r[i], g[i], b[i]);
}

static void jitter_colours(const ViewParams *params, float *const plane[3], int64_t n) {
    for (int k = 0; k < 4; k++) {
        int which = params->order[k];
        float factor = params->jitter[which];
        if (which == 0 && factor != 1.0f)
            adjust_brightness(plane, n, factor);
        else if (which == 1 && factor != 1.0f)
            adjust_contrast(plane, n, factor);
        else if (which == 2 && factor != 1.0f)
            adjust_saturation(plane, n, factor);
        else if (which == 3 && factor != 0.0f)
            adjust_hue(plane, n, factor);
    }
}

BODY write_normalised(DType type, const ViewSpec *spec, const Canvas *canvas, int64_t n, void *restrict out) {
    const float *restrict r = canvas->plane[0], *restrict g = canvas->plane[1], *restrict b = canvas->plane[2];
    float scale[3], shift[3];
    for (int c = 0; c < 3; c++) {
        scale[c] = 1.0f / spec->std[c];
        shift[c] = spec->mean[c];
    }
    for (int64_t i = 0; i < n; i++) {
        lane_store(type, out, 3 * i, (r[i] - shift[0]) * scale[0]);
        lane_store(type, out, 3 * i + 1, (g[i] - shift[1]) * scale[1]);
        lane_store(type, out, 3 * i + 2, (b[i] - shift[2]) * scale[2]);
    }
}

static void views_make_cpu(Device *device, const ViewSpec *spec, int64_t N, int H, int W, const uint8_t *images,
                           const int64_t *ids, DType type, void *out, ViewParams *params) {
    int64_t pixels = (int64_t)H * W;
    int parts = threads_for(device, N * pixels);
    size_t canvas_size = canvas_floats(H, W);
    float *scratch = cpu_scratch(device, (size_t)parts * canvas_size * sizeof(float));
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        Canvas canvas = canvas_at(scratch + (size_t)part * canvas_size, H, W);
        Part mine = part_of(N, parts, part, 1);
        for (int64_t n = mine.first; n < mine.last; n++) {
            ViewParams drawn;
            views_draw(spec, ids[n], H, W, &drawn);
            resize_crop(images + n * pixels * 3, &drawn, H, W, &canvas);
            if (drawn.jittered)
                jitter_colours(&drawn, canvas.plane, pixels);
            if (drawn.grey)
                make_grey(canvas.plane, pixels);
            void *view = lane_at_out(type, out, n * pixels * 3);
            if (type == DTYPE_BF16)
                write_normalised(DTYPE_BF16, spec, &canvas, pixels, view);
            else
                write_normalised(DTYPE_F32, spec, &canvas, pixels, view);
            if (params)
                params[n] = drawn;
        }
    }
}

const ViewsOps views_ops_cpu = {
    .make = views_make_cpu,
};
