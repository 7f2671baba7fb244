/* Blur: lens, glass, movement of the camera sideways and forwards. */
#include <math.h>
#include <string.h>

#include "trainer/evaluate/corruptions/portable_math.h"
#include "trainer/evaluate/corruptions/work.h"

/* p: standard deviation in pixels. */
void corrupt_gaussian_blur(CorruptionWork *w) {
    gaussian_filter(w->x, w->y, w->side, 3, w->p[0], 4.0, BORDER_NEAREST);
}

/* ---- defocus: a disk, its rim smoothed ---- */

enum { DISK_RADIUS = 4, DISK_SIDE = 2 * DISK_RADIUS + 1 }; /* radius 3 and one pixel of smoothing */

static void smooth_disk(double disk[DISK_SIDE][DISK_SIDE], double radius, double sigma) {
    double sharp[DISK_SIDE][DISK_SIDE], count = 0.0;
    for (int y = 0; y < DISK_SIDE; y++)
        for (int x = 0; x < DISK_SIDE; x++) {
            const int down = y - DISK_RADIUS, right = x - DISK_RADIUS;
            sharp[y][x] = down * down + right * right <= radius * radius;
            count += sharp[y][x];
        }
    const double side = portable_exp(-0.5 / (sigma * sigma)), whole = 1.0 + 2.0 * side;
    const double weights[3] = {side / whole, 1.0 / whole, side / whole};
    memset(disk, 0, sizeof sharp);
    for (int y = 1; y < DISK_SIDE - 1; y++)
        for (int x = 1; x < DISK_SIDE - 1; x++)
            for (int k = 0; k < 9; k++)
                disk[y + k / 3 - 1][x + k % 3 - 1] += weights[k / 3] * weights[k % 3] * sharp[y][x] / count;
}

/* p: radius of the disk in pixels (up to 3), standard deviation of its 3x3 smoothing. */
void corrupt_defocus_blur(CorruptionWork *w) {
    double disk[DISK_SIDE][DISK_SIDE], wide[3 * (SIDE_MAX + 2 * DISK_RADIUS)];
    const int side = w->side, row = 3 * side;
    smooth_disk(disk, w->p[0], w->p[1]);
    memset(w->y, 0, sizeof w->y);
    for (int y = 0; y < side; y++)
        for (int down = 0; down < DISK_SIDE; down++) {
            const double *from = w->x + border_index(y + down - DISK_RADIUS, side, BORDER_MIRROR) * row;
            for (int i = 0; i < side + 2 * DISK_RADIUS; i++)
                memcpy(wide + 3 * i, from + 3 * border_index(i - DISK_RADIUS, side, BORDER_MIRROR), 3 * sizeof *wide);
            for (int right = 0; right < DISK_SIDE; right++)
                for (int i = 0; i < row && disk[down][right] > 0.0; i++)
                    w->y[y * row + i] += disk[down][right] * wide[3 * right + i];
        }
    memcpy(w->x, w->y, sizeof w->x);
}

/* ---- glass: neighbours change places between two blurs ---- */

static void swap_pixels(double *a, double *b) {
    for (int c = 0; c < 3; c++) {
        const double kept = a[c];
        a[c] = b[c];
        b[c] = kept;
    }
}

/* p: standard deviation of the blurs in pixels, reach of a swap in pixels, passes. From the lower right corner on, each
 * pixel changes places with one -reach to reach - 1 columns and rows away. */
void corrupt_glass_blur(CorruptionWork *w) {
    const int side = w->side, reach = (int)w->p[1];
    gaussian_filter(w->x, w->y, side, 3, w->p[0], 4.0, BORDER_NEAREST);
    for (int pass = 0; pass < (int)w->p[2]; pass++)
        for (int y = side - reach; y > reach; y--)
            for (int x = side - reach; x > reach; x--) {
                const int right = (int)philox_next_below(&w->draws, (uint32_t)(2 * reach)) - reach;
                const int down = (int)philox_next_below(&w->draws, (uint32_t)(2 * reach)) - reach;
                swap_pixels(w->x + 3 * (y * side + x), w->x + 3 * ((y + down) * side + x + right));
            }
    gaussian_filter(w->x, w->y, side, 3, w->p[0], 4.0, BORDER_NEAREST);
}

/* ---- movement ---- */

/* p: radius and standard deviation of the streaks in pixels; their angle is within 45 degrees of horizontal. */
void corrupt_motion_blur(CorruptionWork *w) {
    motion_filter(w->x, w->y, w->side, 3, w->p[0], w->p[1], draw_between(&w->draws, -45.0, 45.0));
    memcpy(w->x, w->y, sizeof w->x);
}

/* p: number of steps n. The mean of the image, and of it enlarged by 1.00, 1.01, ... 1 + n / 100. */
void corrupt_zoom_blur(CorruptionWork *w) {
    const int steps = (int)w->p[0], values = 3 * w->side * w->side;
    memcpy(w->y, w->x, sizeof w->y);
    for (int step = 0; step <= steps; step++) {
        clipped_zoom(w->x, w->z, w->side, 3, 100 + step);
        for (int i = 0; i < values; i++)
            w->y[i] += w->z[i];
    }
    for (int i = 0; i < values; i++)
        w->x[i] = w->y[i] / (steps + 2);
}
