/* Smooth ECE on relplot's grids. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/evaluate/calibration/calibration.h"

/* relplot's constants: the narrowest kernel, bisections of its width, least numbers of points, and what keeps an empty
 * neighbourhood from dividing by zero. */
static const double least_width = 0.001, density_floor = 1e-4;
enum { BISECTIONS = 10, LEAST_MESH = 200, LEAST_POINTS = 2000 };

/* Kernel values below exp(-REACH^2 / 2) = 3e-18 of the largest are left out. */
static const double reach = 9;

typedef struct Grid {
    int64_t points; /* m, on 0..1, ends included */
    double *kernel; /* [m] centred on 1/2 */
    double *values; /* [3m-2] in the middle third what is smoothed, beside it its reflections */
    double *smooth; /* [m] */
} Grid;

static int64_t grid_points(double width) {
    return (int64_t)fmax(LEAST_POINTS, rint(20 / width)) / 2 + 1;
}

static Status grid_init(Grid *grid, Error *err) {
    const size_t m = (size_t)grid_points(ldexp(1, -BISECTIONS));
    double *block = calloc(5 * m, sizeof *block);
    *grid = (Grid){.kernel = block, .smooth = block + m, .values = block + 2 * m};
    return block ? STATUS_OK : error_set(err, STATUS_SYSTEM, "out of memory for a grid of %zu", m);
}

static void fill_kernel(Grid *grid, double width) {
    grid->points = grid_points(width);
    for (int64_t i = 0; i < grid->points; i++) {
        const double t = (double)i / (double)(grid->points - 1) - 0.5;
        grid->kernel[i] = exp(-t * t / (2 * width * width)) / (sqrt(2 * acos(-1.0)) * width);
    }
}

/* Each forecast's residual (or 1, for the density) on the two grid points beside it. */
static void scatter(Grid *grid, const Forecasts *f, int residuals) {
    const int64_t m = grid->points;
    double *middle = grid->values + m - 1;
    memset(grid->values, 0, (size_t)(3 * m - 2) * sizeof *grid->values);
    for (int64_t i = 0; i < f->n; i++) {
        const double at = f->items[i].probability * (double)(m - 1);
        const double weight = residuals ? f->items[i].probability - f->items[i].outcome : 1;
        const int64_t left = at < (double)(m - 2) ? (int64_t)at : m - 2;
        middle[left] += (1 - (at - (double)left)) * weight;
        middle[left + 1] += (at - (double)left) * weight;
    }
    for (int64_t i = 1; i < m; i++) {
        middle[-i] = middle[i];
        middle[m - 1 + i] = middle[m - 1 - i];
    }
}

static void convolve(Grid *grid, double width) {
    const int64_t m = grid->points, half = (int64_t)ceil(reach * width * (double)(m - 1));
    const int64_t first = m / 2 - half > 0 ? m / 2 - half : 0, last = m / 2 + half < m ? m / 2 + half : m - 1;
    for (int64_t i = 0; i < m; i++) {
        const double *values = grid->values + m / 2 + i;
        double sum = 0;
        for (int64_t j = first; j <= last; j++)
            sum += values[j] * grid->kernel[j];
        grid->smooth[i] = sum;
    }
}

/* Sum of |grid->smooth| over `mesh` points of 0..1, by linear interpolation. */
static double mesh_sum(const Grid *grid, int64_t mesh) {
    const int64_t m = grid->points;
    double sum = 0;
    for (int64_t i = 0; i < mesh; i++) {
        const double at = (double)i / (double)(mesh - 1) * (double)(m - 1);
        const int64_t left = at < (double)(m - 2) ? (int64_t)at : m - 2;
        const double part = at - (double)left;
        sum += fabs(grid->smooth[left] * (1 - part) + grid->smooth[left + 1] * part);
    }
    return sum;
}

static double smooth_at(Grid *grid, const Forecasts *f, double width) {
    const int64_t mesh = (int64_t)fmax(LEAST_MESH, rint(10 / width));
    fill_kernel(grid, width);
    scatter(grid, f, 1);
    convolve(grid, width);
    const double residual = mesh_sum(grid, mesh);
    scatter(grid, f, 0);
    convolve(grid, width);
    return residual / (mesh_sum(grid, mesh) + density_floor * (double)mesh);
}

/* The upper end of the last interval in which the width crosses the error of that width. */
static double find_width(Grid *grid, const Forecasts *f) {
    double above = 1, below = 0;
    for (int i = 0; i < BISECTIONS; i++) {
        const double middle = (above + below) / 2;
        if (middle < least_width || middle < smooth_at(grid, f, middle))
            below = middle;
        else
            above = middle;
    }
    return above;
}

Status calibration_smooth(const Forecasts *f, double *value, Error *err) {
    Grid grid;
    *value = NAN;
    if (f->n < 1 || f->undefined)
        return STATUS_OK;
    RETURN_IF(grid_init(&grid, err));
    *value = smooth_at(&grid, f, find_width(&grid, f));
    free(grid.kernel);
    return STATUS_OK;
}
