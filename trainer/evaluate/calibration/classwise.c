/* ECE of every class's probability, averaged. */
#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"

Status calibration_classwise(const ClassifierOutput *output, int bins, double *value, Error *err) {
    *value = 0;
    for (int c = 0; c < output->classes; c++) {
        Forecasts f;
        const Status status = forecasts_of_class(&f, output, c, err);
        *value += status == STATUS_OK ? calibration_ece(&f, BINS_EQUAL_WIDTH, bins) / output->classes : NAN;
        forecasts_free(&f);
        RETURN_IF(status);
    }
    return STATUS_OK;
}
