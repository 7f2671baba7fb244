/* What an embedding is worth, measured on the embedding alone.
 *
 * Pure functions without device or communication; float32 in, sums in double. Independent rows are spread over OpenMP's
 * threads; their number does not change a bit of any result. */
#ifndef EXCON_TRAINER_EMBEDDING_H
#define EXCON_TRAINER_EMBEDDING_H

#include <stdint.h>

#include "kernels/base/status.h"

typedef struct EmbeddingSet {
    int64_t n;
    int dim;               /* D */
    const float *z;        /* [n,D] */
    const int32_t *labels; /* [n], 0..C-1; NULL where a function does not ask for them */
} EmbeddingSet;

/* ---- alignment and uniformity (Wang & Isola 2020, arXiv 2005.10242), of rows of unit length
 * --------------------------- Defaults there: alpha = 2, t = 2. NaN values make either NaN. */

/* Mean over i of |a_i - b_i|^alpha: rows i of a and b are two views of one sample. NaN for n = 0. */
double embedding_alignment(int64_t n, int dim, const float *a, const float *b, double alpha);

/* The same over all pairs of distinct rows with the same label. NaN when there is none. Time in n^2. STATUS_SYSTEM
 * without memory. */
Status embedding_class_alignment(const EmbeddingSet *set, double alpha, double *value, Error *err);

/* log of the mean over pairs of distinct rows of exp(-t |z_i - z_j|^2); 0 when all are one point, the lower the more
 * evenly they cover the sphere. NaN for n < 2. Time in n^2. STATUS_SYSTEM without memory. */
Status embedding_uniformity(const EmbeddingSet *set, double t, double *value, Error *err);

/* ---- k nearest neighbours (Wu et al. 2018, arXiv 1805.01978)
 * ------------------------------------------------------------ By cosine similarity, of rows of any length. The field's
 * numbers are k = 20, 200 and temperature = 0.07. */

enum { KNN_MOST = 256 };

typedef struct KnnOptions {
    int k;              /* 1..KNN_MOST; fewer when there are fewer training rows */
    double temperature; /* neighbours vote with exp(similarity / temperature) */
} KnnOptions;

/* weighted and majority [test->n]: the class with most votes, votes weighted or of one each; the lowest of equal
 * classes. Of equally similar rows the first is nearer; a row of zeros has similarity 0 to all. Training rows that are
 * not finite are nobody's neighbour; a test row that is not gets -1, as every one does without training rows. */
void knn_predict(const EmbeddingSet *train, const EmbeddingSet *test, const KnnOptions *options, int32_t *weighted,
                 int32_t *majority);

typedef struct KnnAccuracy {
    double weighted, majority; /* shares of the test rows; NaN when there is none */
} KnnAccuracy;

/* Accuracies of knn_predict. STATUS_SYSTEM without memory. */
Status knn_accuracy(const EmbeddingSet *train, const EmbeddingSet *test, const KnnOptions *options, KnnAccuracy *out,
                    Error *err);

#endif
