/* Calibration: do a classifier's probabilities say how often it is right?
 *
 * Pure functions over logits and labels, without device or communication: whoever calls gathers first. Probabilities
 * are softmax in double. The binned measures sum over samples sorted by probability, so that their last bit does not
 * depend on the order of the samples; nll, brier and the temperature are plain double sums, whose last bits do.
 *
 * A sample is *undefined* when one of its logits is NaN or infinite or its label is no class. A measure of a set that
 * is empty or holds an undefined sample is NaN: a share of samples left out would look like a better model. */
#ifndef EXCON_TRAINER_CALIBRATION_H
#define EXCON_TRAINER_CALIBRATION_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "trainer/evaluate/statistics/bootstrap.h"

typedef struct ClassifierOutput {
    int64_t n;
    int classes;           /* C, at least 1 */
    const float *logits;   /* [n,C] */
    const int32_t *labels; /* [n], 0..C-1 */
    double temperature;    /* probabilities are softmax(logits / temperature); 0 stands for 1 */
} ClassifierOutput;

/* ---- forecasts
 * ------------------------------------------------------------------------------------------------------- A forecast is
 * a probability and whether what it promised came true. Top-label calibration forecasts "my prediction is right" with
 * the largest probability (the confidence); classwise calibration forecasts "it is class c". */

typedef struct Forecast {
    double probability;
    double outcome; /* 1 or 0; forecasts of equal probability share their mean, so no order among them matters */
} Forecast;

typedef struct Forecasts {
    int64_t n;
    int64_t undefined;   /* of the n; if there are any, nothing below is sorted and every measure is NaN */
    Forecast *items;     /* [n] by ascending probability */
    double *hits_before; /* [n+1] sum of the first i outcomes */
} Forecasts;

/* Confidences and hits. The predicted class is the first of the largest logits. STATUS_SYSTEM without memory; free with
 * forecasts_free in any case. */
Status forecasts_top_label(Forecasts *f, const ClassifierOutput *output, Error *err);
void forecasts_free(Forecasts *f);

/* ---- bins
 * ------------------------------------------------------------------------------------------------------------ */

/* Equal width: bin k of B holds probabilities in [k/B, (k+1)/B), the last one 1 too. Equal mass: the sorted samples are
 * cut into B runs whose lengths differ by at most one, the longer ones first (numpy.array_split). */
typedef enum BinKind { BINS_EQUAL_WIDTH, BINS_EQUAL_MASS } BinKind;

typedef struct CalibrationBin {
    int64_t first, count; /* of the sorted forecasts */
    double low, high;     /* equal width: the edges; equal mass: least and largest probability within, 0 when empty */
    double confidence;    /* mean probability; 0 when empty */
    double accuracy;      /* mean outcome; 0 when empty */
} CalibrationBin;

/* Bin `index` of `bins` (at least 1). Bins are asked for in order; `first` is where the one before ended (0 at first).
 * The forecasts must all be defined. */
CalibrationBin calibration_bin(const Forecasts *f, BinKind kind, int bins, int index, int64_t first);

/* ---- measures
 * -------------------------------------------------------------------------------------------------------- */

/* Expected calibration error (Naeini et al. 2015; Guo et al. 2017): sum_b n_b/n |confidence_b - accuracy_b|. With
 * BINS_EQUAL_MASS the adaptive one (Nguyen & O'Connor 2015; Nixon et al. 2019). Biased upwards, most for models that
 * are well calibrated. */
double calibration_ece(const Forecasts *f, BinKind kind, int bins);

/* Maximum calibration error (Naeini et al. 2015): max_b |confidence_b - accuracy_b| over bins of equal width that are
 * not empty. */
double calibration_mce(const Forecasts *f, int bins);

/* Debiased root mean square calibration error: sqrt(max(0, sum_b n_b/n [(confidence_b - accuracy_b)^2 -
 * accuracy_b (1 - accuracy_b) / (n_b - 1)])), the reliability term of Broecker (2012) and of Ferro & Fricker (2012),
 * whose correction is that of a variance and so of a square; also Kumar et al. (2019). Bins of equal mass, at most n/2,
 * so that each has the two samples that the correction needs; NaN for n < 2. It is an l2 error: not below the l1 errors
 * above for want of bias alone. */
double calibration_debiased(const Forecasts *f, int bins);

/* ECE with as many bins of equal mass as keep the accuracy of the bins from ever falling (Roelofs et al. 2022,
 * arXiv 2012.08668, algorithm 1 with p = 1). Sets *bins, if not NULL, to their number, 1..n. */
double calibration_sweep(const Forecasts *f, int64_t *bins);

/* Smooth ECE (Blasiok & Nakkiran 2024, arXiv 2309.12236): mean absolute residual smoothed by a Gaussian kernel
 * reflected at 0 and 1, of the width at which it equals the width. Grid for grid what relplot 1.0 does with its default
 * kernel; torch-uncertainty's default smooths over logits and gives other numbers. STATUS_SYSTEM without memory. */
Status calibration_smooth(const Forecasts *f, double *value, Error *err);

/* Classwise ECE (Kull et al. 2019; "static" in Nixon et al. 2019): mean over classes of the ECE, equal width, of that
 * class's probability. STATUS_SYSTEM without memory. */
Status calibration_classwise(const ClassifierOutput *output, int bins, double *value, Error *err);

/* Mean negative log-likelihood of the labels, in nats. */
double calibration_nll(const ClassifierOutput *output);

/* Brier score (Brier 1950): mean over samples of sum_c (p_c - [c is the label])^2, 0..2. */
double calibration_brier(const ClassifierOutput *output);

/* ---- temperature scaling
 * --------------------------------------------------------------------------------------------- */

#define TEMPERATURE_LEAST 0.01
#define TEMPERATURE_MOST 100.0

/* The temperature (Guo et al. 2017) that minimises the nll of the logits as they are, whatever output->temperature
 * says. NLL is convex in 1/T: Newton's iteration on its slope, kept within a bracket. Where the nll falls all the way,
 * as when every sample is right (towards 0) or every one is wrong (towards infinity), the end of TEMPERATURE_LEAST ..
 * TEMPERATURE_MOST; where it does not depend on T, as with one class, 1. The nll at the result is never above that
 * at 1. */
double calibration_temperature(const ClassifierOutput *output);

/* ---- reliability diagram
 * --------------------------------------------------------------------------------------------- */

typedef struct ReliabilityBin {
    CalibrationBin bin;
    double low, high; /* band of the accuracy; NaN when the bin is empty */
} ReliabilityBin;

/* The `bins` bins and percentile bands of their accuracies: samples are drawn anew with replacement, the bins stay
 * where they are, draws that leave a bin empty say nothing of it. The same for the same seed and set. With an undefined
 * sample or none, counts are 0 and everything else NaN. STATUS_SYSTEM without memory. */
Status calibration_reliability(const Forecasts *f, BinKind kind, int bins, const BootstrapOptions *options,
                               ReliabilityBin *out, Error *err);

#endif
