/* Softmax of one row of a classifier's output, in double after subtracting the largest logit. */
#ifndef EXCON_TRAINER_CALIBRATION_SOFTMAX_H
#define EXCON_TRAINER_CALIBRATION_SOFTMAX_H

#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"

typedef struct SoftmaxRow {
    const float *logits; /* [C] */
    int label;
    int defined;  /* else nothing below holds */
    int best;     /* first of the largest logits */
    double scale; /* 1 / temperature */
    double sum;   /* of exp((logit - largest) * scale), at least 1 */
} SoftmaxRow;

static inline double softmax_exponent(const SoftmaxRow *row, int c) {
    return ((double)row->logits[c] - (double)row->logits[row->best]) * row->scale;
}

static inline double softmax_probability(const SoftmaxRow *row, int c) {
    return exp(softmax_exponent(row, c)) / row->sum;
}

static inline SoftmaxRow softmax_row(const ClassifierOutput *output, int64_t i) {
    const int C = output->classes;
    SoftmaxRow row = {.logits = output->logits + i * C, .label = output->labels[i]};
    row.scale = output->temperature > 0 ? 1 / output->temperature : 1;
    row.defined = row.label >= 0 && row.label < C;
    for (int c = 0; c < C; c++) {
        row.defined &= isfinite(row.logits[c]) != 0;
        if (row.logits[c] > row.logits[row.best])
            row.best = c;
    }
    for (int c = 0; c < C && row.defined; c++)
        row.sum += exp(softmax_exponent(&row, c));
    return row;
}

/* Forecasts of class c: its probabilities, and which samples are of it. `rows` [n] are of one output. As
 * forecasts_top_label else. */
Status forecasts_of_class(Forecasts *f, int64_t n, const SoftmaxRow *rows, int c, Error *err);

#endif
