/* The contrastive loss written down naively in double, pair by pair, and the same problem run through a device's
 * operators, split over imagined ranks. */
#ifndef EXCON_TESTS_CONTRAST_CASE_H
#define EXCON_TESTS_CONTRAST_CASE_H

#include "kernels/ops.h"
#include "tests/support/numbers/block.h"

#define BASE_TEMPERATURE 0.07f

typedef enum Grouping {
    CLASSES,                /* SupCon: `classes` labels over all rows */
    PAIRS,                  /* SimCLR: row i and row i + N/2 */
    BACKGROUND_DENOMINATOR, /* as CLASSES, the last quarter has no group */
    BACKGROUND_CLASS,       /* as CLASSES, the last quarter is one more group */
    SINGLETONS,             /* as CLASSES, the first third is alone in its group */
    ALONE,                  /* no row has a positive */
} Grouping;

typedef struct Case {
    int64_t rows;
    int dim, classes;
    Grouping grouping;
    float temperature;
    int duplicates;  /* every fourth row repeats the one before */
    int64_t cuts[4]; /* where ranks end; trailing zeros are unused */
    float norm;      /* of every row; 0: 1 */
} Case;

typedef struct Problem {
    Case c;
    DType products; /* what a product of rows sees: bf16 rounds them first */
    int groups;
    int64_t anchors;
    float *z;       /* [rows, dim] */
    int32_t *group; /* [rows] */
    double *zd;     /* z as doubles */
    double *zp;     /* as products see it; zd itself for f32 */
} Problem;

/* Ends the test when memory is out; problem_free releases. */
Problem problem_new(Case c, DType products);
void problem_free(Problem *problem);

int naive_positives(const Problem *problem, int64_t row);
double naive_lse(const Problem *problem, int64_t row);
double naive_loss(const Problem *problem);
/* dz [rows, dim] = d naive_loss / dz, to the rows as products see them where products are meant. */
void naive_gradient(const Problem *problem, double *dz);

typedef struct Result {
    double loss;
    float *lse, *anchored, *dz, *sums; /* [rows], [rows], [rows, dim], [groups, dim] */
    int32_t *counts;                   /* [groups] */
} Result;

/* Group sums, both passes and the loss of every rank; checks guard words of all that is written. */
Result contrast_run(Device *device, const Problem *problem);
void result_free(Result *result);

/* Fails the test, after compare_within() said so, unless |got - want| <= allowed * max(|want|, least), in L2 over n
 * values; `least` is for vectors that cancel to nothing. `index` is the case's. */
void assert_vector(const char *what, int index, int64_t n, const float *got, const double *want, double allowed,
                   double least);

/* Fails the test, after saying so, unless off <= allowed. */
void assert_within(const char *what, int index, double off, double allowed);

#endif
