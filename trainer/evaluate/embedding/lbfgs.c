#include "trainer/evaluate/embedding/lbfgs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY = 10, LINE_STEPS = 40 };

/* Sufficient decrease and curvature of the weak Wolfe conditions, and by how much a value may be off by rounding. */
static const double decrease = 1e-4, curvature = 0.9, rounding = 1e-14;

typedef struct Lbfgs {
    int64_t n;
    LbfgsFunction function;
    void *context;
    double *x, *gradient;           /* [n] where it stands (x: the caller's) */
    double *trial, *trial_gradient; /* [n] where the line search looks */
    double *direction;              /* [n] */
    double *steps, *changes;        /* [MEMORY,n] of x, of the gradient; past number i in row i % MEMORY */
    double inverse[MEMORY];         /* 1 / (step . change) */
    int stored;                     /* pairs ever kept */
    double value;
} Lbfgs;

static double dot(int64_t n, const double *a, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double largest(int64_t n, const double *a) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(a[i]))
            return NAN;
        most = fmax(most, fabs(a[i]));
    }
    return most;
}

static void add(int64_t n, double factor, const double *a, double *to) {
    for (int64_t i = 0; i < n; i++)
        to[i] += factor * a[i];
}

/* direction = -(inverse Hessian of the stored pairs) gradient, by the two-loop recursion. */
static void find_direction(Lbfgs *l) {
    const int first = l->stored > MEMORY ? l->stored - MEMORY : 0;
    double alpha[MEMORY];
    for (int64_t i = 0; i < l->n; i++)
        l->direction[i] = -l->gradient[i];
    for (int p = l->stored - 1; p >= first; p--) {
        const int row = p % MEMORY;
        alpha[row] = l->inverse[row] * dot(l->n, l->steps + row * l->n, l->direction);
        add(l->n, -alpha[row], l->changes + row * l->n, l->direction);
    }
    if (l->stored > 0) {
        const int row = (l->stored - 1) % MEMORY;
        const double *change = l->changes + row * l->n, scale = 1 / (l->inverse[row] * dot(l->n, change, change));
        for (int64_t i = 0; i < l->n; i++)
            l->direction[i] *= scale;
    }
    for (int p = first; p < l->stored; p++) {
        const int row = p % MEMORY;
        const double beta = l->inverse[row] * dot(l->n, l->changes + row * l->n, l->direction);
        add(l->n, alpha[row] - beta, l->steps + row * l->n, l->direction);
    }
}

/* Whether the value fell enough. Near a minimum its fall drowns in rounding long before the gradient is small; there
 * the slope, which is the same test for a parabola, says whether it did (Hager & Zhang 2005). */
static int falls_enough(const Lbfgs *l, double step, double slope, double value, double slope_there) {
    if (value <= l->value + decrease * step * slope)
        return 1;
    return value <= l->value + rounding * fabs(l->value) && slope_there <= (2 * decrease - 1) * slope;
}

/* A step along the direction that meets both conditions, by doubling and halving; trial and its gradient are left
 * there. Returns 0 when there is none that rounding lets see. */
static int line_search(Lbfgs *l, double step, double *value) {
    const double slope = dot(l->n, l->gradient, l->direction);
    double low = 0, high = INFINITY;
    if (!(slope < 0))
        return 0;
    for (int i = 0; i < LINE_STEPS; i++) {
        memcpy(l->trial, l->x, sizeof *l->x * (size_t)l->n);
        add(l->n, step, l->direction, l->trial);
        *value = l->function(l->context, l->trial, l->trial_gradient);
        const double slope_there = dot(l->n, l->trial_gradient, l->direction);
        if (!falls_enough(l, step, slope, *value, slope_there))
            high = step;
        else if (slope_there < curvature * slope)
            low = step;
        else
            return 1;
        step = isinf(high) ? 2 * step : (low + high) / 2;
    }
    return 0;
}

/* The step just taken and what it did to the gradient; a pair that rounding left without curvature would spoil the
 * rest. */
static void keep_pair(Lbfgs *l) {
    const int row = l->stored % MEMORY;
    double product = 0;
    for (int64_t i = 0; i < l->n; i++)
        product += (l->trial[i] - l->x[i]) * (l->trial_gradient[i] - l->gradient[i]);
    if (!(product > 0))
        return;
    for (int64_t i = 0; i < l->n; i++) {
        l->steps[row * l->n + i] = l->trial[i] - l->x[i];
        l->changes[row * l->n + i] = l->trial_gradient[i] - l->gradient[i];
    }
    l->inverse[row] = 1 / product;
    l->stored++;
}

static void iterate(Lbfgs *l, const LbfgsOptions *options, LbfgsReport *report) {
    const size_t bytes = sizeof *l->x * (size_t)l->n;
    l->value = l->function(l->context, l->x, l->gradient);
    for (;;) {
        report->value = l->value;
        report->gradient = largest(l->n, l->gradient);
        report->converged = report->gradient <= options->tolerance;
        if (report->converged || report->iterations >= options->most_iterations)
            return;
        find_direction(l);
        double value;
        if (!line_search(l, l->stored ? 1 : 1 / sqrt(dot(l->n, l->gradient, l->gradient)), &value))
            return;
        keep_pair(l);
        memcpy(l->x, l->trial, bytes);
        memcpy(l->gradient, l->trial_gradient, bytes);
        l->value = value;
        report->iterations++;
    }
}

Status lbfgs_minimise(int64_t n, double *x, LbfgsFunction function, void *context, const LbfgsOptions *options,
                      LbfgsReport *report, Error *err) {
    double *block = calloc((size_t)n * (4 + 2 * MEMORY) + 1, sizeof *block);
    if (!block)
        return error_set(err, STATUS_SYSTEM, "out of memory to fit %lld numbers", (long long)n);
    Lbfgs l = {.n = n,
               .function = function,
               .context = context,
               .x = x,
               .gradient = block,
               .trial = block + n,
               .trial_gradient = block + 2 * n,
               .direction = block + 3 * n,
               .steps = block + 4 * n,
               .changes = block + (4 + MEMORY) * n};
    *report = (LbfgsReport){0};
    iterate(&l, options, report);
    free(block);
    return STATUS_OK;
}
