/* Temperature scaling: one number that divides all logits, fitted by maximum likelihood. */
#include "trainer/evaluate/calibration/softmax.h"

/* Derivatives of the mean nll of softmax(a * logits) by a: mean of E_p[z] - z_label, and of Var_p[z]. */
typedef struct Slope {
    double first, second;
} Slope;

static Slope slope_at(const ClassifierOutput *output, double a) {
    const ClassifierOutput scaled = {output->n, output->classes, output->logits, output->labels, 1 / a};
    Slope slope = {0};
    for (int64_t i = 0; i < output->n; i++) {
        const SoftmaxRow row = softmax_row(&scaled, i);
        if (!row.defined)
            return (Slope){NAN, NAN};
        double mean = 0, square = 0;
        for (int c = 0; c < output->classes; c++) {
            const double p = softmax_probability(&row, c), z = (double)row.logits[c] - (double)row.logits[row.best];
            mean += p * z;
            square += p * z * z;
        }
        slope.first += mean - ((double)row.logits[row.label] - (double)row.logits[row.best]);
        slope.second += square - mean * mean;
    }
    return (Slope){slope.first / (double)output->n, slope.second / (double)output->n};
}

/* Where the slope, which rises with a, crosses zero between low (below zero) and high (above). */
static double crossing(const ClassifierOutput *output, double low, double high) {
    double a = low < 1 && high > 1 ? 1 : sqrt(low * high);
    for (int i = 0; i < 200; i++) {
        const Slope slope = slope_at(output, a);
        if (slope.first < 0)
            low = a;
        else
            high = a;
        double next = a - slope.first / slope.second;
        if (!(next > low && next < high))
            next = sqrt(low * high);
        if (fabs(next - a) <= 1e-12 * a)
            return next;
        a = next;
    }
    return a;
}

static double nll_at(const ClassifierOutput *output, double temperature) {
    const ClassifierOutput scaled = {output->n, output->classes, output->logits, output->labels, temperature};
    return calibration_nll(&scaled);
}

double calibration_temperature(const ClassifierOutput *output) {
    const double now = output->n > 0 ? slope_at(output, 1).first : NAN;
    if (now == 0 || isnan(now))
        return isnan(now) ? NAN : 1;
    double temperature;
    if (slope_at(output, 1 / TEMPERATURE_MOST).first >= 0)
        temperature = TEMPERATURE_MOST;
    else if (slope_at(output, 1 / TEMPERATURE_LEAST).first <= 0)
        temperature = TEMPERATURE_LEAST;
    else
        temperature = 1 / crossing(output, 1 / TEMPERATURE_MOST, 1 / TEMPERATURE_LEAST);
    return nll_at(output, temperature) <= nll_at(output, 1) ? temperature : 1;
}
