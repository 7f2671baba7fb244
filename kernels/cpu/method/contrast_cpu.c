/* The tiled contrastive loss on the CPU: no N x N matrix, two sweeps over tiles of similarities.
 *
 * The gathered rows are cut into this rank's own rows and the others; each range is cut into square blocks. A sweep
 * visits every pair of blocks (own, any) and calls one function on its tile of dot products:
 *
 *   own x own    similarities are symmetric, so a tile above the diagonal serves the rows of both its blocks. Pairs are
 *                met in the rounds of a tournament: within a round no block plays twice, so threads never write the
 *                same rows, and every row adds its tiles in the same order whatever the thread count.
 *   own x other  a thread takes one own block and walks along all others.
 *
 * A tile lives in a thread's cache. Row sums of a tile are float32, then merged in double. Every exponential is of
 * s - max or s - lse, so nothing overflows or vanishes at any temperature, and no maximum has to be known in advance.
 */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/contract/contrast.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/exp_lanes.h"

enum { BLOCK_MIN = 64, BLOCK_MAX = 256, BLOCKS_WANTED = 16, GROUP_LANES = 32 };

typedef struct Block {
    int64_t first; /* gathered row */
    int rows;
} Block;

/* What the sweeps share. Arrays indexed by own row are [own_rows], by gathered row [rows]. */
typedef struct Sweep {
    Device *device;
    const ContrastShape *shape;
    const float *z; /* [rows, D] */
    float inverse_temperature;
    int threads, block;
    float *tiles;     /* [threads][block * block] */
    float *maximum;   /* own rows: largest s so far */
    double *sum;      /* own rows: sum of exp(s - maximum) so far */
    const float *lse; /* gathered rows: +inf where a = 0 */
    float *dz;        /* [own_rows, D] */
} Sweep;

/* Works on the tile of dot products [a.rows][b.rows], row stride sweep->block. `both`: b's rows are own rows as well
 * and take their share of the transposed tile; a and b may be the same block, then each pair appears twice in the tile.
 */
typedef void TileFunction(const Sweep *sweep, Block a, Block b, int both, float *tile);

static int block_size(int64_t own_rows) {
    int64_t block = own_rows / BLOCKS_WANTED / BLOCK_MIN * BLOCK_MIN;
    return block < BLOCK_MIN ? BLOCK_MIN : block > BLOCK_MAX ? BLOCK_MAX : (int)block;
}

static int64_t block_count(int64_t rows, int block) {
    return (rows + block - 1) / block;
}

/* Block `index` of the range [first, first + rows). */
static Block block_at(int64_t first, int64_t rows, int block, int64_t index) {
    int64_t start = index * block, left = rows - start;
    return (Block){first + start, left < block ? (int)left : block};
}

static void visit(const Sweep *sweep, Block a, Block b, int both, TileFunction *function) {
    int dim = sweep->shape->dim, block = sweep->block;
    float *tile = sweep->tiles + (size_t)omp_get_thread_num() * (size_t)block * (size_t)block;
    cpu_gemm(sweep->device, 'N', 'T', a.rows, b.rows, dim, sweep->z + a.first * dim, dim, sweep->z + b.first * dim, dim,
             0.0f, tile, block);
    function(sweep, a, b, both, tile);
}

/* Own rows against own rows. With `players` blocks (an even number, one may be a bye) the circle method makes
 * players - 1 rounds: player 0 stays, the others move one place, opposite places meet. */
static void sweep_own(const Sweep *sweep, TileFunction *function) {
    int64_t first = sweep->shape->own_first, rows = sweep->shape->own_rows;
    int64_t blocks = block_count(rows, sweep->block), players = blocks + blocks % 2;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < blocks; i++) {
        Block own = block_at(first, rows, sweep->block, i);
        visit(sweep, own, own, 0, function);
    }
    for (int64_t round = 0; round < players - 1; round++) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t pair = 0; pair < players / 2; pair++) {
            int64_t ring = players - 1;
            int64_t i = pair == 0 ? ring : (round + pair) % ring, j = (round + ring - pair) % ring;
            int64_t low = i < j ? i : j, high = i < j ? j : i;
            if (high < blocks)
                visit(sweep, block_at(first, rows, sweep->block, low), block_at(first, rows, sweep->block, high), 1,
                      function);
        }
    }
}

/* Own rows against the rows [first, first + rows) of other ranks. */
static void sweep_others(const Sweep *sweep, int64_t first, int64_t rows, TileFunction *function) {
    int64_t own_blocks = block_count(sweep->shape->own_rows, sweep->block), blocks = block_count(rows, sweep->block);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < own_blocks; i++)
        for (int64_t j = 0; j < blocks; j++)
            visit(sweep, block_at(sweep->shape->own_first, sweep->shape->own_rows, sweep->block, i),
                  block_at(first, rows, sweep->block, j), 0, function);
}

static void sweep_all(const Sweep *sweep, TileFunction *function) {
    const ContrastShape *shape = sweep->shape;
    int64_t own_end = shape->own_first + shape->own_rows;
    cpu_use_threads(sweep->device); /* a team of one is no parallel region: a product in it asks OpenMP for threads */
#pragma omp parallel num_threads(sweep->threads)
    {
        sweep_own(sweep, function);
        sweep_others(sweep, 0, shape->own_first, function);
        sweep_others(sweep, own_end, shape->rows - own_end, function);
    }
}

/* Scratch layout: tiles, then sums, then maxima. */
static size_t tile_bytes(const Device *device, int block) {
    return (size_t)device->threads * (size_t)block * (size_t)block * sizeof(float);
}

static size_t contrast_scratch_cpu(Device *device, int64_t rows, int groups, int dim) {
    (void)groups;
    (void)dim;
    return tile_bytes(device, block_size(rows)) + (size_t)rows * (sizeof(double) + sizeof(float));
}

static Sweep sweep_make(Device *device, const ContrastShape *shape, const float *z, void *scratch) {
    int block = block_size(shape->own_rows);
    char *base = scratch;
    double *sum = (double *)(void *)(base + tile_bytes(device, block));
    return (Sweep){.device = device,
                   .shape = shape,
                   .z = z,
                   .inverse_temperature = 1.0f / shape->temperature,
                   .threads = device->threads,
                   .block = block,
                   .tiles = scratch,
                   .sum = sum,
                   .maximum = (float *)(sum + shape->own_rows)};
}

/* Adds a part with maximum `max` and sum `sum` of exp(s - max) to an own row's running pair. */
static void merge(const Sweep *sweep, int64_t row, float max, float sum) {
    int64_t own = row - sweep->shape->own_first;
    float old = sweep->maximum[own], top = max > old ? max : old;
    sweep->sum[own] = sweep->sum[own] * exp((double)old - (double)top) + (double)sum * exp((double)max - (double)top);
    sweep->maximum[own] = top;
}

/* A row is never compared with itself. */
static void drop_diagonal(int rows, int stride, float *tile, float value) {
    for (int i = 0; i < rows; i++)
        tile[(size_t)i * (size_t)stride + (size_t)i] = value;
}

static void lse_columns(const Sweep *sweep, Block a, Block b, const float *tile) {
    float max[BLOCK_MAX], sum[BLOCK_MAX];
    float scale = sweep->inverse_temperature;
    for (int j = 0; j < b.rows; j++) {
        max[j] = -FLT_MAX;
        sum[j] = 0.0f;
    }
    for (int i = 0; i < a.rows; i++) {
        const float *restrict s = tile + (size_t)i * (size_t)sweep->block;
#pragma omp simd
        for (int j = 0; j < b.rows; j++)
            max[j] = s[j] > max[j] ? s[j] : max[j];
    }
    for (int i = 0; i < a.rows; i++) {
        const float *restrict s = tile + (size_t)i * (size_t)sweep->block;
#pragma omp simd
        for (int j = 0; j < b.rows; j++)
            sum[j] += lane_exp((s[j] - max[j]) * scale);
    }
    for (int j = 0; j < b.rows; j++)
        merge(sweep, b.first + j, max[j] * scale, sum[j]);
}

static void lse_tile(const Sweep *sweep, Block a, Block b, int both, float *tile) {
    float scale = sweep->inverse_temperature;
    if (a.first == b.first)
        drop_diagonal(a.rows, sweep->block, tile, -INFINITY);
    for (int i = 0; i < a.rows; i++) {
        const float *restrict s = tile + (size_t)i * (size_t)sweep->block;
        float max = -FLT_MAX, sum = 0.0f;
#pragma omp simd reduction(max : max)
        for (int j = 0; j < b.rows; j++)
            max = s[j] > max ? s[j] : max;
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < b.rows; j++)
            sum += lane_exp((s[j] - max) * scale);
        if (max > -FLT_MAX || sum != 0.0f)
            merge(sweep, a.first + i, max > -FLT_MAX ? max * scale : 0.0f, sum);
    }
    if (both)
        lse_columns(sweep, a, b, tile);
}

static void contrast_lse_cpu(Device *device, const ContrastShape *shape, const float *z, float *lse, void *scratch) {
    if (shape->own_rows == 0)
        return;
    Sweep sweep = sweep_make(device, shape, z, scratch);
    for (int64_t i = 0; i < shape->own_rows; i++) {
        sweep.sum[i] = 0.0;
        sweep.maximum[i] = -FLT_MAX;
    }
    sweep_all(&sweep, lse_tile);
    for (int64_t i = 0; i < shape->own_rows; i++)
        lse[i] = (float)((double)sweep.maximum[i] + log(sweep.sum[i]));
}

/* Turns the tile into the pair weights a_i p_ij + a_j p_ji, which are the same for (i, j) and (j, i). */
static void weigh_pairs(const Sweep *sweep, Block a, Block b, float *tile) {
    const float *restrict lse_b = sweep->lse + b.first;
    float scale = sweep->inverse_temperature;
    for (int i = 0; i < a.rows; i++) {
        float *restrict s = tile + (size_t)i * (size_t)sweep->block;
        float lse_a = sweep->lse[a.first + i];
#pragma omp simd
        for (int j = 0; j < b.rows; j++) {
            float similarity = s[j] * scale;
            s[j] = lane_exp(similarity - lse_a) + lane_exp(similarity - lse_b[j]);
        }
    }
    if (a.first == b.first)
        drop_diagonal(a.rows, sweep->block, tile, 0.0f);
}

static void gradient_tile(const Sweep *sweep, Block a, Block b, int both, float *tile) {
    int dim = sweep->shape->dim, block = sweep->block;
    float *dz_a = sweep->dz + (a.first - sweep->shape->own_first) * dim;
    weigh_pairs(sweep, a, b, tile);
    cpu_gemm(sweep->device, 'N', 'N', a.rows, dim, b.rows, tile, block, sweep->z + b.first * dim, dim, 1.0f, dz_a, dim);
    if (both) {
        float *dz_b = sweep->dz + (b.first - sweep->shape->own_first) * dim;
        cpu_gemm(sweep->device, 'T', 'N', b.rows, dim, a.rows, tile, block, sweep->z + a.first * dim, dim, 1.0f, dz_b,
                 dim);
    }
}

/* Members of an anchor's positive set, 0 for rows that are no anchors. */
static int positives_of(const int32_t *counts, int32_t group) {
    return group >= 0 ? counts[group] - 1 : 0;
}

static void contrast_gradient_cpu(Device *device, const ContrastShape *shape, const float *z, const int32_t *group,
                                  const float *sums, const int32_t *counts, const float *lse, float *dz,
                                  void *scratch) {
    if (shape->own_rows == 0)
        return;
    int dim = shape->dim;
    Sweep sweep = sweep_make(device, shape, z, scratch);
    sweep.lse = lse;
    sweep.dz = dz;
    memset(dz, 0, (size_t)shape->own_rows * (size_t)dim * sizeof *dz);
    sweep_all(&sweep, gradient_tile);

    float factor = shape->anchors > 0 ? 1.0f / (shape->base_temperature * (float)shape->anchors) : 0.0f;
#pragma omp parallel for num_threads(device->threads) schedule(static)
    for (int64_t i = 0; i < shape->own_rows; i++) {
        int64_t row = shape->own_first + i;
        int positives = positives_of(counts, group[row]);
        const float *restrict zi = z + row * dim;
        float *restrict d = dz + i * dim;
        if (positives > 0) {
            const float *restrict total = sums + (int64_t)group[row] * dim;
            float share = 2.0f / (float)positives;
            for (int k = 0; k < dim; k++)
                d[k] = factor * (d[k] - share * (total[k] - zi[k]));
        } else {
            for (int k = 0; k < dim; k++)
                d[k] *= factor;
        }
    }
}

/* order [rows]: the rows that have a group, by group, each in the order of rows; first [groups + 1]: where groups
 * begin.
 */
static void sort_by_group(const ContrastShape *shape, const int32_t *group, const int32_t *counts, int32_t *first,
                          int32_t *order) {
    first[0] = 0;
    for (int g = 0; g < shape->groups; g++)
        first[g + 1] = first[g] + counts[g];
    for (int64_t i = 0; i < shape->rows; i++)
        if (group[i] >= 0)
            order[first[group[i]]++] = (int32_t)i;
    for (int g = shape->groups; g > 0; g--) /* they have moved on to the next group's */
        first[g] = first[g - 1];
    first[0] = 0;
}

/* Sums are f64 while they grow: rows of a large group are alike, so that f32 would round every addition the same way,
 * and 1/T makes much of it. */
static void contrast_groups_cpu(Device *device, const ContrastShape *shape, const float *z, const int32_t *group,
                                float *sums, int32_t *counts) {
    const int dim = shape->dim, groups = shape->groups;
    int32_t *first = cpu_scratch(device, ((size_t)groups + 1 + (size_t)shape->rows) * sizeof *first);
    int32_t *order = first + groups + 1;
    memset(counts, 0, (size_t)groups * sizeof *counts);
    for (int64_t i = 0; i < shape->rows; i++)
        if (group[i] >= 0)
            counts[group[i]]++;
    sort_by_group(shape, group, counts, first, order);
#pragma omp parallel for num_threads(device->threads) schedule(static)
    for (int lane = 0; lane < dim; lane += GROUP_LANES) {
        const int lanes = dim - lane < GROUP_LANES ? dim - lane : GROUP_LANES;
        for (int g = 0; g < groups; g++) {
            double sum[GROUP_LANES] = {0};
            for (int32_t at = first[g]; at < first[g + 1]; at++) {
                const float *restrict zi = z + (int64_t)order[at] * dim + lane;
                for (int k = 0; k < lanes; k++)
                    sum[k] += (double)zi[k];
            }
            for (int k = 0; k < lanes; k++)
                sums[(int64_t)g * dim + lane + k] = (float)sum[k];
        }
    }
}

static void contrast_loss_cpu(Device *device, const ContrastShape *shape, const float *z, const int32_t *group,
                              const float *sums, const int32_t *counts, const float *lse, double *loss,
                              float *lse_out) {
    (void)device;
    int dim = shape->dim;
    double total = 0.0;
    for (int64_t i = 0; i < shape->own_rows; i++) {
        int64_t row = shape->own_first + i;
        int positives = positives_of(counts, group[row]);
        lse_out[i] = positives > 0 ? lse[i] : INFINITY;
        if (positives <= 0)
            continue;
        const float *zi = z + row * dim, *sum = sums + (int64_t)group[row] * dim;
        double dot = 0.0;
        for (int k = 0; k < dim; k++)
            dot += (double)zi[k] * ((double)sum[k] - (double)zi[k]);
        /* Never below the log of the number of positives: only rounding gets there, for e^s is convex. */
        const double value = (double)lse[i] - dot / ((double)positives * (double)shape->temperature);
        const double least = log((double)positives);
        total += value < least ? least : value;
    }
    double scale = (double)shape->temperature / (double)shape->base_temperature;
    *loss = shape->anchors > 0 ? scale * total / (double)shape->anchors : 0.0;
}

const ContrastOps contrast_ops_cpu = {
    .scratch = contrast_scratch_cpu,
    .groups = contrast_groups_cpu,
    .lse = contrast_lse_cpu,
    .loss = contrast_loss_cpu,
    .gradient = contrast_gradient_cpu,
};
