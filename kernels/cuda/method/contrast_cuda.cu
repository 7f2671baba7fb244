/* The two tiled passes of the contrastive loss: log-sum-exp of own rows, and the gradient of own rows.
 *
 * blockIdx.x picks the block's own rows. blockIdx.y picks its share of the columns, so that few own rows fill the
 * device too; the shares leave parts in scratch, which a second kernel adds in a fixed order.
 *
 * Pass 1 keeps a running maximum and sum per row in every lane that has some of the row's columns, so that nothing is
 * exchanged before the end. The maximum costs one comparison per element and an exponential per 16 of them; it holds
 * for any temperature and rows of any norm, where a fixed 1/T would not. Parts are merged in double.
 *
 * Pass 2 makes weights w_ij = exp(s_ij - lse_i) + exp(s_ij - lse_j) of the same products, turns them in registers into
 * an operand of the next product, and adds w z in registers over all columns. Both exponentials are evaluated: one,
 * times factors per row and column, would do where lse varies little, but not in general. */
#include <float.h>

#include "kernels/cuda/method/contrast_groups.h"
#include "kernels/cuda/method/contrast_tiles.cuh"
#include "kernels/cuda/threads/reduce.cuh"

#define LOG2_E 1.44269504f
#define LN_2 0.693147180559945309

/* ---- pass 1 ------------------------------------------------------------------------------------------------------ */

/* Adds the pair (top2, sum2) to (top, sum): a sum of 2^(exponents - top). */
static __device__ __forceinline__ void merge(float *top, double *sum, float top2, double sum2) {
    const float now = fmaxf(*top, top2);
    *sum = *sum * exp2((double)*top - (double)now) + sum2 * exp2((double)top2 - (double)now);
    *top = now;
}

/* Takes a tile's products into the running maxima (as exponents of 2) and sums of the lane's rows. A product that is
 * NaN makes the sum NaN. */
template <typename S>
static __device__ __forceinline__ void take(const typename S::Products &products, float scale, float (&tops)[S::M][2],
                                            float (&sums)[S::M][2]) {
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float largest = products[m][0][2 * i];
#pragma unroll
            for (int n = 0; n < S::N; n++)
                largest = fmaxf(largest, fmaxf(products[m][n][2 * i], products[m][n][2 * i + 1]));
            const float top = fmaxf(tops[m][i], largest * scale);
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < S::N; n++)
                sum += fast_exp2(fmaf(products[m][n][2 * i], scale, -top)) +
                       fast_exp2(fmaf(products[m][n][2 * i + 1], scale, -top));
            sums[m][i] = fmaf(sums[m][i], fast_exp2(tops[m][i] - top), sum);
            tops[m][i] = top;
        }
}

/* tops, sums [splits, own_rows] */
template <typename S>
static __global__ void __launch_bounds__(S::THREADS, S::LSE_BLOCKS)
    lse_kernel(Sweep<typename S::T> sweep, float *__restrict__ tops, double *__restrict__ sums) {
    DYNAMIC_SHARED(unsigned char, memory);
    const Places<S> at(memory);
    float lane_tops[S::M][2], lane_sums[S::M][2];
#pragma unroll
    for (int m = 0; m < S::M; m++) {
        lane_tops[m][0] = lane_tops[m][1] = -FLT_MAX;
        lane_sums[m][0] = lane_sums[m][1] = 0.0f;
    }
    sweep_tiles<S>(sweep, at, sweep.chunks - 1,
                   [&](const typename S::Products &products, const typename S::T *, const float *) {
                       take<S>(products, sweep.scale, lane_tops, lane_sums);
                   });
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = warp_first_row<S>() + m * 16 + i * 8 + lane / 4;
            float top = lane_tops[m][i];
            double sum = (double)lane_sums[m][i];
            for (int by = 1; by < 4; by *= 2) {
                const float other_top = __shfl_xor_sync(ALL_LANES, top, by);
                merge(&top, &sum, other_top, __shfl_xor_sync(ALL_LANES, sum, by));
            }
            if (lane % 4 == 0 && own < sweep.own_rows) {
                tops[(int64_t)blockIdx.y * sweep.own_rows + own] = top;
                sums[(int64_t)blockIdx.y * sweep.own_rows + own] = sum;
            }
        }
}

static __global__ void lse_join_kernel(int64_t own_rows, int splits, const float *__restrict__ tops,
                                       const double *__restrict__ sums, float *__restrict__ lse) {
    for (int64_t i = grid_first(); i < own_rows; i += grid_step()) {
        float top = -FLT_MAX;
        double sum = 0.0;
        for (int split = 0; split < splits; split++)
            merge(&top, &sum, tops[split * own_rows + i], sums[split * own_rows + i]);
        lse[i] = (float)(LN_2 * ((double)top + log2(sum)));
    }
}

/* ---- pass 2 ------------------------------------------------------------------------------------------------------ */

/* Turns products into weights. Both lse as exponents of 2; column_lse are those of the tile. */
template <typename S>
static __device__ __forceinline__ void weigh_pairs(typename S::Products &products, float scale,
                                                   const float (&own_lse)[S::M][2], const float *column_lse) {
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < S::N; n++) {
        const float2 lse = *reinterpret_cast<const float2 *>(column_lse + n * 8 + lane % 4 * 2);
        const float of_column[2] = {lse.x * LOG2_E, lse.y * LOG2_E};
#pragma unroll
        for (int m = 0; m < S::M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float product = products[m][n][i];
                products[m][n][i] = fast_exp2(fmaf(product, scale, -own_lse[m][i / 2])) +
                                    fast_exp2(fmaf(product, scale, -of_column[i % 2]));
            }
    }
}

/* gradient += weights [WARP_ROWS, COLUMNS] times rows [COLUMNS, CHUNK]. */
template <typename S>
static __device__ __forceinline__ void add_weighted(const typename S::Products &weights, const typename S::T *rows,
                                                    typename S::Gradient &gradient) {
    typedef Operands<typename S::T> Operand;
    typename Operand::Left a[S::M][CHAIN];
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int k = 0; k < CHAIN; k++)
            Operand::set(a[m][k], &weights[m][k * S::K / 8]);
#pragma unroll
    for (int n = 0; n < S::CHUNK / 8; n += 2) {
        typename Operand::Chain chains[S::M][2];
#pragma unroll
        for (int k = 0; k < CHAIN; k++) {
            typename Operand::Right b[2];
            Operand::load_rows(b, rows + k * S::K * S::LD + n * 8, S::LD);
#pragma unroll
            for (int m = 0; m < S::M; m++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    chains[m][i].add(gradient[m][n + i], a[m][k], b[i]);
        }
#pragma unroll
        for (int m = 0; m < S::M; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                chains[m][i].finish(gradient[m][n + i]);
    }
}

/* out [own_rows, dim], of which the lane writes its part of the block's rows and chunk. */
template <typename S>
static __device__ __forceinline__ void write_gradient(const typename S::Gradient &gradient,
                                                      const Sweep<typename S::T> &sweep, int first_dim, int dim,
                                                      float *out) {
    const int lane = (int)threadIdx.x % 32, first = (int)grid_first() / WARP * S::WARP_ROWS + lane / 4;
    const bool pairs = dim % 2 == 0 && reinterpret_cast<uintptr_t>(out) % sizeof(float2) == 0;
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = first + m * 16 + i * 8;
            float *row = out + (int64_t)own * dim;
            if (own >= sweep.own_rows)
                continue;
#pragma unroll
            for (int n = 0; n < S::CHUNK / 8; n++) {
                const int d = first_dim + n * 8 + lane % 4 * 2;
                const float x = gradient[m][n][2 * i], y = gradient[m][n][2 * i + 1];
                if (pairs && d < dim) {
                    *reinterpret_cast<float2 *>(row + d) = make_float2(x, y);
                } else if (d < dim) {
                    row[d] = x;
                    if (d + 1 < dim)
                        row[d + 1] = y;
                }
            }
        }
}

/* sums [splits, own_rows, dim] = sum over the split's columns of w_ij z_j. blockIdx.z: the chunk of dimensions. */
template <typename S>
static __global__ void __launch_bounds__(S::THREADS, S::GRADIENT_BLOCKS)
    gradient_kernel(Sweep<typename S::T> sweep, int dim, float *__restrict__ sums) {
    DYNAMIC_SHARED(unsigned char, memory);
    const Places<S> at(memory);
    const int chunk = (int)blockIdx.z, lane = (int)threadIdx.x % 32;
    float own_lse[S::M][2];
    typename S::Gradient gradient = {};
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = warp_first_row<S>() + m * 16 + i * 8 + lane / 4;
            own_lse[m][i] = own < sweep.own_rows ? sweep.lse[sweep.own_first + own] * LOG2_E : INFINITY;
        }
    sweep_tiles<S>(sweep, at, chunk,
                   [&](typename S::Products &products, const typename S::T *columns, const float *column_lse) {
                       weigh_pairs<S>(products, sweep.scale, own_lse, column_lse);
                       add_weighted<S>(products, columns, gradient);
                   });
    write_gradient<S>(gradient, sweep, chunk * S::CHUNK, dim, sums + (int64_t)blockIdx.y * sweep.own_rows * dim);
}

/* dz = factor * (sum over splits of sums - 2/|P| * (the row's group without the row)); a warp per row. sums may be dz,
 * when there is one split. */
static __global__ void gradient_finish_kernel(int64_t own_rows, int64_t own_first, int dim, int splits,
                                              const float *sums, const float *__restrict__ z,
                                              const int32_t *__restrict__ group, const float *__restrict__ group_sums,
                                              const int32_t *__restrict__ counts, float factor, float *dz) {
    const int lane = (int)threadIdx.x % WARP;
    for (int64_t own = grid_first() / WARP; own < own_rows; own += grid_step() / WARP) {
        const int64_t row = own_first + own;
        const int32_t id = group[row];
        const int positives = id >= 0 ? counts[id] - 1 : 0;
        const float share = positives > 0 ? 2.0f / (float)positives : 0.0f;
        for (int d = lane; d < dim; d += WARP) {
            float sum = 0.0f;
            for (int split = 0; split < splits; split++)
                sum += sums[(split * own_rows + own) * dim + d];
            if (positives > 0)
                sum -= share * (group_sums[(int64_t)id * dim + d] - z[row * dim + d]);
            dz[own * dim + d] = factor * sum;
        }
    }
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

/* z as bf16, rows padded with zeros to `stride`, a multiple of 8. A thread makes 16 bytes; wide: and reads 32 as two
 * times 16. */
static __global__ void round_rows_kernel(int64_t rows, int dim, int stride, int wide, const float *__restrict__ z,
                                         bf16 *__restrict__ out) {
    const int units = stride / 8;
    for (int64_t i = grid_first(); i < rows * units; i += grid_step()) {
        const int first = (int)(i % units) * 8;
        const float *row = z + i / units * dim;
        float values[8];
        if (wide) {
            lanes_load(row + first, values);
            lanes_load(row + first + 4, values + 4);
        } else {
#pragma unroll
            for (int e = 0; e < 8; e++)
                values[e] = first + e < dim ? row[first + e] : 0.0f;
        }
        lanes_store(out + i * 8, values);
    }
}

/* How the columns are split over blocks. */
typedef struct Grid {
    int row_blocks, splits, tiles_per_split;
} Grid;

/* As many splits as make the blocks that the device runs at once. */
static Grid grid_for(const Device *device, const ContrastShape *shape, int rows_per_block, int columns, int chunks,
                     int blocks_per_sm) {
    const int64_t row_blocks = ceil_div(shape->own_rows, rows_per_block), tiles = ceil_div(shape->rows, columns);
    int64_t splits = (int64_t)cuda_of(device)->multiprocessors * blocks_per_sm / (row_blocks * chunks);
    splits = splits < 1 ? 1 : splits > tiles ? tiles : splits;
    const int64_t tiles_per_split = ceil_div(tiles, splits);
    return {(int)row_blocks, (int)ceil_div(tiles, tiles_per_split), (int)tiles_per_split};
}

/* At least splits * own_rows of any grid_for() with more than one split and no more rows than these. */
static int64_t partial_rows(const Device *device, int64_t rows, int blocks_per_sm) {
    const int64_t resident = (int64_t)cuda_of(device)->multiprocessors * blocks_per_sm;
    const int64_t blocks = ceil_div(rows, LEAST_ROWS) * ceil_div(rows, LEAST_COLUMNS);
    return MOST_ROWS * (blocks < resident ? blocks : resident);
}

static int64_t rounded_stride(int dim) {
    return ceil_div(dim, 8) * 8;
}

/* Scratch: the rows as bf16, then the parts that splits leave. */
static size_t rounded_bytes(int64_t rows, int dim) {
    return (size_t)ceil_div(rows * rounded_stride(dim) * (int64_t)sizeof(bf16), 256) * 256;
}

static size_t contrast_scratch_cuda(Device *device, int64_t rows, int groups, int dim) {
    (void)groups;
    const int64_t of_lse = partial_rows(device, rows, Shapes<bf16>::Usual::LSE_BLOCKS);
    const size_t lse = (size_t)(of_lse > rows ? of_lse : rows) * (sizeof(double) + sizeof(float));
    const size_t gradient =
        (size_t)partial_rows(device, rows, Shapes<bf16>::Usual::GRADIENT_BLOCKS) * (size_t)dim * sizeof(float);
    return rounded_bytes(rows, dim) + (lse > gradient ? lse : gradient);
}

template <typename T>
static Sweep<T> sweep_of(Device *device, const ContrastShape *shape, const float *z, const float *lse, void *scratch) {
    Sweep<T> sweep = {};
    sweep.lse = lse;
    sweep.rows = (int)shape->rows;
    sweep.own_first = (int)shape->own_first;
    sweep.own_rows = (int)shape->own_rows;
    sweep.scale = (float)(1.0 / (LN_2 * (double)shape->temperature));
    if constexpr (sizeof(T) < sizeof(float)) {
        const int64_t stride = rounded_stride(shape->dim), units = shape->rows * stride / 8;
        CUDA_LAUNCH(device, round_rows_kernel, blocks_for(device, units, BLOCK), BLOCK, 0, shape->rows, shape->dim,
                    (int)stride, shape->dim % 8 == 0 && lanes_fit(DTYPE_F32, shape->dim, z), z, (T *)scratch);
        sweep.z = (const T *)scratch;
        sweep.stride = stride;
        sweep.dim = (int)stride;
        sweep.wide = 1;
    } else {
        sweep.z = z;
        sweep.stride = shape->dim;
        sweep.dim = shape->dim;
        sweep.wide = lanes_fit(DTYPE_F32, shape->dim, z);
    }
    return sweep;
}

template <typename S>
static void run_lse(Device *device, const ContrastShape *shape, Sweep<typename S::T> sweep, void *parts, float *lse) {
    const Grid grid = grid_for(device, shape, S::ROWS, S::COLUMNS, 1, S::LSE_BLOCKS);
    double *sums = (double *)parts;
    float *tops = (float *)(sums + grid.splits * shape->own_rows);
    sweep.chunks = (int)ceil_div(sweep.dim, S::CHUNK);
    sweep.tiles_per_split = grid.tiles_per_split;
    CUDA_ALLOW_SHARED(device, lse_kernel<S>, Places<S>::bytes());
    CUDA_LAUNCH(device, lse_kernel<S>, dim3((unsigned)grid.row_blocks, (unsigned)grid.splits), S::THREADS,
                Places<S>::bytes(), sweep, tops, sums);
    CUDA_LAUNCH(device, lse_join_kernel, blocks_for(device, shape->own_rows, BLOCK), BLOCK, 0, shape->own_rows,
                grid.splits, tops, sums, lse);
}

template <typename T>
static void lse_of(Device *device, const ContrastShape *shape, const float *z, float *lse, void *scratch) {
    const Sweep<T> sweep = sweep_of<T>(device, shape, z, NULL, scratch);
    void *parts = (char *)scratch + rounded_bytes(shape->rows, shape->dim);
    if (shape->dim <= 64)
        run_lse<typename Shapes<T>::Short>(device, shape, sweep, parts, lse);
    else if (shape->dim <= 128)
        run_lse<typename Shapes<T>::Usual>(device, shape, sweep, parts, lse);
    else
        run_lse<typename Shapes<T>::Long>(device, shape, sweep, parts, lse);
}

static void contrast_lse_cuda(Device *device, const ContrastShape *shape, const float *z, float *lse, void *scratch) {
    if (shape->own_rows == 0)
        return;
    WITH_TYPE(shape->products, T, lse_of<T>(device, shape, z, lse, scratch));
}

/* Leaves the weighted sums in `parts`, or in dz when they are whole; returns the number of splits. */
template <typename S>
static int run_gradient(Device *device, const ContrastShape *shape, Sweep<typename S::T> sweep, void *parts,
                        float *dz) {
    sweep.chunks = (int)ceil_div(sweep.dim, S::CHUNK);
    const Grid grid = grid_for(device, shape, S::ROWS, S::COLUMNS, sweep.chunks, S::GRADIENT_BLOCKS);
    sweep.tiles_per_split = grid.tiles_per_split;
    CUDA_ALLOW_SHARED(device, gradient_kernel<S>, Places<S>::bytes());
    CUDA_LAUNCH(device, gradient_kernel<S>,
                dim3((unsigned)grid.row_blocks, (unsigned)grid.splits, (unsigned)sweep.chunks), S::THREADS,
                Places<S>::bytes(), sweep, shape->dim, grid.splits > 1 ? (float *)parts : dz);
    return grid.splits;
}

template <typename T>
static int gradient_of(Device *device, const ContrastShape *shape, const float *z, const float *lse, void *scratch,
                       float *dz) {
    const Sweep<T> sweep = sweep_of<T>(device, shape, z, lse, scratch);
    void *parts = (char *)scratch + rounded_bytes(shape->rows, shape->dim);
    if (shape->dim <= 64)
        return run_gradient<typename Shapes<T>::Short>(device, shape, sweep, parts, dz);
    if (shape->dim <= 128)
        return run_gradient<typename Shapes<T>::Usual>(device, shape, sweep, parts, dz);
    return run_gradient<typename Shapes<T>::Long>(device, shape, sweep, parts, dz);
}

static void contrast_gradient_cuda(Device *device, const ContrastShape *shape, const float *z, const int32_t *group,
                                   const float *sums, const int32_t *counts, const float *lse, float *dz,
                                   void *scratch) {
    if (shape->own_rows == 0)
        return;
    int splits;
    WITH_TYPE(shape->products, T, splits = gradient_of<T>(device, shape, z, lse, scratch, dz));
    const float factor = shape->anchors > 0 ? 1.0f / (shape->base_temperature * (float)shape->anchors) : 0.0f;
    CUDA_LAUNCH(device, gradient_finish_kernel, blocks_for(device, shape->own_rows, BLOCK / WARP), BLOCK, 0,
                shape->own_rows, shape->own_first, shape->dim, splits,
                splits > 1 ? (const float *)((char *)scratch + rounded_bytes(shape->rows, shape->dim)) : dz, z, group,
                sums, counts, factor, dz);
}

extern "C" const ContrastOps contrast_ops_cuda = {
    .scratch = contrast_scratch_cuda,
    .groups = contrast_groups_cuda,
    .lse = contrast_lse_cuda,
    .loss = contrast_loss_cuda,
    .gradient = contrast_gradient_cuda,
};
