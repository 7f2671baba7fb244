#include "trainer/evaluate/statistics/bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/base/philox.h"

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile_of_sorted(int64_t n, const double *values, double q) {
    const double at = q * (double)(n - 1);
    const int64_t left = (int64_t)floor(at);
    if (left >= n - 1)
        return values[n - 1];
    return values[left] + (at - (double)left) * (values[left + 1] - values[left]);
}

void bootstrap_percentiles(int64_t n, double *values, double level, double *low, double *high) {
    *low = *high = NAN;
    if (n < 1)
        return;
    qsort(values, (size_t)n, sizeof *values, ascending);
    *low = quantile_of_sorted(n, values, (1 - level) / 2);
    *high = quantile_of_sorted(n, values, (1 + level) / 2);
}

static double mean_of(int64_t n, const double *values) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += values[i];
    return sum / (double)n;
}

static double mean_of_draw(int64_t n, const double *values, uint64_t seed, int replicate) {
    PhiloxReader reader = philox_reader(seed, PHILOX_BOOTSTRAP, (uint64_t)replicate, 0);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += values[philox_next_below(&reader, (uint32_t)n)];
    return sum / (double)n;
}

Status bootstrap_mean(int64_t n, const double *values, const BootstrapOptions *options, Interval *out, Error *err) {
    *out = (Interval){n > 0 ? mean_of(n, values) : NAN, NAN, NAN};
    if (n < 2 || isnan(out->estimate))
        return STATUS_OK;
    double *means = malloc(sizeof *means * (size_t)options->replicates);
    if (!means)
        return error_set(err, STATUS_SYSTEM, "out of memory for %d bootstrap draws", options->replicates);
    for (int r = 0; r < options->replicates; r++)
        means[r] = mean_of_draw(n, values, options->seed, r);
    bootstrap_percentiles(options->replicates, means, options->level, &out->low, &out->high);
    free(means);
    return STATUS_OK;
}

Status bootstrap_difference(int64_t n, const double *a, const double *b, const BootstrapOptions *options, Interval *out,
                            Error *err) {
    double *differences = malloc(sizeof *differences * ((size_t)n + 1));
    if (!differences)
        return error_set(err, STATUS_SYSTEM, "out of memory for %lld differences", (long long)n);
    for (int64_t i = 0; i < n; i++)
        differences[i] = a[i] - b[i];
    const Status status = bootstrap_mean(n, differences, options, out, err);
    free(differences);
    return status;
}
