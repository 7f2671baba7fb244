/* Batch norm, as passes at memory speed: channels stay with threads (channels.cuh), a tensor is read once per pass.
 *
 * Sums over rows: f32 over at most LONGEST_RUN rows of a thread, then f64 over the threads of a block, which leaves one
 * row of partial sums per span of rows in the scratch memory; combine_kernel adds those in a fixed order. No atomics,
 * so the same tensor gives the same bits.
 *
 * A variance is the difference of sum x^2 / n and mean^2, which are nearly equal where a channel is nearly constant. So
 * what a block sums in f32 are x - k and its square, k being a value of the channel from the middle of the block's
 * span; f64 then turns them into the sums of x and x^2, whose rounding is f64's. */
#include "kernels/contract/norm.h"
#include "kernels/cuda/threads/channels.cuh"

/* Rows of a thread: at least what it loads at once; f32 sums run over at most LONGEST_RUN; passes without sums are cut
 * finer, into several waves of blocks, which evens out multiprocessors of unequal speed. */
enum { SHORTEST_RUN = 4, LONGEST_RUN = 128, LONGEST_PASS = 32 };

/* Blocks a multiprocessor holds at once: threads have at most 64 and 80 registers. */
enum { RESIDENT = 4, RESIDENT_BACKWARD = 3 };

/* ---- partial sums ------------------------------------------------------------------------------------------------ */

/* The threads' two f32 sums per channel: [2][rows, channels of the tile], as threads are numbered. */
template <int COUNT> using Runs = float[2][BLOCK * COUNT];

template <int COUNT>
static __device__ __forceinline__ void store_runs(Runs<COUNT> &runs, const float *first, const float *second) {
    for (int i = 0; i < COUNT; i++) {
        runs[0][threadIdx.x * COUNT + i] = first[i];
        runs[1][threadIdx.x * COUNT + i] = second[i];
    }
    __syncthreads();
}

static __device__ __forceinline__ double sum_of_rows(const float *run, unsigned rows, int wide) {
    double sum = 0.0;
    for (unsigned row = 0; row < rows; row++)
        sum += (double)run[(int)row * wide];
    return sum;
}

/* partial [spans, 2C] f64: the block's part of its span's row. */
template <int COUNT>
static __device__ __forceinline__ void store_partials(const Tiling &t, const ChannelWalk &w, const float *first,
                                                      const float *second, double *partial) {
    __align__(16) __shared__ Runs<COUNT> runs;
    store_runs<COUNT>(runs, first, second);
    for (int i = (int)threadIdx.x; i < 2 * w.wide; i += BLOCK) {
        const int half = i >= w.wide, column = i - half * w.wide, channel = w.tile_channel + column;
        if (channel < t.C)
            partial[(w.span * 2 + half) * t.C + channel] = sum_of_rows(runs[half] + column, t.rows, w.wide);
    }
}

enum { COMBINE_COLUMNS = 8, COMBINE_SLICES = BLOCK / COMBINE_COLUMNS };

/* sums [2C] = sum over spans of partial [spans, 2C], the upper half times invstd if that is not NULL. */
static __global__ void combine_kernel(int64_t spans, int C, const double *__restrict__ partial,
                                      const float *__restrict__ invstd, double *__restrict__ sums) {
    __shared__ double slices[COMBINE_SLICES][COMBINE_COLUMNS];
    const int lane = (int)threadIdx.x % COMBINE_COLUMNS, slice = (int)threadIdx.x / COMBINE_COLUMNS;
    const int column = (int)blockIdx.x * COMBINE_COLUMNS + lane;
    double sum = 0.0;
    if (column < 2 * C)
        for (int64_t span = slice; span < spans; span += COMBINE_SLICES)
            sum += partial[span * 2 * C + column];
    slices[slice][lane] = sum;
    __syncthreads();
    if (slice > 0 || column >= 2 * C)
        return;
    for (int i = 1; i < COMBINE_SLICES; i++)
        sum += slices[i][lane];
    sums[column] = invstd && column >= C ? sum * (double)invstd[column - C] : sum;
}

static double *partials_for(Device *device, const Tiling *t) {
    return (double *)cuda_scratch(device, (size_t)tiling_spans(t) * 2 * (size_t)t->C * sizeof(double));
}

static void combine(Device *device, const Tiling *t, const double *partial, const float *invstd, double *sums) {
    CUDA_LAUNCH(device, combine_kernel, (unsigned)ceil_div(2 * t->C, COMBINE_COLUMNS), BLOCK, 0, tiling_spans(t), t->C,
                partial, invstd, sums);
}

/* ---- batch sums -------------------------------------------------------------------------------------------------- */

/* Where a span of `rows` rows has the values that a block subtracts. */
static __device__ __forceinline__ int64_t shift_row(const Tiling &t, const ChannelWalk &w, int64_t rows) {
    return w.span * t.span + rows / 2;
}

/* Like store_partials, from the sums of x - k and (x - k)^2: those of x and x^2. */
template <typename T, int COUNT>
static __device__ __forceinline__ void store_shifted(const Tiling &t, const ChannelWalk &w, int64_t rows, const T *x,
                                                     const float *sum, const float *square, double *partial) {
    __align__(16) __shared__ Runs<COUNT> runs;
    store_runs<COUNT>(runs, sum, square);
    for (int column = (int)threadIdx.x; column < w.wide; column += BLOCK) {
        const int channel = w.tile_channel + column;
        if (channel >= t.C)
            continue;
        const double k = (double)element_load(x + shift_row(t, w, rows) * t.C + channel), nk = (double)rows * k;
        const double s = sum_of_rows(runs[0] + column, t.rows, w.wide);
        partial[w.span * 2 * t.C + channel] = s + nk;
        partial[(w.span * 2 + 1) * t.C + channel] = sum_of_rows(runs[1] + column, t.rows, w.wide) + k * (2.0 * s + nk);
    }
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(BLOCK, RESIDENT)
    sums_kernel(Tiling t, const T *__restrict__ x, double *__restrict__ partial) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    const ChannelWalk w = channel_walk(t);
    const int64_t left = t.M - w.span * t.span, span_rows = left < t.span ? left : t.span;
    float sum[COUNT] = {0}, square[COUNT] = {0}, shift[COUNT] = {0};
    if (w.active)
        pack_floats<T, WIDE>(pack_load<T, WIDE>(x, shift_row(t, w, span_rows) * t.C + w.channel), shift);
    walk_rows<4>(w, [&](auto rows, int64_t at) {
        constexpr int ROWS = decltype(rows)::COUNT;
        typename Pack<T, WIDE>::Raw inputs[ROWS];
        for (int r = 0; r < ROWS; r++)
            inputs[r] = pack_load<T, WIDE>(x, at + (int64_t)r * w.stride);
        for (int r = 0; r < ROWS; r++) {
            float v[COUNT];
            pack_floats<T, WIDE>(inputs[r], v);
            for (int i = 0; i < COUNT; i++) {
                v[i] -= shift[i];
                sum[i] += v[i];
                square[i] += v[i] * v[i];
            }
        }
    });
    store_shifted<T, COUNT>(t, w, span_rows, x, sum, square, partial);
}

static void norm_sums_cuda(Device *device, int64_t M, int C, DType type, const void *x, double *sums) {
    const bool wide = lanes_fit(type, C, x);
    const Tiling t = tiling_of(device, M, C, pack_count(type, wide), RESIDENT, SHORTEST_RUN, LONGEST_RUN);
    double *partial = partials_for(device, &t);
    if (M > 0)
        WITH_TYPE(type, T,
                  WITH_FLAG(wide, WIDE,
                            CUDA_LAUNCH(device, (sums_kernel<T, WIDE>), tiling_blocks(&t), BLOCK, 0, t, (const T *)x,
                                        partial)));
    combine(device, &t, partial, NULL, sums);
}

/* ---- per channel ------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ void store_stats(const NormStatistics &out, int c, double mean, double variance,
                                                   float eps, float gamma, float beta) {
    const double inverse = 1.0 / sqrt(variance + (double)eps);
    out.mean[c] = (float)mean;
    out.invstd[c] = (float)inverse;
    out.scale[c] = (float)((double)gamma * inverse);
    out.shift[c] = (float)((double)beta - mean * (double)gamma * inverse);
}

static __global__ void finalize_kernel(int C, const double *sums, double count, NormParameters p, NormStatistics out) {
    const int c = (int)grid_first();
    if (c >= C)
        return;
    const double mean = sums[c] / count;
    double variance = sums[C + c] / count - mean * mean;
    if (variance < 0)
        variance = 0; /* rounding only: NaN passes through */
    store_stats(out, c, mean, variance, p.eps, p.gamma[c], p.beta[c]);
    if (p.running_mean)
        p.running_mean[c] += p.momentum * ((float)mean - p.running_mean[c]);
    if (p.running_var) {
        const double unbiased = count > 1 ? variance * count / (count - 1) : variance;
        p.running_var[c] += p.momentum * ((float)unbiased - p.running_var[c]);
    }
}

static void norm_finalize_cuda(Device *device, int C, const double *sums, double count, const NormParameters *p,
                               const NormStatistics *out) {
    if (count > 0)
        CUDA_LAUNCH(device, finalize_kernel, (unsigned)ceil_div(C, WARP), WARP, 0, C, sums, count, *p, *out);
}

static __global__ void from_running_kernel(int C, NormParameters p, NormStatistics out) {
    const int c = (int)grid_first();
    if (c < C)
        store_stats(out, c, (double)p.running_mean[c], (double)p.running_var[c], p.eps, p.gamma[c], p.beta[c]);
}

static void norm_from_running_cuda(Device *device, int C, const NormParameters *p, const NormStatistics *out) {
    CUDA_LAUNCH(device, from_running_kernel, (unsigned)ceil_div(C, WARP), WARP, 0, C, *p, *out);
}

static __global__ void backward_params_kernel(int C, const double *sums, float *dgamma, float *dbeta) {
    const int c = (int)grid_first();
    if (c >= C)
        return;
    dgamma[c] += (float)sums[C + c];
    dbeta[c] += (float)sums[c];
}

static void norm_backward_params_cuda(Device *device, int C, const double *sums, float *dgamma, float *dbeta) {
    CUDA_LAUNCH(device, backward_params_kernel, (unsigned)ceil_div(C, WARP), WARP, 0, C, sums, dgamma, dbeta);
}

/* A block per output channel. */
template <typename T>
static __global__ void fold_kernel(int64_t n, const float *__restrict__ w, const float *__restrict__ scale,
                                   T *__restrict__ w_out) {
    const int64_t first = (int64_t)blockIdx.x * n;
    const float by = scale[blockIdx.x];
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        element_store(w_out + first + i, w[first + i] * by);
}

static void norm_fold_cuda(Device *device, int K, int64_t n, const float *w, const float *scale, DType type,
                           void *w_out) {
    WITH_TYPE(type, T, CUDA_LAUNCH(device, fold_kernel<T>, (unsigned)K, BLOCK, 0, n, w, scale, (T *)w_out));
}

/* ---- apply ------------------------------------------------------------------------------------------------------- */

/* y = max(x a + b (+ residual), least); least is -infinity without ReLU. y may be x or residual. */
template <typename T, bool WIDE, bool RESIDUAL>
static __global__ void __launch_bounds__(BLOCK, RESIDENT)
    apply_kernel(Tiling t, const T *x, const float *__restrict__ scale, const float *__restrict__ shift,
                 const T *residual, float least, T *y) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    const ChannelWalk w = channel_walk(t);
    if (!w.active)
        return;
    float a[COUNT], b[COUNT];
    channels_load<COUNT>(scale + w.channel, a);
    channels_load<COUNT>(shift + w.channel, b);
    walk_rows<RESIDUAL ? 2 : 4>(w, [&](auto rows, int64_t at) {
        constexpr int ROWS = decltype(rows)::COUNT;
        typename Pack<T, WIDE>::Raw inputs[ROWS], residuals[ROWS];
        for (int r = 0; r < ROWS; r++) {
            inputs[r] = pack_load<T, WIDE>(x, at + (int64_t)r * w.stride);
            residuals[r] = pack_load<T, WIDE, RESIDUAL>(residual, at + (int64_t)r * w.stride);
        }
        for (int r = 0; r < ROWS; r++) {
            float v[COUNT], add[COUNT];
            pack_floats<T, WIDE>(inputs[r], v);
            pack_floats<T, WIDE>(residuals[r], add);
            for (int i = 0; i < COUNT; i++) {
                v[i] = v[i] * a[i] + b[i];
                if constexpr (RESIDUAL)
                    v[i] += add[i];
                v[i] = v[i] < least ? least : v[i]; /* NaN stays */
            }
            pack_store<T, WIDE>(y + at + (int64_t)r * w.stride, v);
        }
    });
}

static void norm_apply_cuda(Device *device, int64_t M, int C, DType type, const void *x, const NormStatistics *stats,
                            const void *residual, int relu, void *y) {
    const float *scale = stats->scale, *shift = stats->shift;
    if (M == 0)
        return;
    const bool wide = lanes_fit(type, C, x) && lanes_fit(type, C, residual) && lanes_fit(type, C, y) &&
                      lanes_fit(type, C, scale) && lanes_fit(type, C, shift);
    const Tiling t = tiling_of(device, M, C, pack_count(type, wide), RESIDENT, SHORTEST_RUN, LONGEST_PASS);
    WITH_TYPE(type, T,
              WITH_FLAG(wide, WIDE,
                        WITH_FLAG(residual != NULL, RESIDUAL,
                                  CUDA_LAUNCH(device, (apply_kernel<T, WIDE, RESIDUAL>), tiling_blocks(&t), BLOCK, 0, t,
                                              (const T *)x, scale, shift, (const T *)residual, relu ? 0.0f : -INFINITY,
                                              (T *)y))));
}

/* ---- backward, first pass ---------------------------------------------------------------------------------------- */

enum Gate { GATE_NONE, GATE_Y, GATE_X }; /* no ReLU; by the stored output; recomputed from x */

template <typename T> struct Backward {
    T *dy; /* read, and dz written over it where that is another number */
    const T *dy2, *y, *x;
    const float *mean, *scale, *shift;
    double *partial; /* sum_m dz, sum_m dz (x - mean) */
};

template <typename T, bool WIDE, Gate GATE, bool SECOND, bool SUMS>
static __global__ void __launch_bounds__(BLOCK, RESIDENT_BACKWARD) backward_kernel(Tiling t, Backward<T> p) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    constexpr bool READS_X = SUMS || GATE == GATE_X, WRITES = SECOND || GATE != GATE_NONE;
    typedef typename Pack<T, WIDE>::Raw Raw;
    const ChannelWalk w = channel_walk(t);
    float mean[COUNT], scale[COUNT], shift[COUNT], sum[COUNT] = {0}, dot[COUNT] = {0};
    if (w.active) {
        if constexpr (SUMS)
            channels_load<COUNT>(p.mean + w.channel, mean);
        if constexpr (GATE == GATE_X) {
            channels_load<COUNT>(p.scale + w.channel, scale);
            channels_load<COUNT>(p.shift + w.channel, shift);
        }
    }
    walk_rows<2>(w, [&](auto rows, int64_t at) {
        constexpr int ROWS = decltype(rows)::COUNT;
        Raw first[ROWS], second[ROWS], outputs[ROWS], inputs[ROWS];
        for (int r = 0; r < ROWS; r++) {
            first[r] = pack_load<T, WIDE>(p.dy, at + (int64_t)r * w.stride);
            second[r] = pack_load<T, WIDE, SECOND>(p.dy2, at + (int64_t)r * w.stride);
            outputs[r] = pack_load<T, WIDE, GATE == GATE_Y>(p.y, at + (int64_t)r * w.stride);
            inputs[r] = pack_load<T, WIDE, READS_X>(p.x, at + (int64_t)r * w.stride);
        }
        for (int r = 0; r < ROWS; r++) {
            float g[COUNT], add[COUNT], y[COUNT], x[COUNT];
            pack_floats<T, WIDE>(first[r], g);
            pack_floats<T, WIDE>(second[r], add);
            pack_floats<T, WIDE>(outputs[r], y);
            pack_floats<T, WIDE>(inputs[r], x);
            for (int i = 0; i < COUNT; i++) {
                if constexpr (SECOND)
                    g[i] += add[i];
                if constexpr (GATE == GATE_Y)
                    g[i] = y[i] > 0.0f ? g[i] : 0.0f;
                if constexpr (GATE == GATE_X)
                    g[i] = x[i] * scale[i] + shift[i] > 0.0f ? g[i] : 0.0f;
                if constexpr (SUMS) {
                    sum[i] += g[i];
                    dot[i] += g[i] * (x[i] - mean[i]);
                }
            }
            if constexpr (WRITES)
                pack_store<T, WIDE>(p.dy + at + (int64_t)r * w.stride, g);
        }
    });
    if constexpr (SUMS)
        store_partials<COUNT>(t, w, sum, dot, p.partial);
}

template <typename T, Gate GATE> static void launch_backward(Device *device, const Tiling &t, const Backward<T> &p) {
    WITH_FLAG(t.count > 1, WIDE,
              WITH_FLAG(p.dy2 != NULL, SECOND,
                        WITH_FLAG(p.partial != NULL, SUMS,
                                  CUDA_LAUNCH(device, (backward_kernel<T, WIDE, GATE, SECOND, SUMS>), tiling_blocks(&t),
                                              BLOCK, 0, t, p))));
}

static void norm_backward_sums_cuda(Device *device, int64_t M, int C, DType type, void *dy, const void *dy2,
                                    const void *y, const void *x, const NormStatistics *stats, int relu, double *sums) {
    const float *mean = stats->mean, *scale = stats->scale, *shift = stats->shift;
    const Gate gate = !relu ? GATE_NONE : y ? GATE_Y : GATE_X;
    if (!sums && (M == 0 || (gate == GATE_NONE && !dy2)))
        return;
    const bool wide = lanes_fit(type, C, dy) && lanes_fit(type, C, dy2) && lanes_fit(type, C, y) &&
                      lanes_fit(type, C, x) && lanes_fit(type, C, mean) && lanes_fit(type, C, scale) &&
                      lanes_fit(type, C, shift);
    const Tiling t = tiling_of(device, M, C, pack_count(type, wide), RESIDENT_BACKWARD, SHORTEST_RUN, LONGEST_RUN);
    double *partial = sums ? partials_for(device, &t) : NULL;
    if (M > 0)
        WITH_TYPE(type, T, {
            const Backward<T> p = {(T *)dy, (const T *)dy2, (const T *)y, (const T *)x, mean, scale, shift, partial};
            if (gate == GATE_Y)
                launch_backward<T, GATE_Y>(device, t, p);
            else if (gate == GATE_X)
                launch_backward<T, GATE_X>(device, t, p);
            else
                launch_backward<T, GATE_NONE>(device, t, p);
        });
    if (sums)
        combine(device, &t, partial, stats->invstd, sums);
}

/* ---- backward, second pass --------------------------------------------------------------------------------------- */

/* dx = a dz (+ b (x - mean) + c), everything per channel gathered in a, b and c. dx may be dz. */
template <typename T, bool WIDE, bool BATCH>
static __global__ void __launch_bounds__(BLOCK, RESIDENT_BACKWARD)
    backward_apply_kernel(Tiling t, const T *dz, const T *x, const float *__restrict__ mean,
                          const float *__restrict__ invstd, const float *__restrict__ scale,
                          const double *__restrict__ sums, double per_count, T *dx) {
    constexpr int COUNT = Pack<T, WIDE>::COUNT;
    const ChannelWalk w = channel_walk(t);
    if (!w.active)
        return;
    float a[COUNT], m[COUNT], b[COUNT], c[COUNT];
    channels_load<COUNT>(scale + w.channel, a);
    if constexpr (BATCH) {
        channels_load<COUNT>(mean + w.channel, m);
        channels_load<COUNT>(invstd + w.channel, b);
        for (int i = 0; i < COUNT; i++) {
            const double weight = -(double)a[i] * per_count;
            c[i] = (float)(weight * sums[w.channel + i]);
            b[i] = (float)(weight * (double)b[i] * sums[t.C + w.channel + i]);
        }
    }
    walk_rows<2>(w, [&](auto rows, int64_t at) {
        constexpr int ROWS = decltype(rows)::COUNT;
        typename Pack<T, WIDE>::Raw gradients[ROWS], inputs[ROWS];
        for (int r = 0; r < ROWS; r++) {
            gradients[r] = pack_load<T, WIDE>(dz, at + (int64_t)r * w.stride);
            inputs[r] = pack_load<T, WIDE, BATCH>(x, at + (int64_t)r * w.stride);
        }
        for (int r = 0; r < ROWS; r++) {
            float g[COUNT], v[COUNT];
            pack_floats<T, WIDE>(gradients[r], g);
            pack_floats<T, WIDE>(inputs[r], v);
            for (int i = 0; i < COUNT; i++) {
                g[i] *= a[i];
                if constexpr (BATCH)
                    g[i] += b[i] * (v[i] - m[i]) + c[i];
            }
            pack_store<T, WIDE>(dx + at + (int64_t)r * w.stride, g);
        }
    });
}

static void norm_backward_apply_cuda(Device *device, int64_t M, int C, DType type, const void *dz, const void *x,
                                     const NormStatistics *stats, const double *sums, double count, void *dx) {
    const float *mean = stats->mean, *invstd = stats->invstd, *scale = stats->scale;
    if (M == 0)
        return;
    const bool wide = lanes_fit(type, C, dz) && lanes_fit(type, C, x) && lanes_fit(type, C, mean) &&
                      lanes_fit(type, C, invstd) && lanes_fit(type, C, scale) && lanes_fit(type, C, dx);
    const Tiling t = tiling_of(device, M, C, pack_count(type, wide), RESIDENT_BACKWARD, SHORTEST_RUN, LONGEST_PASS);
    WITH_TYPE(type, T,
              WITH_FLAG(wide, WIDE,
                        WITH_FLAG(sums != NULL, BATCH,
                                  CUDA_LAUNCH(device, (backward_apply_kernel<T, WIDE, BATCH>), tiling_blocks(&t), BLOCK,
                                              0, t, (const T *)dz, (const T *)x, mean, invstd, scale, sums, 1.0 / count,
                                              (T *)dx))));
}

extern "C" const NormOps norm_ops_cuda = {
    .sums = norm_sums_cuda,
    .finalize = norm_finalize_cuda,
    .from_running = norm_from_running_cuda,
    .apply = norm_apply_cuda,
    .backward_sums = norm_backward_sums_cuda,
    .backward_params = norm_backward_params_cuda,
    .backward_apply = norm_backward_apply_cuda,
    .fold = norm_fold_cuda,
};
