/* Noise: every colour value of every pixel by itself. */
#include <math.h>

#include "trainer/evaluate/corruptions/portable_math.h"
#include "trainer/evaluate/corruptions/work.h"

/* p: standard deviation. */
void corrupt_gaussian_noise(CorruptionWork *w) {
    const int values = 3 * w->side * w->side;
    draw_normals(&w->draws, w->y, values);
    for (int i = 0; i < values; i++)
        w->x[i] += w->p[0] * w->y[i];
}

/* p: standard deviation for white; in proportion to the value for less. */
void corrupt_speckle_noise(CorruptionWork *w) {
    const int values = 3 * w->side * w->side;
    draw_normals(&w->draws, w->y, values);
    for (int i = 0; i < values; i++)
        w->x[i] += w->x[i] * (w->p[0] * w->y[i]);
}

/* p: share of values that become 0 or 1, half of them each. */
void corrupt_impulse_noise(CorruptionWork *w) {
    for (int i = 0; i < 3 * w->side * w->side; i++) {
        const double u = draw_unit(&w->draws);
        if (u < w->p[0])
            w->x[i] = u < 0.5 * w->p[0] ? 1.0 : 0.0;
    }
}

/* ---- shot noise: a number of photons, after Poisson, by inverting the distribution function ---- */

enum { PHOTONS_MAX = 500 };

/* below[k]: probability of at most k photons, k < n, when `mean` are expected. */
static void poisson_distribution(double mean, int n, double *below) {
    double term = portable_exp(-mean), sum = 0.0;
    for (int k = 0; k < n; k++) {
        sum += term;
        below[k] = sum;
        term *= mean / (k + 1);
    }
}

/* The smallest k with u <= below[k], or n. */
static int poisson_invert(const double *below, int n, double u) {
    int low = 0, high = n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (u <= below[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* p: photons for white, at most PHOTONS_MAX. More than that clip to white, so that their exact number does not matter.
 */
void corrupt_shot_noise(CorruptionWork *w) {
    const int values = 3 * w->side * w->side, white = (int)w->p[0];
    double below[PHOTONS_MAX];
    bytes_from_image(w->x, values, w->bytes);
    for (int i = 0; i < values; i++)
        w->y[i] = draw_unit(&w->draws);
    for (int grey = 0; grey < 256; grey++) {
        int known = 0;
        for (int i = 0; i < values; i++) {
            if (w->bytes[i] != grey)
                continue;
            if (!known)
                poisson_distribution(grey / 255.0 * white, white, below);
            known = 1;
            w->x[i] = (double)poisson_invert(below, white, w->y[i]) / white;
        }
    }
}
