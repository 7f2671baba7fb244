#include "tests/support/numbers/contrast_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/philox.h"
#include "tests/support/numbers/compare.h"
#include "tests/support/numbers/tensor.h"

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

/* To the nearest bf16, ties to even, by arithmetic apart from the code under test. */
static double round_to_bf16(double value) {
    int exponent;
    double mantissa = frexp(value, &exponent);
    return ldexp(rint(ldexp(mantissa, 8)), exponent - 8);
}

Problem problem_new(Case c, DType products) {
    Problem p = {.c = c, .products = products, .groups = c.classes + 1 + (int)c.rows};
    const double wanted_norm = c.norm > 0 ? (double)c.norm : 1.0;
    p.z = block(c.rows * c.dim, sizeof *p.z);
    p.zd = block(c.rows * c.dim, sizeof *p.zd);
    p.zp = products == DTYPE_BF16 ? block(c.rows * c.dim, sizeof *p.zp) : p.zd;
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
            row[k] = (float)((double)row[k] * wanted_norm / sqrt(norm));
        if (c.duplicates && i % 4 == 1)
            memcpy(row, row - c.dim, (size_t)c.dim * sizeof *row);
        p.group[i] = group_of(&c, i);
        p.anchors += c.grouping != BACKGROUND_DENOMINATOR || p.group[i] >= 0;
    }
    for (int64_t i = 0; i < c.rows * c.dim; i++)
        p.zd[i] = (double)p.z[i];
    if (products == DTYPE_BF16)
        for (int64_t i = 0; i < c.rows * c.dim; i++)
            p.zp[i] = round_to_bf16(p.zd[i]);
    return p;
}

void problem_free(Problem *p) {
    if (p->zp != p->zd)
        free(p->zp);
    free(p->z), free(p->zd), free(p->group);
}

static double similarity(const Problem *p, const double *z, int64_t i, int64_t j) {
    double dot = 0;
    for (int k = 0; k < p->c.dim; k++)
        dot += z[i * p->c.dim + k] * z[j * p->c.dim + k];
    return dot / (double)p->c.temperature;
}

static int is_positive(const Problem *p, int64_t i, int64_t j) {
    return j != i && p->group[i] >= 0 && p->group[j] == p->group[i];
}

int naive_positives(const Problem *p, int64_t i) {
    int n = 0;
    for (int64_t j = 0; j < p->c.rows; j++)
        n += is_positive(p, i, j);
    return n;
}

double naive_lse(const Problem *p, int64_t i) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < p->c.rows; j++)
        if (j != i)
            max = fmax(max, similarity(p, p->zp, i, j));
    for (int64_t j = 0; j < p->c.rows; j++)
        if (j != i)
            sum += exp(similarity(p, p->zp, i, j) - max);
    return p->c.rows > 1 ? max + log(sum) : -INFINITY;
}

double naive_loss(const Problem *p) {
    double total = 0;
    for (int64_t i = 0; i < p->c.rows; i++) {
        int positives = naive_positives(p, i);
        double mean = 0;
        for (int64_t j = 0; j < p->c.rows; j++)
            if (is_positive(p, i, j))
                mean += similarity(p, p->zd, i, j) / positives;
        total += positives > 0 ? naive_lse(p, i) - mean : 0;
    }
    return (double)p->c.temperature / (double)BASE_TEMPERATURE * total / (double)p->anchors;
}

/* The sum over anchors i of what their term adds to rows i and j. */
void naive_gradient(const Problem *p, double *dz) {
    int dim = p->c.dim;
    double scale = 1 / ((double)BASE_TEMPERATURE * (double)p->anchors);
    for (int64_t i = 0; i < p->c.rows; i++) {
        int positives = naive_positives(p, i);
        if (!positives)
            continue;
        double lse = naive_lse(p, i);
        for (int64_t j = 0; j < p->c.rows; j++) {
            if (j == i)
                continue;
            double weight = exp(similarity(p, p->zp, i, j) - lse);
            double pull = is_positive(p, i, j) ? 1.0 / positives : 0;
            for (int k = 0; k < dim; k++) {
                dz[i * dim + k] += scale * (weight * p->zp[j * dim + k] - pull * p->zd[j * dim + k]);
                dz[j * dim + k] += scale * (weight * p->zp[i * dim + k] - pull * p->zd[i * dim + k]);
            }
        }
    }
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

/* A result's memory on the device, and where it goes on the host. */
typedef struct Output {
    Tensor tensor;
    void *host;
} Output;

static Output output_new(Device *d, DType type, int64_t n) {
    return (Output){tensor_new(d, type, n), block(n, dtype_size(type))};
}

/* Copies it to the host, checks its guard words and frees it; returns the host's memory. */
static void *output_take(Output *output) {
    Tensor *t = &output->tensor;
    t->device->ops->memory->copy_out(t->device, output->host, t->data, (size_t)t->n * dtype_size(t->type));
    assert_true(tensor_guards_hold(t));
    tensor_free(t);
    return output->host;
}

Result contrast_run(Device *d, const Problem *p) {
    const Case *c = &p->c;
    const Ops *ops = d->ops;
    const int64_t n = c->rows * c->dim;
    ContrastShape shape = {.rows = c->rows,
                           .dim = c->dim,
                           .groups = p->groups,
                           .anchors = p->anchors,
                           .temperature = c->temperature,
                           .base_temperature = BASE_TEMPERATURE,
                           .products = p->products};
    Tensor z = tensor_new(d, DTYPE_F32, n), group = tensor_new(d, DTYPE_I32, c->rows),
           part = tensor_new(d, DTYPE_F64, 1);
    Tensor scratch = tensor_new(d, DTYPE_U8, (int64_t)ops->contrast->scratch(d, c->rows, p->groups, c->dim));
    Output lse = output_new(d, DTYPE_F32, c->rows), anchored = output_new(d, DTYPE_F32, c->rows);
    Output dz = output_new(d, DTYPE_F32, n), sums = output_new(d, DTYPE_F32, (int64_t)p->groups * c->dim);
    Output counts = output_new(d, DTYPE_I32, p->groups);
    Result r = {0};
    ops->memory->copy_in(d, z.data, p->z, (size_t)n * sizeof *p->z);
    ops->memory->copy_in(d, group.data, p->group, (size_t)c->rows * sizeof *p->group);
    for (int rank = 0; rank_range(c, rank, &shape); rank++) {
        float *own_lse = (float *)lse.tensor.data + shape.own_first;
        ops->contrast->groups(d, &shape, z.data, group.data, sums.tensor.data, counts.tensor.data);
        ops->contrast->lse(d, &shape, z.data, own_lse, scratch.data);
        ops->contrast->loss(d, &shape, z.data, group.data, sums.tensor.data, counts.tensor.data, own_lse, part.data,
                            (float *)anchored.tensor.data + shape.own_first);
        double *loss = tensor_values(&part);
        r.loss += *loss;
        free(loss);
    }
    for (int rank = 0; rank_range(c, rank, &shape); rank++)
        ops->contrast->gradient(d, &shape, z.data, group.data, sums.tensor.data, counts.tensor.data,
                                anchored.tensor.data, (float *)dz.tensor.data + shape.own_first * c->dim, scratch.data);
    r.lse = output_take(&lse), r.anchored = output_take(&anchored), r.dz = output_take(&dz);
    r.sums = output_take(&sums), r.counts = output_take(&counts);
    assert_true(tensor_guards_hold(&scratch) && tensor_guards_hold(&part));
    tensor_free(&z), tensor_free(&group), tensor_free(&part), tensor_free(&scratch);
    return r;
}

void result_free(Result *r) {
    free(r->lse), free(r->anchored), free(r->dz), free(r->sums), free(r->counts);
}

void assert_vector(const char *what, int index, int64_t n, const float *got, const double *want, double allowed,
                   double least) {
    const Tolerance tolerance = {.name = "this case",
                                 .relative_l2 = allowed,
                                 .element_factor = INFINITY,
                                 .reason = "as a whole",
                                 .least_norm = least};
    char name[64];
    double *wide = block(n, sizeof *wide);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)got[i];
    snprintf(name, sizeof name, "case %d, %s", index, what);
    const bool agrees = compare_within(name, n, wide, want, &tolerance);
    free(wide);
    assert_true(agrees);
}

void assert_within(const char *what, int index, double off, double allowed) {
    if (!(off <= allowed))
        print_message("case %d, %s: off by %.3g, allowed %.3g\n", index, what, off, allowed);
    assert_true(off <= allowed);
}
