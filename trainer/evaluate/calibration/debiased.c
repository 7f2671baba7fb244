/* Calibration error without the part that finite bins add. */
#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"

double calibration_debiased(const Forecasts *f, int bins) {
    if (f->n < 2 || f->undefined)
        return NAN;
    if (bins > f->n / 2)
        bins = (int)(f->n / 2);
    double sum = 0;
    int64_t first = 0;
    for (int b = 0; b < bins; b++) {
        const CalibrationBin bin = calibration_bin(f, BINS_EQUAL_MASS, bins, b, first);
        const double gap = bin.confidence - bin.accuracy, n = (double)bin.count;
        sum += n * (gap * gap - bin.accuracy * (1 - bin.accuracy) / (n - 1));
        first += bin.count;
    }
    return sum > 0 ? sqrt(sum / (double)f->n) : 0;
}
