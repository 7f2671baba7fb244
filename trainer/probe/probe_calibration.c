/* Probe operation on a classifier's output: every calibration measure of it. Works on the host; all ranks compute the
 * same from the whole file. */
#include <limits.h>
#include <math.h>

#include "trainer/evaluate/calibration/calibration.h"
#include "trainer/probe/session.h"

enum { BINS_MOST = 100000 };

static Status check_inputs(const ProbeSession *p, const Array *logits, const Array *labels, Error *err) {
    const char *in = p->options->in;
    const int64_t n = logits->shape[0], C = logits->shape[1];
    if (n < 1 || C < 1 || C > INT_MAX || labels->count != n)
        return error_set(err, STATUS_DATA, "%s: logits must be [n,C] and labels [n], n and C at least 1", in);
    for (int64_t i = 0; i < logits->count; i++)
        if (!isfinite(logits->f32[i]))
            return error_set(err, STATUS_DATA,
                             "%s: logits[%lld,%lld] is not finite: nothing can be said of such outputs", in,
                             (long long)(i / C), (long long)(i % C));
    for (int64_t i = 0; i < n; i++)
        if (labels->i32[i] < 0 || labels->i32[i] >= C)
            return error_set(err, STATUS_DATA, "%s: labels[%lld] = %d is no class of 0..%lld", in, (long long)i,
                             labels->i32[i], (long long)C - 1);
    return STATUS_OK;
}

static Status put_one(ProbeSession *p, const char *name, double value, Error *err) {
    const float narrow = (float)value;
    return probe_put(p, name, &narrow, 1, (int64_t[]){1}, err);
}

typedef struct Named {
    const char *name;
    double value;
} Named;

static Status put_measures(ProbeSession *p, const ClassifierOutput *output, const Forecasts *f, int bins, Error *err) {
    double smooth, classwise;
    RETURN_IF(calibration_smooth(f, &smooth, err));
    RETURN_IF(calibration_classwise(output, bins, &classwise, err));
    const Named measures[] = {
        {"ece", calibration_ece(f, BINS_EQUAL_WIDTH, bins)},
        {"adaptive_ece", calibration_ece(f, BINS_EQUAL_MASS, bins)},
        {"nll", calibration_nll(output)},
        {"brier", calibration_brier(output)},
        {"debiased_ece", calibration_debiased(f, bins)},
        {"sweep_ece", calibration_sweep(f, NULL)},
        {"classwise_ece", classwise},
        {"smooth_ece", smooth},
        {"mce", calibration_mce(f, bins)},
        {"temperature", calibration_temperature(output)},
    };
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++)
        RETURN_IF(put_one(p, measures[i].name, measures[i].value, err));
    return STATUS_OK;
}

Status probe_calibration(ProbeSession *p, Error *err) {
    Array logits = {0}, labels = {0};
    Forecasts f = {0};
    Status status;
    const int64_t bins = p->options->bins;
    if (bins < 1 || bins > BINS_MOST)
        return error_set(err, STATUS_USAGE, "--bins is 1 to %d", BINS_MOST);
    GOTO_IF(array_read(p->in, "logits", ARRAY_F32, 2, &logits, err), done);
    GOTO_IF(array_read(p->in, "labels", ARRAY_I32, 1, &labels, err), done);
    GOTO_IF(check_inputs(p, &logits, &labels, err), done);
    const ClassifierOutput output = {labels.count, (int)logits.shape[1], logits.f32, labels.i32, 1};
    GOTO_IF(forecasts_top_label(&f, &output, err), done);
    status = put_measures(p, &output, &f, (int)bins, err);
done:
    forecasts_free(&f);
    array_free(&logits);
    array_free(&labels);
    return status;
}
