/* Calibration error over fixed bins: expected and maximum. */
#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"

double calibration_ece(const Forecasts *f, BinKind kind, int bins) {
    if (f->n < 1 || f->undefined)
        return NAN;
    double sum = 0;
    int64_t first = 0;
    for (int b = 0; b < bins; b++) {
        const CalibrationBin bin = calibration_bin(f, kind, bins, b, first);
        sum += (double)bin.count * fabs(bin.confidence - bin.accuracy);
        first += bin.count;
    }
    return sum / (double)f->n;
}

double calibration_mce(const Forecasts *f, int bins) {
    if (f->n < 1 || f->undefined)
        return NAN;
    double most = 0;
    int64_t first = 0;
    for (int b = 0; b < bins; b++) {
        const CalibrationBin bin = calibration_bin(f, BINS_EQUAL_WIDTH, bins, b, first);
        most = fmax(most, fabs(bin.confidence - bin.accuracy));
        first += bin.count;
    }
    return most;
}
