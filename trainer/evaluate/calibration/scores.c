/* Proper scores: negative log-likelihood and Brier. */
#include "trainer/evaluate/calibration/softmax.h"

double calibration_nll(const ClassifierOutput *output) {
    double sum = 0;
    for (int64_t i = 0; i < output->n; i++) {
        const SoftmaxRow row = softmax_row(output, i);
        if (!row.defined)
            return NAN;
        sum += log(row.sum) - softmax_exponent(&row, row.label);
    }
    return output->n > 0 ? sum / (double)output->n : NAN;
}

double calibration_brier(const ClassifierOutput *output) {
    double sum = 0;
    for (int64_t i = 0; i < output->n; i++) {
        const SoftmaxRow row = softmax_row(output, i);
        if (!row.defined)
            return NAN;
        for (int c = 0; c < output->classes; c++) {
            const double off = softmax_probability(&row, c) - (c == row.label);
            sum += off * off;
        }
    }
    return output->n > 0 ? sum / (double)output->n : NAN;
}
