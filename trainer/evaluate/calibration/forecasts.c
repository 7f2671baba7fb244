/* Probabilities and outcomes of a classifier's output, sorted. */
#include <stdlib.h>

#include "trainer/evaluate/calibration/softmax.h"

static int by_probability(const void *a, const void *b) {
    const double x = ((const Forecast *)a)->probability, y = ((const Forecast *)b)->probability;
    return (x > y) - (x < y);
}

static Status allocate(Forecasts *f, int64_t n, Error *err) {
    *f = (Forecasts){.n = n};
    f->items = calloc((size_t)n + 1, sizeof *f->items);
    f->hits_before = calloc((size_t)n + 1, sizeof *f->hits_before);
    if (f->items && f->hits_before)
        return STATUS_OK;
    return error_set(err, STATUS_SYSTEM, "out of memory for %lld forecasts", (long long)n);
}

/* Forecasts first..last-1 have one probability: each takes the mean outcome. */
static void share_outcome(Forecasts *f, int64_t first, int64_t last) {
    double hits = 0;
    for (int64_t i = first; i < last; i++)
        hits += f->items[i].outcome;
    for (int64_t i = first; i < last; i++) {
        f->items[i].outcome = hits / (double)(last - first);
        f->hits_before[i + 1] = f->hits_before[first] + (double)(i + 1 - first) * hits / (double)(last - first);
    }
}

static void sort(Forecasts *f) {
    if (f->undefined)
        return;
    qsort(f->items, (size_t)f->n, sizeof *f->items, by_probability);
    for (int64_t first = 0, last; first < f->n; first = last) {
        last = first + 1;
        while (last < f->n && f->items[last].probability == f->items[first].probability)
            last++;
        share_outcome(f, first, last);
    }
}

Status forecasts_top_label(Forecasts *f, const ClassifierOutput *output, Error *err) {
    RETURN_IF(allocate(f, output->n, err));
    for (int64_t i = 0; i < output->n; i++) {
        const SoftmaxRow row = softmax_row(output, i);
        f->undefined += !row.defined;
        f->items[i] = (Forecast){1 / row.sum, row.best == row.label};
    }
    sort(f);
    return STATUS_OK;
}

Status forecasts_of_class(Forecasts *f, int64_t n, const SoftmaxRow *rows, int c, Error *err) {
    RETURN_IF(allocate(f, n, err));
    for (int64_t i = 0; i < n; i++) {
        f->undefined += !rows[i].defined;
        f->items[i] = (Forecast){softmax_probability(&rows[i], c), c == rows[i].label};
    }
    sort(f);
    return STATUS_OK;
}

void forecasts_free(Forecasts *f) {
    free(f->items);
    free(f->hits_before);
    *f = (Forecasts){0};
}
