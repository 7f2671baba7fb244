/* Sums of the contrastive loss where they are long or many: groups of two rows and of thousands, and few own rows
 * against thousands of columns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/philox.h"
#include "tests/support/numbers/contrast_case.h"
#include "tests/support/numbers/device_fixture.h"
#include "tests/support/numbers/tensor.h"

static const struct {
    int64_t rows;
    int dim, groups, spread; /* ids in use: 0, spread, 2 spread, ... */
    int without;             /* of 10 rows, how many have no group */
} shapes[] = {{0, 3, 5, 1, 0},      {1, 1, 1, 1, 0},       {64, 16, 4, 1, 0},    {65, 33, 1, 1, 0},
              {1000, 5, 1, 1, 3},   {130, 128, 65, 1, 0},  {300, 130, 7, 1, 10}, {2049, 3, 255, 1, 2},
              {2048, 4, 256, 1, 1}, {5000, 2, 2500, 1, 1}, {5000, 5, 3, 1, 0},   {700, 2, 70001, 97, 1},
              {900, 2, 70001, 1, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static int32_t *draw_groups(int s) {
    int32_t *group = block(shapes[s].rows, sizeof *group);
    const int ids = (shapes[s].groups + shapes[s].spread - 1) / shapes[s].spread;
    for (int64_t i = 0; i < shapes[s].rows; i++) {
        const Philox4 draw = philox4x32(11, (uint64_t)i, (uint64_t)s);
        const int id = (int)(philox_uniform(draw.v[0]) * (float)ids);
        group[i] = philox_uniform(draw.v[1]) * 10 < (float)shapes[s].without ? -1 : id * shapes[s].spread;
    }
    return group;
}

static void test_groups(void **state) {
    Device *d = *state;
    for (int s = 0; s < SHAPES; s++) {
        const int64_t rows = shapes[s].rows, dim = shapes[s].dim, groups = shapes[s].groups;
        Tensor z = tensor_random(d, DTYPE_F32, rows * dim, -1, 1, 1), group = tensor_new(d, DTYPE_I32, rows);
        Tensor sums = tensor_new(d, DTYPE_F32, groups * dim), counts = tensor_new(d, DTYPE_I32, groups);
        double *values = tensor_values(&z), *want = block(groups * dim, sizeof *want);
        double *want_counts = block(groups, sizeof *want_counts);
        int32_t *ids = draw_groups(s);
        for (int64_t i = 0; i < rows; i++) {
            if (ids[i] < 0)
                continue;
            want_counts[ids[i]]++;
            for (int64_t k = 0; k < dim; k++)
                want[ids[i] * dim + k] += values[i * dim + k];
        }
        d->ops->memory->copy_in(d, group.data, ids, (size_t)rows * sizeof *ids);
        ContrastShape shape = {.rows = rows, .dim = (int)dim, .groups = (int)groups};
        d->ops->contrast->groups(d, &shape, z.data, group.data, sums.data, counts.data);
        assert_true(tensor_equals("counts", &counts, want_counts, TOLERANCE_EXACT));
        assert_true(tensor_equals("sums", &sums, want, TOLERANCE_F32));
        double *first = tensor_values(&sums);
        d->ops->contrast->groups(d, &shape, z.data, group.data, sums.data, counts.data);
        assert_true(tensor_equals("sums again", &sums, first, TOLERANCE_EXACT));
        free(values), free(want), free(want_counts), free(ids), free(first);
        tensor_free(&z), tensor_free(&group), tensor_free(&sums), tensor_free(&counts);
    }
}

/* A group's rows that are not a number stay so, and touch no other group. */
static void test_nan_stays_in_its_group(void **state) {
    Device *d = *state;
    enum { ROWS = 200 };
    double values[ROWS], ids[ROWS];
    for (int i = 0; i < ROWS; i++) {
        values[i] = i == 57 ? NAN : 1;
        ids[i] = i % 3;
    }
    Tensor z = tensor_new(d, DTYPE_F32, ROWS), group = tensor_new(d, DTYPE_I32, ROWS);
    Tensor sums = tensor_new(d, DTYPE_F32, 3), counts = tensor_new(d, DTYPE_I32, 3);
    tensor_set(&z, values), tensor_set(&group, ids);
    ContrastShape shape = {.rows = ROWS, .dim = 1, .groups = 3};
    d->ops->contrast->groups(d, &shape, z.data, group.data, sums.data, counts.data);
    double *got = tensor_values(&sums);
    assert_true(isnan(got[0]) && got[1] == 67 && got[2] == 66);
    free(got);
    tensor_free(&z), tensor_free(&group), tensor_free(&sums), tensor_free(&counts);
}

/* Loss of `rows` rows in `groups` groups, all rows of a group alike; groups are orthogonal. */
static double loss_of_equal_rows(Device *d, int rows, int dim, int groups, float temperature) {
    float *values = block((int64_t)rows * dim, sizeof *values);
    int32_t *ids = block(rows, sizeof *ids);
    for (int i = 0; i < rows; i++) {
        ids[i] = i % groups;
        for (int k = ids[i]; k < dim; k += groups) /* unit vectors of coordinates that f32 has to round */
            values[i * dim + k] = 1.0f / sqrtf((float)((dim - ids[i] + groups - 1) / groups));
    }
    Tensor z = tensor_new(d, DTYPE_F32, (int64_t)rows * dim), group = tensor_new(d, DTYPE_I32, rows);
    Tensor sums = tensor_zero(d, DTYPE_F32, groups * dim), counts = tensor_zero(d, DTYPE_I32, groups);
    Tensor lse = tensor_new(d, DTYPE_F32, rows), out = tensor_new(d, DTYPE_F32, rows),
           loss = tensor_new(d, DTYPE_F64, 1);
    Tensor scratch = tensor_new(d, DTYPE_U8, (int64_t)d->ops->contrast->scratch(d, rows, groups, dim));
    ContrastShape shape = {rows, 0, rows, dim, groups, rows, temperature, 0.07f, DTYPE_F32};
    d->ops->memory->copy_in(d, z.data, values, (size_t)rows * (size_t)dim * sizeof *values);
    d->ops->memory->copy_in(d, group.data, ids, (size_t)rows * sizeof *ids);
    d->ops->contrast->groups(d, &shape, z.data, group.data, sums.data, counts.data);
    d->ops->contrast->lse(d, &shape, z.data, lse.data, scratch.data);
    d->ops->contrast->loss(d, &shape, z.data, group.data, sums.data, counts.data, lse.data, loss.data, out.data);
    double got;
    d->ops->memory->copy_out(d, &got, loss.data, sizeof got);
    free(values), free(ids);
    tensor_free(&z), tensor_free(&group), tensor_free(&sums), tensor_free(&counts), tensor_free(&lse);
    tensor_free(&out), tensor_free(&loss), tensor_free(&scratch);
    return got;
}

/* Equal rows are the worst case of a sum that rounds: each addition rounds alike, and 1/T makes a hundredfold of it.
 * One group alone: T/T0 log(rows - 1). And a saturated loss, pairs far from each other: log(1 + ...) of nearly nothing
 * is no less than nothing. */
static void test_equal_rows(void **state) {
    Device *d = *state;
    const int rows = d->kind == DEVICE_CUDA ? 1024 : 4096;
    const double want = (double)0.01f / (double)0.07f * log(rows - 1.0);
    for (int dim = 48; dim <= 128; dim += 40) {
        assert_within("loss of equal rows", dim, fabs(loss_of_equal_rows(d, rows, dim, 1, 0.01f) - want) / want, 2e-6);
        const double saturated = loss_of_equal_rows(d, 2 * (dim / 2), dim, dim / 2, 0.01f);
        assert_true(saturated >= 0);
        assert_within("saturated loss", dim, saturated, 2e-6);
    }
}

/* Sums over thousands of columns whose terms have one sign: a bias of the additions would show. */
static void test_few_rows_against_many_columns(void **state) {
    Device *d = *state;
    enum { ROWS = 4000, DIM = 16, FIRST = 1990, OWN = 20 };
    const DType precision[] = {DTYPE_F32, DTYPE_BF16};
    for (int t = 0; t < (d->kind == DEVICE_CUDA ? 2 : 1); t++) {
        Problem p = problem_new((Case){ROWS, DIM, 10, ALONE, 0.1f, 0, {0}, 0}, precision[t]);
        ContrastShape shape = {ROWS, FIRST, OWN, DIM, p.groups, ROWS, 0.1f, 0.07f, precision[t]};
        double *lse = block(ROWS, sizeof *lse), *want = block(OWN * DIM, sizeof *want);
        float *got = block(OWN * DIM, sizeof *got);
        for (int64_t i = 0; i < ROWS; i++)
            lse[i] = naive_lse(&p, i);
        for (int64_t i = 0; i < OWN; i++)
            for (int64_t j = 0; j < ROWS; j++) {
                const double *zi = p.zp + (FIRST + i) * DIM, *zj = p.zp + j * DIM;
                double s = 0;
                for (int k = 0; k < DIM; k++)
                    s += zi[k] * zj[k] / (double)0.1f;
                const double weight = j == FIRST + i ? 0 : exp(s - lse[FIRST + i]) + exp(s - lse[j]);
                for (int k = 0; k < DIM; k++)
                    want[i * DIM + k] += weight * zj[k] / ((double)0.07f * ROWS);
            }
        Tensor z = tensor_new(d, DTYPE_F32, ROWS * DIM), group = tensor_new(d, DTYPE_I32, ROWS);
        Tensor sums = tensor_zero(d, DTYPE_F32, p.groups * DIM), counts = tensor_zero(d, DTYPE_I32, p.groups);
        Tensor all = tensor_new(d, DTYPE_F32, ROWS), own = tensor_new(d, DTYPE_F32, OWN);
        Tensor dz = tensor_new(d, DTYPE_F32, OWN * DIM);
        Tensor scratch = tensor_new(d, DTYPE_U8, (int64_t)d->ops->contrast->scratch(d, ROWS, p.groups, DIM));
        tensor_set(&z, p.zd), tensor_set(&all, lse);
        d->ops->memory->copy_in(d, group.data, p.group, ROWS * sizeof *p.group);
        d->ops->contrast->lse(d, &shape, z.data, own.data, scratch.data);
        d->ops->contrast->gradient(d, &shape, z.data, group.data, sums.data, counts.data, all.data, dz.data,
                                   scratch.data);
        assert_true(tensor_equals("lse", &own, lse + FIRST, TOLERANCE_F32));
        assert_true(tensor_guards_hold(&dz) && tensor_guards_hold(&scratch));
        d->ops->memory->copy_out(d, got, dz.data, OWN * DIM * sizeof *got);
        assert_vector("dz", t, OWN * DIM, got, want, t == 0 ? 2e-6 : 2e-3, 0);
        free(lse), free(want), free(got);
        tensor_free(&z), tensor_free(&group), tensor_free(&sums), tensor_free(&counts), tensor_free(&all);
        tensor_free(&own), tensor_free(&dz), tensor_free(&scratch);
        problem_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_nan_stays_in_its_group),
        cmocka_unit_test(test_equal_rows),
        cmocka_unit_test(test_few_rows_against_many_columns),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
