/* ECE of every class's probability, averaged. */
#include <math.h>
#include <stdlib.h>

#include "trainer/evaluate/calibration/softmax.h"

static Status average(const ClassifierOutput *output, const SoftmaxRow *rows, int bins, double *value, Error *err) {
    *value = 0;
    for (int c = 0; c < output->classes; c++) {
        Forecasts f;
        const Status status = forecasts_of_class(&f, output->n, rows, c, err);
        *value += status == STATUS_OK ? calibration_ece(&f, BINS_EQUAL_WIDTH, bins) / output->classes : NAN;
        forecasts_free(&f);
        RETURN_IF(status);
    }
    return STATUS_OK;
}

/* The softmax of a row is the same to all classes: n * C exponentials for it, not n * C^2. */
Status calibration_classwise(const ClassifierOutput *output, int bins, double *value, Error *err) {
    SoftmaxRow *rows = malloc(sizeof *rows * ((size_t)output->n + 1));
    if (!rows)
        return error_set(err, STATUS_SYSTEM, "out of memory for %lld samples", (long long)output->n);
    for (int64_t i = 0; i < output->n; i++)
        rows[i] = softmax_row(output, i);
    const Status status = average(output, rows, bins, value, err);
    free(rows);
    return status;
}
