/* ECE with the largest number of equal-mass bins whose accuracies do not fall. */
#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"

/* End of bin `index`, as calibration_bin cuts them. */
static int64_t bin_end(int64_t n, int64_t bins, int64_t index) {
    const int64_t longer = n % bins;
    return (index + 1) * (n / bins) + (index + 1 < longer ? index + 1 : longer);
}

/* Compares hits/count of neighbours crosswise: integers, or sums of shared outcomes, which are off by far less than the
 * margin. */
static int never_falls(const Forecasts *f, int64_t bins) {
    static const double margin = 1e-3;
    double last_hits = 0, last_count = 1;
    for (int64_t b = 0, first = 0; b < bins; b++) {
        const int64_t end = bin_end(f->n, bins, b);
        const double hits = f->hits_before[end] - f->hits_before[first], count = (double)(end - first);
        if (hits * last_count < last_hits * count - margin)
            return 0;
        last_hits = hits;
        last_count = count;
        first = end;
    }
    return 1;
}

static int64_t sweep(const Forecasts *f) {
    if (never_falls(f, f->n)) /* then no coarser bins fall either: no need to try them all */
        return f->n;
    int64_t bins = 1;
    while (never_falls(f, bins + 1))
        bins++;
    return bins;
}

double calibration_sweep(const Forecasts *f, int64_t *bins) {
    if (bins)
        *bins = 0;
    if (f->n < 1 || f->undefined)
        return NAN;
    const int64_t found = sweep(f);
    double sum = 0;
    for (int64_t b = 0, first = 0; b < found; b++) {
        const int64_t end = bin_end(f->n, found, b);
        double confidence = 0;
        for (int64_t i = first; i < end; i++)
            confidence += f->items[i].probability;
        sum += fabs(confidence - (f->hits_before[end] - f->hits_before[first]));
        first = end;
    }
    if (bins)
        *bins = found;
    return sum / (double)f->n;
}
