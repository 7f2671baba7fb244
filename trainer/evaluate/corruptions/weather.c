/* Weather: snow and fog over the image. Spatter has its own file. */
#include <math.h>

#include "trainer/evaluate/corruptions/work.h"

static double clip(double x) {
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

/* p: mean and standard deviation of the noise that flakes are made of, their enlargement, the threshold below which
 * there is none, radius and standard deviation in pixels of their streaks (-135 to -45 degrees), how much of the
 * image's colour stays. The layer of flakes is added as it is and turned by half a turn, over an image that gets
 * whiter. */
void corrupt_snow(CorruptionWork *w) {
    const int side = w->side, pixels = side * side;
    const double *p = w->p;
    double *flakes = w->y, *layer = w->z;
    draw_normals(&w->draws, layer, pixels);
    for (int i = 0; i < pixels; i++)
        layer[i] = p[0] + p[1] * layer[i];
    clipped_zoom(layer, flakes, side, 1, (int)(100.0 * p[2] + 0.5));
    for (int i = 0; i < pixels; i++)
        flakes[i] = flakes[i] < p[3] ? 0.0 : clip(flakes[i]);
    motion_filter(flakes, layer, side, 1, p[4], p[5], draw_between(&w->draws, -135.0, -45.0));
    for (int i = 0; i < pixels; i++) {
        double *x = w->x + 3 * i;
        const double white = 1.5 * (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]) + 0.5;
        const double snow = layer[i] + layer[pixels - 1 - i];
        for (int c = 0; c < 3; c++)
            x[c] = p[6] * x[c] + (1.0 - p[6]) * (x[c] > white ? x[c] : white) + snow;
    }
}

/* ---- fog ---- */

/* A height map by the diamond-square method, periodic, from 0 to 1: midpoints of ever smaller squares are the mean of
 * four neighbours and noise, whose standard deviation falls by `decay` squared at each halving. `side` is a power of
 * two. */
static void fractal_heights(PhiloxReader *draws, double *heights, int side, double decay) {
    double wibble = 100.0;
    const int mask = side - 1;
    heights[0] = 0.0;
    for (int step = side; step >= 2; step /= 2, wibble /= decay) {
        const int half = step / 2;
        const struct {
            int y, x;              /* the first midpoint; the others are `step` apart */
            int down[2], right[2]; /* two neighbours: (down, right), and two more at its negative */
        } kinds[3] = {{half, half, {half, half}, {half, -half}}, /* of squares: their corners */
                      {0, half, {half, 0}, {0, half}},           /* of horizontal edges */
                      {half, 0, {half, 0}, {0, half}}};          /* of vertical edges */
        for (int k = 0; k < 3; k++)
            for (int y = kinds[k].y; y < side; y += step)
                for (int x = kinds[k].x; x < side; x += step) {
                    double sum = 0.0;
                    for (int n = 0; n < 4; n++) {
                        const int sign = n < 2 ? 1 : -1;
                        const int row = (y + sign * kinds[k].down[n % 2]) & mask;
                        sum += heights[row * side + ((x + sign * kinds[k].right[n % 2]) & mask)];
                    }
                    heights[y * side + x] = sum / 4.0 + wibble * draw_between(draws, -wibble, wibble);
                }
    }
    double low = heights[0], high = heights[0];
    for (int i = 0; i < side * side; i++) {
        low = heights[i] < low ? heights[i] : low;
        high = heights[i] > high ? heights[i] : high;
    }
    for (int i = 0; i < side * side; i++)
        heights[i] = (heights[i] - low) / (high - low);
}

/* p: thickness, decay of the heights' noise. The brightest value stays what it was. */
void corrupt_fog(CorruptionWork *w) {
    const int pixels = w->side * w->side;
    double brightest = 0.0;
    for (int i = 0; i < 3 * pixels; i++)
        brightest = w->x[i] > brightest ? w->x[i] : brightest;
    fractal_heights(&w->draws, w->y, w->side, w->p[1]);
    for (int i = 0; i < 3 * pixels; i++)
        w->x[i] = (w->x[i] + w->p[0] * w->y[i / 3]) * brightest / (brightest + w->p[0]);
}
