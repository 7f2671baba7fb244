/* Softmax cross-entropy, argmax and ranks over logits [N,C].
 *
 * Exponentials are summed in double after subtracting the row's maximum, so no finite logit overflows. A NaN logit
 * makes its row's loss and probability NaN, its argmax no class, and stands before every number in ranks. A label
 * outside [0, C) gives a NaN loss and probability instead of an access outside the row. */
#include <math.h>
#include <string.h>

#include "kernels/contract/classify.h"
#include "kernels/cpu/device/cpu_device.h"

static int label_valid(int32_t label, int C) {
    return label >= 0 && label < C;
}

static float row_max(const float *logits, int C) {
    float max = logits[0];
    for (int c = 1; c < C; c++)
        max = logits[c] > max ? logits[c] : max;
    return max;
}

static double row_sum_exp(const float *logits, int C, float max) {
    double sum = 0.0;
    for (int c = 0; c < C; c++)
        sum += (double)expf(logits[c] - max);
    return sum;
}

static void classify_loss_cpu(Device *device, int64_t N, int C, const float *logits, const int32_t *labels,
                              float weight, float *losses, float *dlogits) {
    int parts = threads_for(device, N * C);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *row = logits + n * C;
        int known = label_valid(labels[n], C);
        float max = row_max(row, C);
        double sum = row_sum_exp(row, C, max);
        losses[n] = known ? (float)(log(sum) - ((double)row[labels[n]] - (double)max)) : NAN;
        if (!dlogits)
            continue;
        float *gradient = dlogits + n * C;
        float inverse = (float)(1.0 / sum);
        for (int c = 0; c < C; c++)
            gradient[c] = weight * (expf(row[c] - max) * inverse);
        if (known)
            gradient[labels[n]] = weight * (float)((double)expf(row[labels[n]] - max) / sum - 1.0);
    }
}

static void classify_predict_cpu(Device *device, int64_t N, int C, const float *logits, int32_t *predicted) {
    int parts = threads_for(device, N * C);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *row = logits + n * C;
        int32_t best = 0, nans = isnan(row[0]);
        for (int32_t c = 1; c < C; c++) {
            best = row[c] > row[best] ? c : best;
            nans += isnan(row[c]);
        }
        predicted[n] = nans ? -1 : best;
    }
}

static void classify_rank_cpu(Device *device, int64_t N, int C, const float *logits, const int32_t *labels,
                              int32_t *rank) {
    int parts = threads_for(device, N * C);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *row = logits + n * C;
        rank[n] = C;
        if (!label_valid(labels[n], C) || isnan(row[labels[n]]))
            continue;
        float own = row[labels[n]];
        int32_t before = 0;
        for (int32_t c = 0; c < C; c++)
            before += !(row[c] <= own) || (row[c] == own && c < labels[n]);
        rank[n] = before;
    }
}

static void classify_probability_cpu(Device *device, int64_t N, int C, const float *logits, const int32_t *target,
                                     float *p) {
    int parts = threads_for(device, N * C);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const float *row = logits + n * C;
        float max = row_max(row, C);
        double sum = row_sum_exp(row, C, max);
        p[n] = label_valid(target[n], C) ? (float)((double)expf(row[target[n]] - max) / sum) : NAN;
    }
}

static void classify_onehot_cpu(Device *device, int64_t N, int C, const int32_t *target, float *dlogits) {
    (void)device;
    memset(dlogits, 0, (size_t)N * (size_t)C * sizeof *dlogits);
    for (int64_t n = 0; n < N; n++)
        if (label_valid(target[n], C))
            dlogits[n * C + target[n]] = 1.0f;
}

static void classify_equal_cpu(Device *device, int64_t N, const int32_t *a, const int32_t *b, int32_t *equal) {
    (void)device;
    for (int64_t n = 0; n < N; n++)
        equal[n] = a[n] == b[n];
}

const ClassifyOps classify_ops_cpu = {
    .loss = classify_loss_cpu,
    .predict = classify_predict_cpu,
    .rank = classify_rank_cpu,
    .probability = classify_probability_cpu,
    .onehot = classify_onehot_cpu,
    .equal = classify_equal_cpu,
};
