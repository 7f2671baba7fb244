/* Classification by the nearest training embeddings. */
#include <math.h>
#include <stdlib.h>

#include "trainer/evaluate/embedding/embedding.h"
#include "trainer/evaluate/embedding/vectors.h"

typedef struct Neighbours {
    int count;
    double similarity[KNN_MOST]; /* descending */
    int32_t label[KNN_MOST];
} Neighbours;

static double inverse_length(int D, const float *z) {
    const double squared = vector_dot(D, z, z);
    return squared > 0 ? 1 / sqrt(squared) : squared; /* 0 stays 0, NaN stays NaN */
}

/* Keeps the k most similar; of equal ones those that came first. */
static void offer(Neighbours *near, int k, double similarity, int32_t label) {
    if (near->count == k && !(similarity > near->similarity[k - 1]))
        return;
    int at = near->count < k ? near->count++ : k - 1;
    for (; at > 0 && similarity > near->similarity[at - 1]; at--) {
        near->similarity[at] = near->similarity[at - 1];
        near->label[at] = near->label[at - 1];
    }
    near->similarity[at] = similarity;
    near->label[at] = label;
}

static void find_neighbours(const EmbeddingSet *train, const float *z, int k, Neighbours *near) {
    const int D = train->dim;
    const double own = inverse_length(D, z);
    near->count = 0;
    for (int64_t j = 0; j < train->n; j++) {
        const float *row = train->z + j * D;
        const double similarity = vector_dot(D, z, row) * (own * inverse_length(D, row));
        if (isfinite(similarity))
            offer(near, k, similarity, train->labels[j]);
    }
}

/* The most similar neighbour's vote is 1, so that no exponent overflows. */
static double vote_of(const Neighbours *near, int i, double temperature) {
    return temperature > 0 ? exp((near->similarity[i] - near->similarity[0]) / temperature) : 1;
}

/* -1 without neighbours; temperature 0: one vote each. */
static int32_t elect(const Neighbours *near, double temperature) {
    int32_t best = -1;
    double most = 0;
    for (int i = 0; i < near->count; i++) {
        double votes = 0;
        for (int j = 0; j < near->count; j++)
            if (near->label[j] == near->label[i])
                votes += vote_of(near, j, temperature);
        if (best < 0 || votes > most || (votes == most && near->label[i] < best)) {
            most = votes;
            best = near->label[i];
        }
    }
    return best;
}

void knn_predict(const EmbeddingSet *train, const EmbeddingSet *test, const KnnOptions *options, int32_t *weighted,
                 int32_t *majority) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < test->n; i++) {
        Neighbours near;
        find_neighbours(train, test->z + i * test->dim, options->k, &near);
        weighted[i] = elect(&near, options->temperature);
        majority[i] = elect(&near, 0);
    }
}

static double share_equal(int64_t n, const int32_t *a, const int32_t *b) {
    int64_t equal = 0;
    for (int64_t i = 0; i < n; i++)
        equal += a[i] == b[i];
    return n > 0 ? (double)equal / (double)n : NAN;
}

Status knn_accuracy(const EmbeddingSet *train, const EmbeddingSet *test, const KnnOptions *options, KnnAccuracy *out,
                    Error *err) {
    const size_t n = (size_t)test->n;
    int32_t *predicted = calloc(2 * n + 1, sizeof *predicted);
    if (!predicted)
        return error_set(err, STATUS_SYSTEM, "out of memory for %zu predictions", n);
    knn_predict(train, test, options, predicted, predicted + n);
    *out = (KnnAccuracy){.weighted = share_equal(test->n, predicted, test->labels),
                         .majority = share_equal(test->n, predicted + n, test->labels)};
    free(predicted);
    return STATUS_OK;
}
