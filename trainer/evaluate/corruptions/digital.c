/* Digital: colour, geometry and coding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/images/encode.h"
#include "io/images/jpeg.h"
#include "trainer/evaluate/corruptions/work.h"

static double clip(double x) {
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

/* ---- colour ---- */

/* Hue in turns, saturation and value, each 0..1. A grey has hue 0 and saturation 0. */
static void hsv_from_rgb(const double *rgb, double *hsv) {
    const double r = rgb[0], g = rgb[1], b = rgb[2];
    const double high = r > g ? (r > b ? r : b) : (g > b ? g : b), low = r < g ? (r < b ? r : b) : (g < b ? g : b);
    const double range = high - low;
    hsv[0] = 0.0;
    hsv[1] = 0.0;
    hsv[2] = high;
    if (range == 0.0)
        return;
    const double sixths = high == b ? 4.0 + (r - g) / range : high == g ? 2.0 + (b - r) / range : (g - b) / range;
    hsv[0] = sixths / 6.0 < 0.0 ? sixths / 6.0 + 1.0 : sixths / 6.0;
    hsv[1] = range / high;
}

static void rgb_from_hsv(const double *hsv, double *rgb) {
    const double sixths = hsv[0] * 6.0, whole = floor(sixths), part = sixths - whole, s = hsv[1], v = hsv[2];
    const double low = v * (1.0 - s), falling = v * (1.0 - part * s), rising = v * (1.0 - (1.0 - part) * s);
    const double six[6][3] = {{v, rising, low},  {falling, v, low}, {low, v, rising},
                              {low, falling, v}, {rising, low, v},  {v, low, falling}};
    memcpy(rgb, six[(int)whole % 6], sizeof six[0]);
}

/* Channel `which` of hue, saturation, value becomes scale * itself + shift, clipped. */
static void change_hsv(CorruptionWork *w, int which, double scale, double shift) {
    for (int i = 0; i < w->side * w->side; i++) {
        double hsv[3];
        hsv_from_rgb(w->x + 3 * i, hsv);
        hsv[which] = clip(scale * hsv[which] + shift);
        rgb_from_hsv(hsv, w->x + 3 * i);
    }
}

/* p: what is added to the value (the largest of red, green and blue). */
void corrupt_brightness(CorruptionWork *w) {
    change_hsv(w, 2, 1.0, w->p[0]);
}

/* p: factor of the saturation, what is added to it. */
void corrupt_saturate(CorruptionWork *w) {
    change_hsv(w, 1, w->p[0], w->p[1]);
}

/* p: share of the distance to each channel's mean that stays. */
void corrupt_contrast(CorruptionWork *w) {
    const int pixels = w->side * w->side;
    for (int c = 0; c < 3; c++) {
        double sum = 0.0;
        for (int i = 0; i < pixels; i++)
            sum += w->x[3 * i + c];
        const double mean = sum / pixels;
        for (int i = 0; i < pixels; i++)
            w->x[3 * i + c] = (w->x[3 * i + c] - mean) * w->p[0] + mean;
    }
}

/* ---- geometry ---- */

/* Where a warped pixel comes from: (x, y) -> (m[0][0] x + m[0][1] y + m[0][2], m[1][0] x + ...). The map that takes
 * three corners of the central square, each moved by up to `reach` either way, back to where they were. */
static void draw_affine(PhiloxReader *draws, int side, double reach, double m[2][3]) {
    const double centre = side / 2, arm = side / 3;
    const double to[3][2] = {{centre + arm, centre + arm}, {centre + arm, centre - arm}, {centre - arm, centre - arm}};
    double from[3][2];
    for (int i = 0; i < 6; i++)
        from[i / 2][i % 2] = to[i / 2][i % 2] + draw_between(draws, -reach, reach);
    const double ax = from[1][0] - from[0][0], ay = from[1][1] - from[0][1];
    const double bx = from[2][0] - from[0][0], by = from[2][1] - from[0][1], area = ax * by - ay * bx;
    for (int k = 0; k < 2; k++) {
        const double a = to[1][k] - to[0][k], b = to[2][k] - to[0][k];
        m[k][0] = (a * by - b * ay) / area;
        m[k][1] = (b * ax - a * bx) / area;
        m[k][2] = to[0][k] - m[k][0] * from[0][0] - m[k][1] * from[0][1];
    }
}

/* Displacements of up to `strength` pixels, smoothed: out [side,side]. */
static void draw_displacement(PhiloxReader *draws, double *out, double *scratch, int side, double strength,
                              double sigma) {
    for (int i = 0; i < side * side; i++)
        out[i] = draw_between(draws, -1.0, 1.0);
    gaussian_filter(out, scratch, side, 1, sigma, 3.0, BORDER_REFLECT);
    for (int i = 0; i < side * side; i++)
        out[i] *= strength;
}

/* p, in sides: strength of the local displacement, standard deviation of its smoothing (0: no displacement), reach of
 * the corners of the affine map before it. */
void corrupt_elastic_transform(CorruptionWork *w) {
    const int side = w->side;
    double m[2][3], *right = w->z, *down = w->z + side * side, *scratch = w->z + 2 * side * side;
    draw_affine(&w->draws, side, w->p[2] * side, m);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            sample_linear(w->x, side, m[1][0] * x + m[1][1] * y + m[1][2], m[0][0] * x + m[0][1] * y + m[0][2],
                          BORDER_MIRROR, w->y + 3 * (y * side + x));
    draw_displacement(&w->draws, right, scratch, side, w->p[0] * side, w->p[1] * side);
    draw_displacement(&w->draws, down, scratch, side, w->p[0] * side, w->p[1] * side);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            sample_linear(w->y, side, y + down[y * side + x], x + right[y * side + x], BORDER_REFLECT,
                          w->x + 3 * (y * side + x));
}

/* ---- coding ---- */

/* Mean of `n` bytes a `stride` apart, rounded, halves up. */
static uint8_t mean_byte(const uint8_t *bytes, int n, int stride) {
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += bytes[i * stride];
    return (uint8_t)((2 * sum + n) / (2 * n));
}

/* First of `side` pixels whose centre lies in cell `cell` of `cells`, (cell, cell + 1] * side / cells. */
static int cell_start(int cell, int side, int cells) {
    return (2 * cell * side / cells + 1) / 2;
}

/* p: side of the coarse image in sides. Each of its pixels is the mean of the pixels whose centre it holds, first along
 * rows, then down columns, rounded to bytes each time (Pillow's box filter); enlarged again by repetition. */
void corrupt_pixelate(CorruptionWork *w) {
    const int side = w->side, cells = (int)(side * w->p[0] + 1e-9);
    uint8_t rows[PIXELS_MAX], coarse[PIXELS_MAX];
    bytes_from_image(w->x, 3 * side * side, w->bytes);
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < side * cells; i++) {
            const int start = cell_start(i % cells, side, cells), end = cell_start(i % cells + 1, side, cells);
            rows[i] = mean_byte(w->bytes + 3 * (i / cells * side + start) + c, end - start, 3);
        }
        for (int i = 0; i < cells * cells; i++) {
            const int start = cell_start(i / cells, side, cells), end = cell_start(i / cells + 1, side, cells);
            coarse[i] = mean_byte(rows + start * cells + i % cells, end - start, cells);
        }
        for (int i = 0; i < side * side; i++) {
            const int row = (2 * (i / side) + 1) * cells / (2 * side),
                      column = (2 * (i % side) + 1) * cells / (2 * side);
            w->x[3 * i + c] = coarse[row * cells + column] / 255.0;
        }
    }
}

/* p: quality, 1 to 100. Colour at half the resolution, as encoders do unless told otherwise. */
void corrupt_jpeg_compression(CorruptionWork *w) {
    const int side = w->side;
    uint8_t *file = NULL;
    size_t size = 0;
    bytes_from_image(w->x, 3 * side * side, w->bytes);
    w->status = image_encode_jpeg_half_colour(w->bytes, side, side, (int)w->p[0], &file, &size, &w->error);
    if (w->status == STATUS_OK)
        w->status = jpeg_decode("a corrupted image", file, size, side, side, w->bytes, &w->error);
    free(file);
    image_from_bytes(w->bytes, 3 * side * side, w->x);
}
