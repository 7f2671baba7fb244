/* The tiled contrastive loss against the definition written down naively in double, pair by pair, and its gradient
 * against central differences of that loss as well. Rows are split over imagined ranks in uneven parts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/philox.h"
#include "kernels/cpu/exp_lanes.h"
#include "tests/support/device_fixture.h"
#include "tests/support/tensor.h"

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
} Case;

static const Case cases[] = {
    {64, 16, 4, CLASSES, 0.1f, 0, {0}},
    {130, 33, 10, CLASSES, 0.5f, 1, {0}},
    {257, 128, 7, CLASSES, 0.07f, 0, {100, 101, 230}},
    {300, 20, 5, PAIRS, 0.1f, 0, {0}},
    {300, 20, 5, PAIRS, 0.1f, 1, {7, 7, 200}},
    {200, 31, 6, BACKGROUND_DENOMINATOR, 0.1f, 0, {199}},
    {200, 31, 6, BACKGROUND_CLASS, 0.1f, 0, {0}},
    {210, 12, 6, SINGLETONS, 1.0f, 0, {64, 128}},
    {70, 12, 6, ALONE, 0.2f, 0, {0}},
    {333, 128, 9, CLASSES, 0.01f, 0, {0}},
    {333, 128, 9, BACKGROUND_DENOMINATOR, 0.01f, 1, {33, 300}},
    {333, 64, 9, CLASSES, 0.02f, 1, {0}},
    {333, 64, 9, PAIRS, 0.03f, 1, {0}},
    {1, 8, 1, CLASSES, 0.1f, 0, {0}},
    {2, 8, 1, CLASSES, 0.1f, 0, {1}},
    {2, 8, 1, PAIRS, 0.1f, 1, {0}},
    {2100, 24, 11, SINGLETONS, 0.1f, 1, {0}},
    {2100, 24, 11, BACKGROUND_CLASS, 0.1f, 0, {1, 2, 2000}},
};
enum { CASES = sizeof cases / sizeof *cases };

#define BASE_TEMPERATURE 0.07f

/* A similarity of up to 1/T is rounded to 2^-24/T, and that is the relative error of its exponential. */
static double tolerance_at(float temperature) {
    return temperature >= 0.05f ? 1e-5 : 5e-7 / (double)temperature;
}

typedef struct Problem {
    Case c;
    int groups;
    int64_t anchors;
    float *z;       /* [rows, dim], unit norm */
    int32_t *group; /* [rows] */
    double *zd;     /* z as doubles */
} Problem;

static void *block(int64_t n, size_t size) {
    void *memory = calloc((size_t)(n > 0 ? n : 1), size);
    assert_non_null(memory);
    return memory;
}

static int32_t group_of(const Case *c, int64_t i) {
    int background = i >= c->rows - c->rows / 4;
    switch (c->grouping) {
    case PAIRS:
        return (int32_t)(i % (c->rows > 1 ? c->rows / 2 : 1));
    case BACKGROUND_DENOMINATOR:
        return background ? -1 : (int32_t)(i % c->classes);
    case BACKGROUND_CLASS:
        return background ? c->classes : (int32_t)(i % c->classes);
    case SINGLETONS:
        return i < c->rows / 3 ? (int32_t)(c->classes + 1 + i) : (int32_t)(i % c->classes);
    case ALONE:
        return (int32_t)i;
    case CLASSES:
        break;
    }
    return (int32_t)(i % c->classes);
}

static Problem problem_new(Case c) {
    Problem p = {.c = c, .groups = c.classes + 1 + (int)c.rows};
    p.z = block(c.rows * c.dim, sizeof *p.z);
    p.zd = block(c.rows * c.dim, sizeof *p.zd);
    p.group = block(c.rows, sizeof *p.group);
    PhiloxReader reader = philox_reader(7, PHILOX_SYNTHETIC, (uint64_t)c.rows, (uint32_t)c.dim);
    for (int64_t i = 0; i < c.rows; i++) {
        float *row = p.z + i * c.dim;
        double norm = 0;
        for (int k = 0; k < c.dim; k++) {
            row[k] = philox_next_uniform(&reader) - 0.4f;
            norm += (double)row[k] * (double)row[k];
        }
        for (int k = 0; k < c.dim; k++)
            row[k] = (float)((double)row[k] / sqrt(norm));
        if (c.duplicates && i % 4 == 1)
            memcpy(row, row - c.dim, (size_t)c.dim * sizeof *row);
        p.group[i] = group_of(&c, i);
        p.anchors += c.grouping != BACKGROUND_DENOMINATOR || p.group[i] >= 0;
    }
    for (int64_t i = 0; i < c.rows * c.dim; i++)
        p.zd[i] = (double)p.z[i];
    return p;
}

static void problem_free(Problem *p) {
    free(p->z), free(p->zd), free(p->group);
}

static double similarity(const Problem *p, int64_t i, int64_t j) {
    double dot = 0;
    for (int k = 0; k < p->c.dim; k++)
        dot += p->zd[i * p->c.dim + k] * p->zd[j * p->c.dim + k];
    return dot / (double)p->c.temperature;
}

static int is_positive(const Problem *p, int64_t i, int64_t j) {
    return j != i && p->group[i] >= 0 && p->group[j] == p->group[i];
}

static int positives_of(const Problem *p, int64_t i) {
    int n = 0;
    for (int64_t j = 0; j < p->c.rows; j++)
        n += is_positive(p, i, j);
    return n;
}

static double naive_lse(const Problem *p, int64_t i) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < p->c.rows; j++)
        if (j != i)
            max = fmax(max, similarity(p, i, j));
    for (int64_t j = 0; j < p->c.rows; j++)
        if (j != i)
            sum += exp(similarity(p, i, j) - max);
    return p->c.rows > 1 ? max + log(sum) : -INFINITY;
}

static double naive_loss(const Problem *p) {
    double total = 0;
    for (int64_t i = 0; i < p->c.rows; i++) {
        int positives = positives_of(p, i);
        double mean = 0;
        for (int64_t j = 0; j < p->c.rows; j++)
            if (is_positive(p, i, j))
                mean += similarity(p, i, j) / positives;
        total += positives > 0 ? naive_lse(p, i) - mean : 0;
    }
    return (double)p->c.temperature / (double)BASE_TEMPERATURE * total / (double)p->anchors;
}

/* d naive_loss / dz, as the sum over anchors i of what their term adds to rows i and j. */
static void naive_gradient(const Problem *p, double *dz) {
    int dim = p->c.dim;
    double scale = 1 / ((double)BASE_TEMPERATURE * (double)p->anchors);
    for (int64_t i = 0; i < p->c.rows; i++) {
        int positives = positives_of(p, i);
        if (!positives)
            continue;
        double lse = naive_lse(p, i);
        for (int64_t j = 0; j < p->c.rows; j++) {
            if (j == i)
                continue;
            double ds = exp(similarity(p, i, j) - lse) - (is_positive(p, i, j) ? 1.0 / positives : 0);
            for (int k = 0; k < dim; k++) {
                dz[i * dim + k] += scale * ds * p->zd[j * dim + k];
                dz[j * dim + k] += scale * ds * p->zd[i * dim + k];
            }
        }
    }
}

typedef struct Result {
    double loss;
    float *lse, *anchored, *dz, *sums; /* [rows], [rows], [rows, dim], [groups, dim] */
    int32_t *counts;                   /* [groups] */
} Result;

static void result_free(Result *r) {
    free(r->lse), free(r->anchored), free(r->dz), free(r->sums), free(r->counts);
}

/* Range of imagined rank `rank`; 0 when there is no such rank. */
static int rank_range(const Case *c, int rank, ContrastShape *shape) {
    int ranks = 1;
    while (ranks < 4 && c->cuts[ranks - 1] > 0)
        ranks++;
    if (rank >= ranks)
        return 0;
    shape->own_first = rank ? c->cuts[rank - 1] : 0;
    shape->own_rows = (rank + 1 < ranks ? c->cuts[rank] : c->rows) - shape->own_first;
    return 1;
}

static Result run(Device *d, const Problem *p) {
    const Case *c = &p->c;
    Result r = {.lse = block(c->rows, 4), .anchored = block(c->rows, 4), .dz = block(c->rows * c->dim, 4)};
    r.sums = block((int64_t)p->groups * c->dim, 4);
    r.counts = block(p->groups, 4);
    ContrastShape shape = {.rows = c->rows,
                           .dim = c->dim,
                           .groups = p->groups,
                           .anchors = p->anchors,
                           .temperature = c->temperature,
                           .base_temperature = BASE_TEMPERATURE};
    Tensor scratch =
        tensor_new(d, DTYPE_F32, (int64_t)(d->ops->contrast_scratch(d, c->rows, p->groups, c->dim) + 3) / 4);
    for (int rank = 0; rank_range(c, rank, &shape); rank++) {
        double part = NAN;
        int64_t first = shape.own_first;
        d->ops->contrast_groups(d, &shape, p->z, p->group, r.sums, r.counts);
        d->ops->contrast_lse(d, &shape, p->z, r.lse + first, scratch.data);
        d->ops->contrast_loss(d, &shape, p->z, p->group, r.sums, r.counts, r.lse + first, &part, r.anchored + first);
        r.loss += part;
    }
    for (int rank = 0; rank_range(c, rank, &shape); rank++)
        d->ops->contrast_gradient(d, &shape, p->z, p->group, r.sums, r.counts, r.anchored,
                                  r.dz + shape.own_first * c->dim, scratch.data);
    assert_true(tensor_guards_hold(&scratch));
    tensor_free(&scratch);
    return r;
}

/* |got - want| / max(|want|, least); `least` is for vectors that cancel to nothing. */
static double relative_l2(int64_t n, const float *got, const double *want, double least) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(difference) / fmax(sqrt(norm), least);
}

static void assert_within(const char *what, int index, double off, double allowed) {
    if (!(off <= allowed))
        print_message("case %d, %s: off by %.3g, allowed %.3g\n", index, what, off, allowed);
    assert_true(off <= allowed);
}

static void test_definition(void **state) {
    for (int k = 0; k < CASES; k++) {
        Problem p = problem_new(cases[k]);
        Result r = run(*state, &p);
        int64_t rows = p.c.rows;
        double allowed = tolerance_at(p.c.temperature), want = naive_loss(&p);
        double one_row =
            1 / ((double)BASE_TEMPERATURE * (double)p.anchors); /* size of a row's terms before they cancel */
        double *lse = block(rows, sizeof *lse), *dz = block(rows * p.c.dim, sizeof *dz);
        for (int64_t i = 0; i < rows; i++)
            lse[i] = naive_lse(&p, i);
        naive_gradient(&p, dz);
        if (rows > 1)
            assert_within("lse", k, relative_l2(rows, r.lse, lse, 0.1), 1e-6);
        else
            assert_true(r.lse[0] == -INFINITY);
        for (int64_t i = 0; i < rows; i++)
            assert_true(positives_of(&p, i) ? r.anchored[i] == r.lse[i] : r.anchored[i] == INFINITY);
        assert_within("loss", k, fabs(r.loss - want), 2e-6 * fmax(fabs(want), 1));
        assert_within("dz", k, relative_l2(rows * p.c.dim, r.dz, dz, one_row), allowed);
        free(lse), free(dz);
        result_free(&r);
        problem_free(&p);
    }
}

static void test_gradient_by_differences(void **state) {
    static const Case small[] = {
        {24, 6, 3, CLASSES, 0.1f, 1, {0}},          {24, 6, 3, PAIRS, 0.3f, 0, {5}},
        {24, 6, 3, BACKGROUND_CLASS, 0.1f, 0, {0}}, {24, 6, 3, BACKGROUND_DENOMINATOR, 0.1f, 0, {20}},
        {24, 6, 3, SINGLETONS, 1.0f, 0, {0}},
    };
    const double step = 1e-6;
    for (int k = 0; k < (int)(sizeof small / sizeof *small); k++) {
        Problem p = problem_new(small[k]);
        Result r = run(*state, &p);
        int64_t n = p.c.rows * p.c.dim;
        double *want = block(n, sizeof *want);
        for (int64_t i = 0; i < n; i++) {
            double kept = p.zd[i];
            p.zd[i] = kept + step;
            double above = naive_loss(&p);
            p.zd[i] = kept - step;
            want[i] = (above - naive_loss(&p)) / (2 * step);
            p.zd[i] = kept;
        }
        assert_within("difference", k, relative_l2(n, r.dz, want, 0), 1e-5);
        free(want);
        result_free(&r);
        problem_free(&p);
    }
}

static void test_group_sums(void **state) {
    for (int k = 0; k < CASES; k++) {
        Problem p = problem_new(cases[k]);
        Result r = run(*state, &p);
        double *sums = block((int64_t)p.groups * p.c.dim, sizeof *sums);
        int32_t *counts = block(p.groups, sizeof *counts);
        for (int64_t i = 0; i < p.c.rows; i++) {
            if (p.group[i] < 0)
                continue;
            counts[p.group[i]]++;
            for (int d = 0; d < p.c.dim; d++)
                sums[p.group[i] * p.c.dim + d] += p.zd[i * p.c.dim + d];
        }
        assert_memory_equal(counts, r.counts, (size_t)p.groups * sizeof *counts);
        assert_within("sums", k, relative_l2((int64_t)p.groups * p.c.dim, r.sums, sums, 0), 1e-6);
        free(sums), free(counts);
        result_free(&r);
        problem_free(&p);
    }
}

static void test_bits_do_not_depend_on_threads(void **state) {
    Device *d = *state;
    Problem p = problem_new(cases[17]);
    int threads = d->threads;
    Result first = run(d, &p);
    for (d->threads = 1; d->threads <= 3; d->threads++) {
        Result again = run(d, &p);
        assert_memory_equal(first.dz, again.dz, (size_t)(p.c.rows * p.c.dim) * sizeof(float));
        assert_memory_equal(first.lse, again.lse, (size_t)p.c.rows * sizeof(float));
        assert_true(first.loss == again.loss);
        result_free(&again);
    }
    d->threads = threads;
    result_free(&first);
    problem_free(&p);
}

static void test_a_rank_without_rows(void **state) {
    Device *d = *state;
    Problem p = problem_new(cases[0]);
    Result r = run(d, &p);
    ContrastShape shape = {.rows = p.c.rows,
                           .own_first = 10,
                           .own_rows = 0,
                           .dim = p.c.dim,
                           .groups = p.groups,
                           .anchors = p.anchors,
                           .temperature = 0.1f,
                           .base_temperature = BASE_TEMPERATURE};
    float untouched = 5;
    double loss = NAN;
    Tensor scratch = tensor_new(d, DTYPE_F32, (int64_t)d->ops->contrast_scratch(d, 64, p.groups, p.c.dim) / 4);
    d->ops->contrast_lse(d, &shape, p.z, &untouched, scratch.data);
    d->ops->contrast_loss(d, &shape, p.z, p.group, r.sums, r.counts, NULL, &loss, &untouched);
    d->ops->contrast_gradient(d, &shape, p.z, p.group, r.sums, r.counts, r.anchored, &untouched, scratch.data);
    assert_true(loss == 0 && untouched == 5);
    tensor_free(&scratch);
    result_free(&r);
    problem_free(&p);
}

static void test_nan_is_not_hidden(void **state) {
    Problem p = problem_new(cases[0]);
    p.z[40 * p.c.dim + 3] = NAN;
    Result r = run(*state, &p);
    assert_true(isnan(r.loss));
    for (int64_t i = 0; i < p.c.rows; i++)
        assert_true(isnan(r.lse[i]) && isnan(r.dz[i * p.c.dim]));
    result_free(&r);
    problem_free(&p);
}

static void test_exponential(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 0; i <= 1753000; i++) {
        float x = -87.3f + 1e-4f * (float)i;
        double want = exp((double)x), off = fabs((double)lane_exp(x) - want) / want;
        worst = off > worst ? off : worst;
    }
    assert_within("exp", 0, worst, 1.2e-7);
    assert_true(lane_exp(-INFINITY) == 0 && lane_exp(-1e30f) == 0 && lane_exp(0) == 1 && isnan(lane_exp(NAN)));
}

/* What makes the loss scale: scratch grows with the rows, not with their square. */
static void test_scratch_is_small(void **state) {
    Device *d = *state;
    size_t at_16k = d->ops->contrast_scratch(d, 16384, 8192, 128),
           at_128k = d->ops->contrast_scratch(d, 131072, 200, 128);
    assert_true(at_16k < (size_t)4 << 20);
    assert_true(at_128k < (size_t)8 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_group_sums),
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_gradient_by_differences),
        cmocka_unit_test(test_bits_do_not_depend_on_threads),
        cmocka_unit_test(test_a_rank_without_rows),
        cmocka_unit_test(test_nan_is_not_hidden),
        cmocka_unit_test(test_scratch_is_small),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
