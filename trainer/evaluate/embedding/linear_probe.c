#include "trainer/evaluate/embedding/linear_probe.h"

#include <math.h>
#include <stdlib.h>

#include "trainer/evaluate/embedding/vectors.h"

typedef struct Fit {
    const EmbeddingSet *train;
    int classes;
    double l2;
    double *residual; /* [C,n] probability less 1 for the label */
    double *loss;     /* [n] */
} Fit;

static double logit_of(const EmbeddingSet *set, int64_t i, int c, int classes, const double *weights) {
    const int64_t D = set->dim;
    return vector_dot_f64(set->dim, set->z + i * D, weights + c * D) + weights[classes * D + c];
}

static void fill_residuals(Fit *fit, const double *weights, int64_t i) {
    const int64_t n = fit->train->n;
    double most = -INFINITY, sum = 0;
    for (int c = 0; c < fit->classes; c++) {
        const double logit = logit_of(fit->train, i, c, fit->classes, weights);
        fit->residual[c * n + i] = logit;
        most = fmax(most, logit);
    }
    const int label = fit->train->labels[i];
    const double own = fit->residual[label * n + i] - most;
    for (int c = 0; c < fit->classes; c++) {
        fit->residual[c * n + i] = exp(fit->residual[c * n + i] - most);
        sum += fit->residual[c * n + i];
    }
    for (int c = 0; c < fit->classes; c++)
        fit->residual[c * n + i] = fit->residual[c * n + i] / sum - (c == label);
    fit->loss[i] = log(sum) - own;
}

/* Gradient of class c's weights [D] and bias. */
static void fill_gradient(const Fit *fit, const double *weights, int c, double *gradient) {
    const int64_t n = fit->train->n, D = fit->train->dim;
    double *to = gradient + c * D, bias = 0;
    for (int64_t d = 0; d < D; d++)
        to[d] = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *row = fit->train->z + i * D;
        const double residual = fit->residual[c * n + i];
        for (int64_t d = 0; d < D; d++)
            to[d] += residual * (double)row[d];
        bias += residual;
    }
    for (int64_t d = 0; d < D; d++)
        to[d] = to[d] / (double)n + fit->l2 * weights[c * D + d];
    gradient[fit->classes * D + c] = bias / (double)n;
}

static double objective(void *context, const double *weights, double *gradient) {
    Fit *fit = context;
    const int64_t n = fit->train->n, D = fit->train->dim;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        fill_residuals(fit, weights, i);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < fit->classes; c++)
        fill_gradient(fit, weights, c, gradient);
    double loss = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        loss += fit->loss[i];
    for (int64_t d = 0; d < fit->classes * D; d++)
        squares += weights[d] * weights[d];
    return loss / (double)n + fit->l2 / 2 * squares;
}

static Status check_rows(const EmbeddingSet *set, Error *err) {
    if (set->n < 1)
        return error_set(err, STATUS_DATA, "no embeddings to fit a linear probe on");
    for (int64_t i = 0; i < set->n * set->dim; i++)
        if (!isfinite(set->z[i]))
            return error_set(err, STATUS_DATA, "embedding %lld is not finite: no linear probe can be fitted",
                             (long long)(i / set->dim));
    return STATUS_OK;
}

Status linear_probe_fit(LinearProbe *probe, const EmbeddingSet *train, int classes, const LinearProbeOptions *options,
                        Error *err) {
    *probe = (LinearProbe){.dim = train->dim, .classes = classes};
    RETURN_IF(check_rows(train, err));
    const size_t n = (size_t)train->n, C = (size_t)classes, values = C * ((size_t)train->dim + 1);
    Fit fit = {.train = train, .classes = classes, .l2 = options->l2};
    fit.residual = malloc(sizeof(double) * n * C);
    fit.loss = malloc(sizeof(double) * n);
    probe->weights = calloc(values, sizeof(double));
    Status status = STATUS_OK;
    if (!fit.residual || !fit.loss || !probe->weights)
        status = error_set(err, STATUS_SYSTEM, "out of memory for a linear probe of %zu embeddings", n);
    else
        status = lbfgs_minimise((int64_t)values, probe->weights, objective, &fit, &options->fit, &probe->report, err);
    free(fit.residual);
    free(fit.loss);
    return status;
}

void linear_probe_free(LinearProbe *probe) {
    free(probe->weights);
    *probe = (LinearProbe){0};
}

void linear_probe_logits(const LinearProbe *probe, const EmbeddingSet *set, float *logits) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < set->n; i++)
        for (int c = 0; c < probe->classes; c++)
            logits[i * probe->classes + c] = (float)logit_of(set, i, c, probe->classes, probe->weights);
}
