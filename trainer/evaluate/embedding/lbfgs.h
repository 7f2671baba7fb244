/* Minimisation of a smooth function by L-BFGS (Liu & Nocedal 1989), in double. */
#ifndef EXCON_TRAINER_LBFGS_H
#define EXCON_TRAINER_LBFGS_H

#include <stdint.h>

#include "kernels/base/status.h"

/* The function's value at x [n]; fills gradient [n]. */
typedef double (*LbfgsFunction)(void *context, const double *x, double *gradient);

typedef struct LbfgsOptions {
    int most_iterations;
    double tolerance; /* done when no element of the gradient is larger */
} LbfgsOptions;

typedef struct LbfgsReport {
    int iterations;
    double value, gradient; /* at the end; the gradient's largest element */
    int converged;          /* else: most_iterations, or rounding lets no step lower the value any more */
} LbfgsReport;

/* From x [n] to a minimum near it, in place. Ten past steps are kept; a line search finds steps that meet the weak
 * Wolfe conditions. STATUS_SYSTEM without memory. */
Status lbfgs_minimise(int64_t n, double *x, LbfgsFunction function, void *context, const LbfgsOptions *options,
                      LbfgsReport *report, Error *err);

#endif
