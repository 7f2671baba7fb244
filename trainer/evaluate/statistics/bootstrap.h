/* Bootstrap intervals (Efron 1979): how far a mean is known from the samples it was taken over.
 *
 * Percentile intervals: samples are drawn anew with replacement, and the interval is what the middle `level` of the
 * means of those draws spans. Draws come from Philox and depend on seed, draw and number of samples alone. With five
 * samples or so, as with seeds of a run, the interval is too narrow: at five it holds the mean in about 82 % of cases
 * where 95 % are asked for. */
#ifndef EXCON_TRAINER_BOOTSTRAP_H
#define EXCON_TRAINER_BOOTSTRAP_H

#include <stdint.h>

#include "kernels/base/status.h"

typedef struct BootstrapOptions {
    double level;   /* share of draws inside the interval, e.g. 0.95 */
    int replicates; /* draws, at least 1 */
    uint64_t seed;
} BootstrapOptions;

typedef struct Interval {
    double estimate; /* mean of the samples themselves */
    double low, high;
} Interval;

/* Mean of values [n]. All NaN for n = 0 and where a value is NaN; no interval, low and high NaN, for n = 1. n is below
 * 2^32. STATUS_SYSTEM without memory. */
Status bootstrap_mean(int64_t n, const double *values, const BootstrapOptions *options, Interval *out, Error *err);

/* Mean of a[i] - b[i]: paired, as by a seed or an image that both have in common. */
Status bootstrap_difference(int64_t n, const double *a, const double *b, const BootstrapOptions *options, Interval *out,
                            Error *err);

/* Sorts values [n] in place and sets the quantiles (1 - level) / 2 and (1 + level) / 2; NaN for n = 0. */
void bootstrap_percentiles(int64_t n, double *values, double level, double *low, double *high);

/* Quantile q, 0..1, of ascending values [n], n > 0, linear between neighbours (numpy.quantile's default). */
double quantile_of_sorted(int64_t n, const double *values, double q);

#endif
