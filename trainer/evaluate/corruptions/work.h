/* What the corruptions share: the image under work, its random numbers, and filters. Internal to this folder.
 *
 * Images are doubles [side,side,channels], rows first, channels together; colours are 0 (black) to 1 (255). */
#ifndef EXCON_TRAINER_CORRUPTIONS_WORK_H
#define EXCON_TRAINER_CORRUPTIONS_WORK_H

#include "kernels/base/philox.h"
#include "trainer/evaluate/corruptions/corruptions.h"

enum { SIDE_MAX = 64, PIXELS_MAX = SIDE_MAX * SIDE_MAX, VALUES_MAX = 3 * PIXELS_MAX };

/* One thread's image. A corruption reads p, changes x, and may use y and z as it likes. x is clipped to 0..1 and
 * rounded to bytes by the caller. */
struct CorruptionWork {
    int side;
    const double *p; /* [CORRUPTION_PARAMETERS] of this size and severity */
    PhiloxReader draws;
    double x[VALUES_MAX]; /* the image [side,side,3] */
    double y[VALUES_MAX], z[VALUES_MAX];
    uint8_t bytes[VALUES_MAX];
    Status status; /* set by a corruption that failed, with the message in error */
    Error error;
};

/* ---- random numbers: one word of the generator each (a pair of words for a pair of normal numbers) ---- */

/* Uniform in (0, 1): the middles of 2^32 equal parts. */
double draw_unit(PhiloxReader *draws);
double draw_between(PhiloxReader *draws, double low, double high);
/* n (even) standard normal numbers, by pairs after Box and Muller: radius from the first word, angle from the second.
 */
void draw_normals(PhiloxReader *draws, double *out, int n);

/* ---- bytes ---- */

/* x [0,1] clipped and rounded to 0..255; halves go up. */
uint8_t to_byte(double x);
void bytes_from_image(const double *x, int count, uint8_t *bytes);
void image_from_bytes(const uint8_t *bytes, int count, double *x);

/* ---- filters ---- */

/* How an image goes on beyond its border: a a a|a b c d|d d d, c b a|a b c d|d c b, d c b|a b c d|c b a. */
typedef enum Border { BORDER_NEAREST, BORDER_REFLECT, BORDER_MIRROR } Border;

/* Index in 0..n-1 of what stands at i, any integer. */
int border_index(int i, int n, Border border);

/* Gaussian blur of x in place; weights at distances up to truncate * sigma, rounded, normalised. At most 64 of them a
 * side. `scratch` [side,side,channels]. */
void gaussian_filter(double *x, double *scratch, int side, int channels, double sigma, double truncate, Border border);

/* The central part of `in`, enlarged by percent / 100 to the same side, linearly: out [side,side,channels]. */
void clipped_zoom(const double *in, double *out, int side, int channels, int percent);

/* Streaks: the mean of the pixels along a line from each, at an angle of so many degrees, with the weights of half a
 * Gaussian over 2 * radius + 1 steps (ImageMagick's motion blur). out [side,side,channels]. */
void motion_filter(const double *in, double *out, int side, int channels, double radius, double sigma, double degrees);

/* The colour at (row, column), linear between pixels. out [3]. */
void sample_linear(const double *in, int side, double row, double column, Border border, double *out);

/* ---- the corruptions; what p holds stands at their definitions ---- */

void corrupt_gaussian_noise(CorruptionWork *w);
void corrupt_shot_noise(CorruptionWork *w);
void corrupt_impulse_noise(CorruptionWork *w);
void corrupt_speckle_noise(CorruptionWork *w);
void corrupt_defocus_blur(CorruptionWork *w);
void corrupt_glass_blur(CorruptionWork *w);
void corrupt_gaussian_blur(CorruptionWork *w);
void corrupt_motion_blur(CorruptionWork *w);
void corrupt_zoom_blur(CorruptionWork *w);
void corrupt_snow(CorruptionWork *w);
void corrupt_fog(CorruptionWork *w);
void corrupt_spatter(CorruptionWork *w);
void corrupt_brightness(CorruptionWork *w);
void corrupt_saturate(CorruptionWork *w);
void corrupt_contrast(CorruptionWork *w);
void corrupt_elastic_transform(CorruptionWork *w);
void corrupt_pixelate(CorruptionWork *w);
void corrupt_jpeg_compression(CorruptionWork *w);

#endif
