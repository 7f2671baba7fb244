/* Group sums of the contrastive loss, and the loss itself from them.
 *
 * Group sums: a stable radix sort brings the rows of each group together, in the order of rows; the sorted rows are cut
 * into segments of SEGMENT, whose groups are summed side by side. A group that lies within one segment is finished
 * there; the parts of others are joined in order. Work is O(rows), whether there are ten groups or half as many as
 * rows, and the order of every sum is fixed. */
#include "kernels/cuda/method/contrast_groups.h"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"
#include "kernels/ops.h"

static constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, WARPS = BLOCK / WARP;
static constexpr int ROUNDS = 8, SORT_ROWS = BLOCK * ROUNDS; /* rows a thread and a block sort */
static constexpr int SEGMENT = 64, AHEAD = 8, SCAN_BLOCK = 1024, LOSS_BLOCKS = 256;
static_assert(BLOCK == DIGITS, "a thread of a sorting block has a digit");

static const uint32_t NO_GROUP = 0xFFFFFFFFu; /* the key of rows without a group: sorts behind all others */

/* What the sort reads and writes: keys and the rows they belong to. In the first pass keys are the group ids as given
 * and rows are NULL: row i is i. */
typedef struct Sorted {
    const uint32_t *keys;
    const int32_t *rows;
} Sorted;

static __device__ __forceinline__ uint32_t sort_key(const Sorted &from, int64_t i) {
    const uint32_t key = from.keys[i];
    return (int32_t)key < 0 ? NO_GROUP : key;
}

/* ---- sort -------------------------------------------------------------------------------------------------------- */

/* counts [DIGITS, blocks]: how often each digit occurs in each block's rows. */
static __global__ void digit_count_kernel(int64_t n, Sorted from, int shift, int32_t *__restrict__ counts) {
    __shared__ int32_t own[DIGITS];
    own[threadIdx.x] = 0;
    __syncthreads();
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t i = (int64_t)blockIdx.x * SORT_ROWS + round * BLOCK + threadIdx.x;
        if (i < n)
            atomicAdd(&own[sort_key(from, i) >> shift & (DIGITS - 1)], 1);
    }
    __syncthreads();
    counts[(int64_t)threadIdx.x * gridDim.x + blockIdx.x] = own[threadIdx.x];
}

/* Sum of the values of lower lanes. */
static __device__ __forceinline__ int32_t warp_scan(int32_t value) {
    const int lane = (int)threadIdx.x % WARP;
    int32_t sum = value;
    for (int by = 1; by < WARP; by *= 2) {
        const int32_t other = __shfl_up_sync(ALL_LANES, sum, by);
        sum += lane >= by ? other : 0;
    }
    return sum - value;
}

/* values[i] = sum of the values before i. One block. */
static __global__ void scan_kernel(int64_t n, int32_t *__restrict__ values) {
    __shared__ int32_t warps[WARP];
    const int64_t each = (n + SCAN_BLOCK - 1) / SCAN_BLOCK, first = threadIdx.x * each;
    const int64_t end = first + each < n ? first + each : n;
    const unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int32_t sum = 0;
    for (int64_t i = first; i < end; i++)
        sum += values[i];
    int32_t before = warp_scan(sum);
    if (lane == WARP - 1)
        warps[warp] = before + sum;
    __syncthreads();
    if (warp == 0)
        warps[lane] = warp_scan(warps[lane]);
    __syncthreads();
    before += warps[warp];
    for (int64_t i = first; i < end; i++) {
        const int32_t value = values[i];
        values[i] = before;
        before += value;
    }
}

/* The lanes whose digit is the caller's; lanes without a row have no part in it. */
static __device__ __forceinline__ unsigned same_digit(unsigned digit, bool have) {
    unsigned same = __ballot_sync(ALL_LANES, have);
    for (int bit = 0; bit < DIGIT_BITS; bit++) {
        const unsigned set = __ballot_sync(ALL_LANES, digit >> bit & 1u);
        same &= digit >> bit & 1u ? set : ~set;
    }
    return same;
}

/* Moves rows to where `offsets`, the scanned counts, says. Warps have consecutive rows, so that the order of equal keys
 * stays. */
static __global__ void digit_move_kernel(int64_t n, Sorted from, int shift, const int32_t *__restrict__ offsets,
                                         uint32_t *__restrict__ keys, int32_t *__restrict__ rows) {
    __shared__ int32_t counts[WARPS][DIGITS];
    const unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = (int64_t)blockIdx.x * SORT_ROWS + warp * WARP * ROUNDS + lane;
    int32_t rank[ROUNDS];
    for (int w = 0; w < WARPS; w++)
        counts[w][threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t i = first + round * WARP;
        const bool have = i < n;
        const unsigned digit = have ? sort_key(from, i) >> shift & (DIGITS - 1) : 0;
        const unsigned same = same_digit(digit, have);
        const int before = __popc(same & ((1u << lane) - 1u));
        rank[round] = counts[warp][digit] + before;
        __syncwarp();
        if (have && before == 0)
            counts[warp][digit] += __popc(same);
        __syncwarp();
    }
    __syncthreads();
    int32_t at = offsets[(int64_t)threadIdx.x * gridDim.x + blockIdx.x];
    for (int w = 0; w < WARPS; w++) {
        const int32_t count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = at;
        at += count;
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t i = first + round * WARP;
        if (i >= n)
            continue;
        const uint32_t key = sort_key(from, i);
        const int32_t to = counts[warp][key >> shift & (DIGITS - 1)] + rank[round];
        keys[to] = key;
        rows[to] = from.rows ? from.rows[i] : (int32_t)i;
    }
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* first, end [G]: where each group lies among the sorted rows; groups without rows stay as they are. */
static __global__ void group_bounds_kernel(int64_t n, const uint32_t *__restrict__ keys, int32_t *__restrict__ first,
                                           int32_t *__restrict__ end) {
    for (int64_t i = grid_first(); i < n; i += grid_step()) {
        const uint32_t key = keys[i];
        if (key == NO_GROUP)
            continue;
        if (i == 0 || keys[i - 1] != key)
            first[key] = (int32_t)i;
        if (i + 1 == n || keys[i + 1] != key)
            end[key] = (int32_t)i + 1;
    }
}

/* Where segments leave what they sum. */
typedef struct SegmentOut {
    float *sums;  /* [G, D]: groups that lie within one segment */
    float *parts; /* [segments, 2, D]: of a group that began before, and of one that begins here and goes on */
} SegmentOut;

/* The place for the sum of group `key`, whose rows in this segment end before `until`. keys: of the whole order. */
static __device__ __forceinline__ float *segment_place(const SegmentOut &out, const uint32_t *keys, int64_t n,
                                                       int64_t begin, int64_t until, uint32_t key, int dim) {
    if (begin > 0 && keys[begin - 1] == key)
        return out.parts + (int64_t)blockIdx.x * 2 * dim;
    if (until == begin + SEGMENT && until < n && keys[until] == key)
        return out.parts + ((int64_t)blockIdx.x * 2 + 1) * dim;
    return out.sums + (int64_t)key * dim;
}

/* A block sums SEGMENT sorted rows; a thread has dimensions threadIdx.x, threadIdx.x + blockDim.x, ... */
static __global__ void segment_sum_kernel(int64_t n, int dim, const uint32_t *__restrict__ keys,
                                          const int32_t *__restrict__ rows, const float *__restrict__ z,
                                          SegmentOut out) {
    __shared__ uint32_t key[SEGMENT];
    __shared__ int32_t row[SEGMENT];
    const int64_t begin = (int64_t)blockIdx.x * SEGMENT;
    const int count = n - begin < SEGMENT ? (int)(n - begin) : SEGMENT;
    for (int i = (int)threadIdx.x; i < SEGMENT; i += (int)blockDim.x) {
        key[i] = i < count ? keys[begin + i] : NO_GROUP;
        row[i] = i < count ? rows[begin + i] : 0;
    }
    __syncthreads();
    for (int d = (int)threadIdx.x; d < dim; d += (int)blockDim.x) {
        double sum = 0.0;
        for (int start = 0; start < SEGMENT && key[start] != NO_GROUP; start += AHEAD) {
            float values[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                values[i] = key[start + i] != NO_GROUP ? z[(int64_t)row[start + i] * dim + d] : 0.0f;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int at = start + i;
                if (key[at] == NO_GROUP)
                    continue;
                sum += (double)values[i];
                if (at + 1 == SEGMENT || key[at + 1] != key[at]) {
                    segment_place(out, keys, n, begin, begin + at + 1, key[at], dim)[d] = (float)sum;
                    sum = 0.0;
                }
            }
        }
    }
}

/* counts, the zeros of groups without rows, and the sums of groups that lie in several segments. */
static __global__ void group_join_kernel(int groups, int dim, const int32_t *__restrict__ first,
                                         const int32_t *__restrict__ end, const float *__restrict__ parts,
                                         float *__restrict__ sums, int32_t *__restrict__ counts) {
    for (int64_t i = grid_first(); i < (int64_t)groups * dim; i += grid_step()) {
        const int64_t group = i / dim, d = i % dim;
        const int32_t count = end[group] - first[group];
        if (d == 0)
            counts[group] = count;
        if (count == 0) {
            sums[i] = 0.0f;
            continue;
        }
        const int64_t segment = first[group] / SEGMENT, last = (end[group] - 1) / SEGMENT;
        if (segment == last)
            continue;
        double sum = (double)parts[(segment * 2 + 1) * dim + d];
#pragma unroll 8
        for (int64_t s = segment + 1; s <= last; s++)
            sum += (double)parts[s * 2 * dim + d];
        sums[i] = (float)sum;
    }
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* Scratch of contrast_groups. */
typedef struct GroupScratch {
    uint32_t *keys[2];
    int32_t *rows[2], *counts, *first, *end;
    float *parts;
    size_t bytes;
} GroupScratch;

static void *take(char *base, size_t *used, int64_t n, size_t size) {
    void *at = base + *used;
    *used += (size_t)ceil_div(n * (int64_t)size, 256) * 256;
    return at;
}

/* base NULL: only `bytes` counts. */
static GroupScratch group_scratch(char *base, int64_t n, int64_t blocks, int groups, int dim) {
    GroupScratch s = {};
    for (int i = 0; i < 2; i++) {
        s.keys[i] = (uint32_t *)take(base, &s.bytes, n, sizeof(uint32_t));
        s.rows[i] = (int32_t *)take(base, &s.bytes, n, sizeof(int32_t));
    }
    s.counts = (int32_t *)take(base, &s.bytes, blocks * DIGITS, sizeof(int32_t));
    s.first = (int32_t *)take(base, &s.bytes, 2 * (int64_t)groups, sizeof(int32_t));
    s.end = s.first + groups;
    s.parts = (float *)take(base, &s.bytes, ceil_div(n, SEGMENT) * 2 * dim, sizeof(float));
    return s;
}

/* Rows in the order of their groups; an id above `groups` - 1 sorts last. */
static Sorted sort_rows(Device *device, int64_t n, int64_t blocks, int groups, const int32_t *group,
                        const GroupScratch *s) {
    Sorted now = {(const uint32_t *)group, NULL};
    for (int shift = 0, to = 0; shift == 0 || (groups >> shift) > 0; shift += DIGIT_BITS, to ^= 1) {
        CUDA_LAUNCH(device, digit_count_kernel, (unsigned)blocks, BLOCK, 0, n, now, shift, s->counts);
        CUDA_LAUNCH(device, scan_kernel, 1, SCAN_BLOCK, 0, blocks * DIGITS, s->counts);
        CUDA_LAUNCH(device, digit_move_kernel, (unsigned)blocks, BLOCK, 0, n, now, shift, s->counts, s->keys[to],
                    s->rows[to]);
        now = {s->keys[to], s->rows[to]};
    }
    return now;
}

void contrast_groups_cuda(Device *device, const ContrastShape *shape, const float *z, const int32_t *group, float *sums,
                          int32_t *counts) {
    const int64_t n = shape->rows, blocks = ceil_div(n, SORT_ROWS);
    const int groups = shape->groups, dim = shape->dim;
    if (groups == 0)
        return;
    if (n == 0) {
        device->ops->memory->zero(device, sums, (size_t)groups * (size_t)dim * sizeof *sums);
        device->ops->memory->zero(device, counts, (size_t)groups * sizeof *counts);
        return;
    }
    const size_t bytes = group_scratch(NULL, n, blocks, groups, dim).bytes;
    const GroupScratch s = group_scratch((char *)cuda_scratch(device, bytes), n, blocks, groups, dim);
    const Sorted sorted = sort_rows(device, n, blocks, groups, group, &s);
    device->ops->memory->zero(device, s.first, 2 * (size_t)groups * sizeof *s.first);
    CUDA_LAUNCH(device, group_bounds_kernel, blocks_for(device, n, BLOCK), BLOCK, 0, n, sorted.keys, s.first, s.end);
    const SegmentOut out = {sums, s.parts};
    const unsigned threads = dim <= 32 ? 32 : dim <= 64 ? 64 : 128;
    CUDA_LAUNCH(device, segment_sum_kernel, (unsigned)ceil_div(n, SEGMENT), threads, 0, n, dim, sorted.keys,
                sorted.rows, z, out);
    CUDA_LAUNCH(device, group_join_kernel, blocks_for(device, (int64_t)groups * dim, BLOCK), BLOCK, 0, groups, dim,
                s.first, s.end, s.parts, sums, counts);
}

/* ---- loss -------------------------------------------------------------------------------------------------------- */

/* parts [gridDim.x] = sums over own anchors of lse_i - mean_{p in P_i} s_ip; a warp per row. `bounded`: none is below
 * the log of its number of positives: only rounding gets there, for e^s is convex. Not so where lse is of rounded rows.
 */
static __global__ void loss_kernel(int64_t own_rows, int64_t own_first, int dim, double temperature, bool bounded,
                                   const float *__restrict__ z, const int32_t *__restrict__ group,
                                   const float *__restrict__ sums, const int32_t *__restrict__ counts,
                                   const float *__restrict__ lse, float *__restrict__ lse_out,
                                   double *__restrict__ parts) {
    const int lane = (int)threadIdx.x % WARP;
    double total = 0.0;
    for (int64_t own = grid_first() / WARP; own < own_rows; own += grid_step() / WARP) {
        const int64_t row = own_first + own;
        const int32_t id = group[row];
        const int positives = id >= 0 ? counts[id] - 1 : 0;
        if (lane == 0)
            lse_out[own] = positives > 0 ? lse[own] : INFINITY;
        if (positives <= 0)
            continue;
        double dot = 0.0;
        for (int d = lane; d < dim; d += WARP) {
            const double value = (double)z[row * dim + d];
            dot += value * ((double)sums[(int64_t)id * dim + d] - value);
        }
        dot = warp_reduce<Sum>(dot);
        const double value = (double)lse[own] - dot / ((double)positives * temperature);
        total += bounded && value < log((double)positives) ? log((double)positives) : value;
    }
    total = block_reduce<Sum>(lane == 0 ? total : 0.0, 0.0);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = total;
}

static __global__ void loss_join_kernel(int blocks, double scale, const double *__restrict__ parts,
                                        double *__restrict__ loss) {
    double total = 0.0;
    for (int i = (int)threadIdx.x; i < blocks; i += (int)blockDim.x)
        total += parts[i];
    total = block_reduce<Sum>(total, 0.0);
    if (threadIdx.x == 0)
        *loss = scale * total;
}

void contrast_loss_cuda(Device *device, const ContrastShape *shape, const float *z, const int32_t *group,
                        const float *sums, const int32_t *counts, const float *lse, double *loss, float *lse_out) {
    double *parts = (double *)cuda_scratch(device, LOSS_BLOCKS * sizeof(double));
    const int64_t wanted = ceil_div(shape->own_rows, WARPS);
    const int blocks = (int)(wanted < LOSS_BLOCKS ? wanted : LOSS_BLOCKS);
    const double T = (double)shape->temperature;
    if (blocks)
        CUDA_LAUNCH(device, loss_kernel, (unsigned)blocks, BLOCK, 0, shape->own_rows, shape->own_first, shape->dim, T,
                    shape->products == DTYPE_F32, z, group, sums, counts, lse, lse_out, parts);
    if (blocks == 0 || shape->anchors <= 0)
        device->ops->memory->zero(device, loss, sizeof *loss);
    else
        CUDA_LAUNCH(device, loss_join_kernel, 1, BLOCK, 0, blocks,
                    T / ((double)shape->base_temperature * (double)shape->anchors), parts, loss);
}
