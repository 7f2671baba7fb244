#include "trainer/evaluate/corruptions/work.h"

#include <math.h>
#include <string.h>

#include "trainer/evaluate/corruptions/portable_math.h"

double draw_unit(PhiloxReader *draws) {
    return ((double)philox_next(draws) + 0.5) * (1.0 / 4294967296.0);
}

double draw_between(PhiloxReader *draws, double low, double high) {
    return low + (high - low) * draw_unit(draws);
}

void draw_normals(PhiloxReader *draws, double *out, int n) {
    for (int i = 0; i < n; i += 2) {
        double sine, cosine;
        const double radius = sqrt(-2.0 * portable_log(draw_unit(draws)));
        portable_sincos(draw_unit(draws), &sine, &cosine);
        out[i] = radius * cosine;
        out[i + 1] = radius * sine;
    }
}

uint8_t to_byte(double x) {
    return x <= 0.0 ? 0 : x >= 1.0 ? 255 : (uint8_t)(x * 255.0 + 0.5);
}

void bytes_from_image(const double *x, int count, uint8_t *bytes) {
    for (int i = 0; i < count; i++)
        bytes[i] = to_byte(x[i]);
}

void image_from_bytes(const uint8_t *bytes, int count, double *x) {
    for (int i = 0; i < count; i++)
        x[i] = bytes[i] / 255.0;
}

int border_index(int i, int n, Border border) {
    if (border == BORDER_NEAREST)
        return i < 0 ? 0 : i >= n ? n - 1 : i;
    const int last = border == BORDER_REFLECT ? 2 * n - 1 : 2 * n - 2, period = border == BORDER_REFLECT ? 2 * n : last;
    i %= period;
    if (i < 0)
        i += period;
    return i < n ? i : last - i;
}

/* ---- Gaussian blur: down the columns, then along the rows ---- */

enum { RADIUS_MAX = 64 };

static int gaussian_weights(double *weights, double sigma, double truncate) {
    const int radius = (int)(truncate * sigma + 0.5);
    double sum = 0.0;
    for (int k = -radius; k <= radius; k++)
        sum += weights[k + radius] = radius == 0 ? 1.0 : portable_exp(-0.5 * k * k / (sigma * sigma));
    for (int k = 0; k <= 2 * radius; k++)
        weights[k] /= sum;
    return radius;
}

static void add_weighted(double *sum, double weight, const double *values, int n) {
    for (int i = 0; i < n; i++)
        sum[i] += weight * values[i];
}

void gaussian_filter(double *x, double *scratch, int side, int channels, double sigma, double truncate, Border border) {
    double weights[2 * RADIUS_MAX + 1] = {0}, wide[3 * (SIDE_MAX + 2 * RADIUS_MAX)];
    const int radius = gaussian_weights(weights, sigma, truncate), row = side * channels;
    memset(scratch, 0, sizeof *scratch * (size_t)(side * row));
    for (int y = 0; y < side; y++)
        for (int k = 0; k <= 2 * radius; k++)
            add_weighted(scratch + y * row, weights[k], x + border_index(y + k - radius, side, border) * row, row);
    memset(x, 0, sizeof *x * (size_t)(side * row));
    for (int y = 0; y < side; y++) {
        for (int i = 0; i < side + 2 * radius; i++)
            memcpy(wide + i * channels, scratch + y * row + border_index(i - radius, side, border) * channels,
                   sizeof *wide * (size_t)channels);
        for (int k = 0; k <= 2 * radius; k++)
            add_weighted(x + y * row, weights[k], wide + k * channels, row);
    }
}

/* ---- zoom, streaks, interpolation ---- */

/* Quotient rounded to the nearest integer, halves to the even one. */
static int divide_to_even(int a, int b) {
    const int low = a / b, rest = 2 * (a % b);
    return rest > b || (rest == b && low % 2) ? low + 1 : low;
}

void clipped_zoom(const double *in, double *out, int side, int channels, int percent) {
    const int crop = (100 * side + percent - 1) / percent, top = (side - crop) / 2;
    const int full = divide_to_even(crop * percent, 100), trim = (full - side) / 2;
    int low[SIDE_MAX], high[SIDE_MAX];
    double share[SIDE_MAX];
    for (int i = 0; i < side; i++) {
        const int place = (i + trim) * (crop - 1); /* in units of 1 / (full - 1) pixel */
        low[i] = place / (full - 1);
        high[i] = low[i] + (low[i] < crop - 1);
        share[i] = (double)(place % (full - 1)) / (full - 1);
    }
    in += (top * side + top) * channels;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < channels; c++) {
                const double *upper = in + low[y] * side * channels + c, *lower = in + high[y] * side * channels + c;
                const double a = upper[low[x] * channels], b = upper[high[x] * channels];
                const double d = lower[low[x] * channels], e = lower[high[x] * channels];
                const double first = a + share[x] * (b - a), second = d + share[x] * (e - d);
                *out++ = first + share[y] * (second - first);
            }
}

void motion_filter(const double *in, double *out, int side, int channels, double radius, double sigma, double degrees) {
    const int steps = 2 * (int)ceil(radius) + 1, row = side * channels;
    double weights[2 * SIDE_MAX + 1], sine, cosine, sum = 0.0;
    for (int i = 0; i < steps; i++)
        sum += weights[i] = portable_exp(-0.5 * i * i / (sigma * sigma));
    portable_sincos(degrees / 360.0, &sine, &cosine);
    memset(out, 0, sizeof *out * (size_t)(side * row));
    for (int i = 0; i < steps; i++) {
        const int down = (int)ceil(i * sine - 0.5), right = (int)ceil(i * cosine - 0.5);
        for (int y = 0; y < side; y++) {
            const double *from = in + border_index(y + down, side, BORDER_NEAREST) * row;
            for (int x = 0; x < side; x++)
                add_weighted(out + y * row + x * channels, weights[i] / sum,
                             from + border_index(x + right, side, BORDER_NEAREST) * channels, channels);
        }
    }
}

void sample_linear(const double *in, int side, double row, double column, Border border, double *out) {
    const double top = floor(row), left = floor(column), down = row - top, right = column - left;
    const int y[2] = {border_index((int)top, side, border), border_index((int)top + 1, side, border)};
    const int x[2] = {border_index((int)left, side, border), border_index((int)left + 1, side, border)};
    for (int c = 0; c < 3; c++) {
        const double *upper = in + y[0] * side * 3 + c, *lower = in + y[1] * side * 3 + c;
        const double first = upper[3 * x[0]] + right * (upper[3 * x[1]] - upper[3 * x[0]]);
        const double second = lower[3 * x[0]] + right * (lower[3 * x[1]] - lower[3 * x[0]]);
        out[c] = first + down * (second - first);
    }
}
