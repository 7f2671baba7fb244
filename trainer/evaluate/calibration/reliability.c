/* Reliability diagram: bins and how far their accuracies are known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/philox.h"
#include "trainer/evaluate/calibration/calibration.h"

typedef struct Draws {
    int32_t *bin;     /* [n] of each sorted forecast */
    double *hits;     /* [bins] of one draw */
    double *count;    /* [bins] */
    double *accuracy; /* [bins, replicates], the first `known` of a row */
    int *known;       /* [bins] */
} Draws;

static void draws_free(Draws *d) {
    free(d->bin);
    free(d->hits);
    free(d->count);
    free(d->accuracy);
    free(d->known);
}

static Status draws_init(Draws *d, int64_t n, int bins, int replicates, Error *err) {
    const size_t B = (size_t)bins;
    *d = (Draws){.bin = calloc((size_t)n + 1, sizeof *d->bin),
                 .hits = calloc(B, sizeof *d->hits),
                 .count = calloc(B, sizeof *d->count),
                 .accuracy = calloc(B * (size_t)replicates + 1, sizeof *d->accuracy),
                 .known = calloc(B, sizeof *d->known)};
    if (d->bin && d->hits && d->count && d->accuracy && d->known)
        return STATUS_OK;
    return error_set(err, STATUS_SYSTEM, "out of memory for %d draws of %lld samples", replicates, (long long)n);
}

static void draw(Draws *d, const Forecasts *f, int bins, const BootstrapOptions *options, int replicate) {
    PhiloxReader reader = philox_reader(options->seed, PHILOX_BOOTSTRAP, (uint64_t)replicate, 0);
    memset(d->hits, 0, sizeof *d->hits * (size_t)bins);
    memset(d->count, 0, sizeof *d->count * (size_t)bins);
    for (int64_t i = 0; i < f->n; i++) {
        const uint32_t at = philox_next_below(&reader, (uint32_t)f->n);
        d->hits[d->bin[at]] += f->items[at].outcome;
        d->count[d->bin[at]] += 1;
    }
    for (int b = 0; b < bins; b++)
        if (d->count[b] > 0)
            d->accuracy[(int64_t)b * options->replicates + d->known[b]++] = d->hits[b] / d->count[b];
}

Status calibration_reliability(const Forecasts *f, BinKind kind, int bins, const BootstrapOptions *options,
                               ReliabilityBin *out, Error *err) {
    for (int b = 0; b < bins; b++)
        out[b] = (ReliabilityBin){{0, 0, NAN, NAN, NAN, NAN}, NAN, NAN};
    if (f->n < 1 || f->undefined)
        return STATUS_OK;
    Draws d;
    const Status status = draws_init(&d, f->n, bins, options->replicates, err);
    int64_t first = 0;
    for (int b = 0; b < bins && status == STATUS_OK; b++) {
        out[b].bin = calibration_bin(f, kind, bins, b, first);
        for (int64_t end = first + out[b].bin.count; first < end; first++)
            d.bin[first] = b;
    }
    for (int r = 0; r < options->replicates && status == STATUS_OK; r++)
        draw(&d, f, bins, options, r);
    for (int b = 0; b < bins && status == STATUS_OK; b++)
        bootstrap_percentiles(d.known[b], d.accuracy + (int64_t)b * options->replicates, options->level, &out[b].low,
                              &out[b].high);
    draws_free(&d);
    return status;
}
