/* Bins of sorted forecasts, one at a time. */
#include "trainer/evaluate/calibration/calibration.h"

static int64_t end_by_width(const Forecasts *f, int bins, int index, int64_t first) {
    const double edge = (double)(index + 1) / bins;
    int64_t end = first;
    while (end < f->n && (index == bins - 1 || f->items[end].probability < edge))
        end++;
    return end;
}

static int64_t end_by_mass(const Forecasts *f, int bins, int index, int64_t first) {
    return first + f->n / bins + (index < f->n % bins);
}

CalibrationBin calibration_bin(const Forecasts *f, BinKind kind, int bins, int index, int64_t first) {
    const int64_t end =
        kind == BINS_EQUAL_WIDTH ? end_by_width(f, bins, index, first) : end_by_mass(f, bins, index, first);
    CalibrationBin bin = {.first = first, .count = end - first};
    for (int64_t i = first; i < end; i++) {
        bin.confidence += f->items[i].probability;
        bin.accuracy += f->items[i].outcome;
    }
    if (bin.count > 0) {
        bin.confidence /= (double)bin.count;
        bin.accuracy /= (double)bin.count;
    }
    if (kind == BINS_EQUAL_WIDTH) {
        bin.low = (double)index / bins;
        bin.high = (double)(index + 1) / bins;
    } else if (bin.count > 0) {
        bin.low = f->items[first].probability;
        bin.high = f->items[end - 1].probability;
    }
    return bin;
}
