/* How near positives lie, and how evenly everything is spread. */
#include <math.h>
#include <stdlib.h>

#include "trainer/evaluate/embedding/embedding.h"
#include "trainer/evaluate/embedding/vectors.h"

double embedding_alignment(int64_t n, int dim, const float *a, const float *b, double alpha) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += pow(vector_squared_distance(dim, a + i * dim, b + i * dim), alpha / 2);
    return n > 0 ? sum / (double)n : NAN;
}

/* Of row i with the rows before it: what a pair adds, and how many pairs there are. */
typedef struct PairSum {
    double sum, pairs;
} PairSum;

typedef struct PairRule {
    double alpha; /* same label only: distance^alpha ... */
    double t;     /* ... or, when it is above 0, every pair: exp(-t distance^2) */
} PairRule;

static PairSum sum_row(const EmbeddingSet *set, int64_t i, const PairRule *rule) {
    PairSum row = {0, 0};
    for (int64_t j = 0; j < i; j++) {
        if (!(rule->t > 0) && set->labels[i] != set->labels[j])
            continue;
        const double squared = vector_squared_distance(set->dim, set->z + i * set->dim, set->z + j * set->dim);
        row.sum += rule->t > 0 ? exp(-rule->t * squared) : pow(squared, rule->alpha / 2);
        row.pairs += 1;
    }
    return row;
}

/* Mean over pairs; rows are summed on their own and then in order. */
static Status mean_of_pairs(const EmbeddingSet *set, const PairRule *rule, double *mean, Error *err) {
    PairSum *rows = calloc((size_t)set->n + 1, sizeof *rows);
    if (!rows)
        return error_set(err, STATUS_SYSTEM, "out of memory for pairs of %lld embeddings", (long long)set->n);
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < set->n; i++)
        rows[i] = sum_row(set, i, rule);
    PairSum total = {0, 0};
    for (int64_t i = 0; i < set->n; i++) {
        total.sum += rows[i].sum;
        total.pairs += rows[i].pairs;
    }
    free(rows);
    *mean = total.pairs > 0 ? total.sum / total.pairs : NAN;
    return STATUS_OK;
}

Status embedding_class_alignment(const EmbeddingSet *set, double alpha, double *value, Error *err) {
    const PairRule rule = {.alpha = alpha};
    return mean_of_pairs(set, &rule, value, err);
}

Status embedding_uniformity(const EmbeddingSet *set, double t, double *value, Error *err) {
    const PairRule rule = {.t = t};
    RETURN_IF(mean_of_pairs(set, &rule, value, err));
    *value = log(*value);
    return STATUS_OK;
}
