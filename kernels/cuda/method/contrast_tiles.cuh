/* The engine of the tiled contrastive loss: s = z z^T by tensor cores, of which no more exists than blocks work on.
 *
 * A block owns ROWS rows of this rank and walks along tiles of COLUMNS gathered rows. Rows enter shared memory CHUNK
 * dimensions at a time by asynchronous copies, the next step's while this step's are multiplied. Each of the four warps
 * has WARP_ROWS of the rows to itself, against all columns of the tile, so warps meet only where buffers change.
 *
 * The stored type T says how products are made:
 *   bf16   one product, added up in float by the tensor core.
 *   float  three tf32 products: x = big + small, x y = big big + big small + small big, good to about 2^-21. A tensor
 *          core truncates where it adds, which would bias long sums: so only CHAIN products are added there, the minor
 *          ones apart from the big ones, and the rest is ordinary, rounded addition.
 *
 * What a lane holds of a tile is in instructions.cuh: rows g and g + 8, columns 2t and 2t + 1 of every 16 x 8 block. */
#ifndef EXCON_KERNELS_CUDA_CONTRAST_TILES_CUH
#define EXCON_KERNELS_CUDA_CONTRAST_TILES_CUH

#include <cuda_pipeline_primitives.h>

#include "kernels/cuda/threads/instructions.cuh"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"

/* ---- products ---------------------------------------------------------------------------------------------------- */

static constexpr int CHAIN = 4;

template <typename T> struct Operands;

template <> struct Operands<bf16> {
    static constexpr int K = 16; /* of one product */
    struct Left {
        unsigned x[4];
    };
    struct Right {
        unsigned x[2];
    };
    /* Up to CHAIN products that are added to one sum: add them, then finish. */
    struct Chain {
        __device__ __forceinline__ void add(float (&sum)[4], const Left &a, const Right &b) {
            multiply_bf16(sum, a.x, b.x);
        }
        __device__ __forceinline__ void finish(float (&)[4]) {}
    };

    static __device__ __forceinline__ void set(Left &a, const unsigned (&bits)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a.x[i] = bits[i];
    }
    static __device__ __forceinline__ void set(Right &b, unsigned first, unsigned second) {
        b.x[0] = first;
        b.x[1] = second;
    }
    /* weights [16, K], as sums hold them, as a left operand. */
    static __device__ __forceinline__ void set(Left &a, const float (*weights)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a.x[i] = bf16_bits(weights[i / 2][i % 2 * 2], weights[i / 2][i % 2 * 2 + 1]);
    }
    /* Rows of K columns of the tile, from `row` on, times dimensions 0..15: right operands for 8 dimensions each. */
    static __device__ __forceinline__ void load_rows(Right (&b)[2], const bf16 *row, int ld) {
        const int lane = (int)threadIdx.x % 32;
        unsigned bits[4];
        load_matrices_transposed(bits, row + lane % 16 * ld + lane / 16 * 8);
        set(b[0], bits[0], bits[1]);
        set(b[1], bits[2], bits[3]);
    }
};

template <> struct Operands<float> {
    static constexpr int K = 8;
    struct Left {
        unsigned big[4], small[4];
    };
    struct Right {
        unsigned big[2], small[2];
    };
    struct Chain {
        float major[4] = {0, 0, 0, 0}, minor[4] = {0, 0, 0, 0};

        __device__ __forceinline__ void add(float (&)[4], const Left &a, const Right &b) {
            multiply_tf32(minor, a.small, b.big);
            multiply_tf32(minor, a.big, b.small);
            multiply_tf32(major, a.big, b.big);
        }
        __device__ __forceinline__ void finish(float (&sum)[4]) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[i] += major[i] + minor[i];
        }
    };

    /* big: the nearest tf32. That carry may lose a NaN; what is left is cut off, which keeps it. */
    static __device__ __forceinline__ void split(float x, unsigned *big, unsigned *small) {
        *big = (__float_as_uint(x) + 0x1000u) & 0xFFFFE000u;
        *small = __float_as_uint(x - __uint_as_float(*big)) & 0xFFFFE000u;
    }
    static __device__ __forceinline__ void set(Left &a, const unsigned (&bits)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            split(__uint_as_float(bits[i]), &a.big[i], &a.small[i]);
    }
    static __device__ __forceinline__ void set(Right &b, unsigned first, unsigned second) {
        split(__uint_as_float(first), &b.big[0], &b.small[0]);
        split(__uint_as_float(second), &b.big[1], &b.small[1]);
    }
    /* The order of k is free as long as both operands agree: here k = t is column 2t and k = t + 4 is column 2t + 1. */
    static __device__ __forceinline__ void set(Left &a, const float (*weights)[4]) {
        split(weights[0][0], &a.big[0], &a.small[0]);
        split(weights[0][2], &a.big[1], &a.small[1]);
        split(weights[0][1], &a.big[2], &a.small[2]);
        split(weights[0][3], &a.big[3], &a.small[3]);
    }
    static __device__ __forceinline__ void load_rows(Right (&b)[2], const float *row, int ld) {
        const int lane = (int)threadIdx.x % 32;
        const float *at = row + lane % 4 * 2 * ld + lane / 4;
        set(b[0], __float_as_uint(at[0]), __float_as_uint(at[ld]));
        set(b[1], __float_as_uint(at[8]), __float_as_uint(at[ld + 8]));
    }
};

/* ---- a block's work ---------------------------------------------------------------------------------------------- */

static constexpr int LEAST_ROWS = 64, MOST_ROWS = 128, LEAST_COLUMNS = 32; /* of the shapes below */

/* M_: blocks of 16 rows per warp; COLUMNS_: rows of z that are columns of a tile; MANY_: rows are longer than a chunk.
 */
template <typename T_, int CHUNK_, bool MANY_, int M_, int COLUMNS_> struct Shape {
    typedef T_ T;
    static constexpr bool MANY = MANY_;
    static constexpr int CHUNK = CHUNK_, M = M_, COLUMNS = COLUMNS_, N = COLUMNS / 8, K = Operands<T>::K;
    static constexpr int THREADS = 4 * 32, WARP_ROWS = 16 * M, ROWS = 4 * WARP_ROWS;
    static constexpr int UNIT = 16 / (int)sizeof(T); /* elements that are copied and loaded at once */
    static constexpr int LSE_BLOCKS = sizeof(T) < 4 ? 3 : 2, GRADIENT_BLOCKS = 2; /* per SM, for which registers do */
    static constexpr int LD = CHUNK + UNIT; /* one unit round the banks from row to row, so that eight do not meet */
    static_assert(COLUMNS == CHAIN * K && CHUNK % (CHAIN * K) == 0, "tiles are made of whole chains");
    static_assert(ROWS >= LEAST_ROWS && ROWS <= MOST_ROWS && COLUMNS >= LEAST_COLUMNS, "scratch is planned with these");

    typedef float Products[M][N][4];         /* a warp's part of a tile of s */
    typedef float Gradient[M][CHUNK / 8][4]; /* and of its rows' gradient */
};

/* By dimensions: up to 64, up to 128, and any. Registers decide: none of these spills. */
template <typename T> struct Shapes;
template <> struct Shapes<bf16> {
    typedef Shape<bf16, 64, false, 2, 64> Short;
    typedef Shape<bf16, 128, false, 2, 64> Usual;
    typedef Shape<bf16, 128, true, 1, 64> Long;
};
template <> struct Shapes<float> {
    typedef Shape<float, 64, false, 1, 32> Short;
    typedef Shape<float, 128, false, 1, 32> Usual;
    typedef Shape<float, 64, true, 1, 32> Long;
};

/* What the kernels of a pass walk over. Counts of rows fit an int; products of them may not. */
template <typename T> struct Sweep {
    const T *z;       /* [rows, stride], of which dim are used */
    const float *lse; /* [rows], +inf where a = 0; NULL in pass 1 */
    int64_t stride;
    int rows, own_first, own_rows;
    int tiles_per_split; /* tiles of columns that one blockIdx.y takes */
    int dim, chunks;     /* chunks * CHUNK >= dim */
    int wide;            /* rows can be read 16 bytes at a time */
    float scale;         /* log2(e) / T: turns products of rows into exponents of 2 */
};

/* What a block has in shared memory. */
template <typename S> struct Places {
    typename S::T *queries; /* [1 or 2][ROWS][LD]: two where chunks change */
    typename S::T *columns; /* [2][COLUMNS][LD] */
    float *column_lse;      /* [2][COLUMNS] */

    static constexpr int QUERIES = (S::MANY ? 2 : 1) * S::ROWS * S::LD, ALL_COLUMNS = 2 * S::COLUMNS * S::LD;
    static constexpr size_t bytes() {
        return sizeof(typename S::T) * (QUERIES + ALL_COLUMNS) + sizeof(float) * 2 * S::COLUMNS;
    }
    __device__ __forceinline__ explicit Places(unsigned char *base) {
        queries = reinterpret_cast<typename S::T *>(base);
        columns = queries + QUERIES;
        column_lse = reinterpret_cast<float *>(columns + ALL_COLUMNS);
    }
};

/* This warp's first row, among the own ones. */
template <typename S> static __device__ __forceinline__ int warp_first_row() {
    return (int)(blockIdx.x * S::ROWS + threadIdx.x / 32 * S::WARP_ROWS);
}

/* ---- global to shared memory ------------------------------------------------------------------------------------- */

/* 16 bytes of a row, of which `left` elements are in use; the others become 0. */
template <typename T> static __device__ __forceinline__ void copy_unit(T *to, const T *from, int left, bool wide) {
    if (wide || sizeof(T) < 4) {
        __pipeline_memcpy_async(to, from, 16);
    } else {
        for (int e = 0; e < Lanes<T>::COUNT; e++)
            if (e < left)
                __pipeline_memcpy_async(to + e, from + e, 4);
            else
                *reinterpret_cast<unsigned *>(to + e) = 0;
    }
}

/* Chunk `chunk` of the rows [first, first + COUNT) of z; where there are only `rows` of them, the last one repeats:
 * what comes of it is dropped. Dimensions beyond the last are 0. */
template <typename S, int COUNT>
static __device__ __forceinline__ void copy_rows(const Sweep<typename S::T> &sweep, int first, int rows, int chunk,
                                                 typename S::T *to) {
    constexpr int UNITS = S::CHUNK / S::UNIT, STEP = S::THREADS / UNITS;
    const int at = (int)threadIdx.x % UNITS * S::UNIT, column = chunk * S::CHUNK + at, left = sweep.dim - column;
    const int row = (int)threadIdx.x / UNITS;
    const typename S::T *from = sweep.z + first * sweep.stride + column;
    to += row * S::LD + at;
    if (left > 0) {
#pragma unroll 2
        for (int i = 0; i < COUNT; i += STEP)
            copy_unit(to + i * S::LD, from + min(row + i, rows - 1) * sweep.stride, left, sweep.wide != 0);
    } else {
        for (int i = 0; i < COUNT; i += STEP)
            *reinterpret_cast<uint4 *>(to + i * S::LD) = make_uint4(0, 0, 0, 0);
    }
}

/* Starts the copies of one step: a tile of columns, and what of the own rows is not there yet. */
template <typename S>
static __device__ __forceinline__ void stage(const Sweep<typename S::T> &sweep, const Places<S> &at, int tile,
                                             int chunk, int buffer, bool first_step) {
    const int column = tile * S::COLUMNS, own = (int)blockIdx.x * S::ROWS;
    copy_rows<S, S::COLUMNS>(sweep, column, sweep.rows - column, chunk, at.columns + buffer * S::COLUMNS * S::LD);
    if (S::MANY || first_step)
        copy_rows<S, S::ROWS>(sweep, sweep.own_first + own, sweep.own_rows - own, chunk,
                              at.queries + (S::MANY ? buffer : 0) * S::ROWS * S::LD);
    if (sweep.lse && threadIdx.x < S::COLUMNS)
        __pipeline_memcpy_async(at.column_lse + buffer * S::COLUMNS + threadIdx.x,
                                sweep.lse + min(column + (int)threadIdx.x, sweep.rows - 1), 4);
    __pipeline_commit();
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

/* products += own rows [WARP_ROWS, CHUNK] times columns [COLUMNS, CHUNK], transposed. */
template <typename S>
static __device__ __forceinline__ void add_products(const typename S::T *queries, const typename S::T *columns,
                                                    typename S::Products &products) {
    typedef Operands<typename S::T> Operand;
    const int lane = (int)threadIdx.x % 32;
    queries += lane % 16 * S::LD + lane / 16 * S::UNIT;
    columns += (lane % 8 + lane / 16 * 8) * S::LD + lane / 8 % 2 * S::UNIT;
#pragma unroll
    for (int start = 0; start < S::CHUNK; start += CHAIN * S::K) {
        typename Operand::Chain chains[S::M][S::N];
#pragma unroll
        for (int k = start; k < start + CHAIN * S::K; k += S::K) {
            typename Operand::Left a[S::M];
            unsigned bits[4];
#pragma unroll
            for (int m = 0; m < S::M; m++) {
                load_matrices(bits, queries + m * 16 * S::LD + k);
                Operand::set(a[m], bits);
            }
#pragma unroll
            for (int n = 0; n < S::N; n += 2) {
                typename Operand::Right b[2];
                load_matrices(bits, columns + n * 8 * S::LD + k);
                Operand::set(b[0], bits[0], bits[1]);
                Operand::set(b[1], bits[2], bits[3]);
#pragma unroll
                for (int m = 0; m < S::M; m++)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        chains[m][n + i].add(products[m][n + i], a[m], b[i]);
            }
        }
#pragma unroll
        for (int m = 0; m < S::M; m++)
#pragma unroll
            for (int n = 0; n < S::N; n++)
                chains[m][n].finish(products[m][n]);
    }
}

/* Makes -inf of the products of a row with itself, and with columns beyond the last row. first_row and first_column
 * are gathered rows. */
template <typename S>
static __device__ __forceinline__ void drop_diagonal_and_beyond(int first_row, int first_column, int rows,
                                                                typename S::Products &products) {
    const int to_diagonal = first_row - first_column, to_end = rows - first_column;
    if (to_end >= S::COLUMNS && (to_diagonal >= S::COLUMNS || to_diagonal <= -S::WARP_ROWS))
        return;
    const int lane = (int)threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < S::M; m++)
#pragma unroll
        for (int n = 0; n < S::N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int c = column + n * 8 + i % 2, r = row + m * 16 + i / 2 * 8;
                if (c == r + to_diagonal || c >= to_end)
                    products[m][n][i] = -INFINITY;
            }
}

/* Calls visit(products, its columns in shared memory, their lse) for every tile of this block's share; a row's product
 * with itself is -inf. Of the columns, chunk `last_chunk` is in shared memory then. */
template <typename S, typename Visit>
static __device__ __forceinline__ void sweep_tiles(const Sweep<typename S::T> &sweep, const Places<S> &at,
                                                   int last_chunk, Visit visit) {
    const int chunks = S::MANY ? sweep.chunks : 1, first_chunk = S::MANY ? (last_chunk + 1) % chunks : 0;
    const int first = (int)blockIdx.y * sweep.tiles_per_split, first_row = sweep.own_first + warp_first_row<S>();
    const int end = min(first + sweep.tiles_per_split, (sweep.rows + S::COLUMNS - 1) / S::COLUMNS);
    const typename S::T *queries = at.queries + threadIdx.x / 32 * S::WARP_ROWS * S::LD;
    int buffer = 0;
    stage(sweep, at, first, first_chunk, buffer, true);
    for (int tile = first; tile < end; tile++) {
        typename S::Products products = {};
        for (int part = 0; part < chunks; part++) {
            const bool complete = part + 1 == chunks;
            const typename S::T *columns = at.columns + buffer * S::COLUMNS * S::LD;
            __pipeline_wait_prior(0);
            __syncthreads(); /* this step's rows are there, and nobody reads the other buffer any more */
            if (!complete)
                stage(sweep, at, tile, (first_chunk + part + 1) % chunks, buffer ^ 1, false);
            else if (tile + 1 < end)
                stage(sweep, at, tile + 1, first_chunk, buffer ^ 1, false);
            add_products<S>(queries + (S::MANY ? buffer : 0) * S::ROWS * S::LD, columns, products);
            if (complete) {
                drop_diagonal_and_beyond<S>(first_row, tile * S::COLUMNS, sweep.rows, products);
                visit(products, columns, at.column_lse + buffer * S::COLUMNS);
            }
            buffer ^= 1;
        }
    }
}

#endif
