/* Batch norm, as passes at memory speed.
 *
 * x [M,C] is walked as wider rows: `fold` positions at a time, width = fold * C elements, with the per-channel vectors
 * repeated `fold` times, so inner loops are long for every C. Sums over positions accumulate in f32 over at most
 * SHORT_RUN wide rows, then in f64, per thread part; parts and folds are added in order.
 *
 * A variance is the difference of sum x^2 / n and mean^2, which are nearly equal where a channel is nearly constant. So
 * what accumulates in f32 are x - k and its square, k being the mean as far as it is known (at first: a value); f64
 * then turns them into the sums of x and x^2, whose rounding is f64's. */
#include <math.h>
#include <string.h>

#include "kernels/contract/norm.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"

enum { SHORT_RUN = 64, WIDTH = 1024 };

typedef struct Wide {
    int C, fold;
    int64_t width; /* fold * C */
    int parts;
} Wide;

static Wide wide_of(const Device *device, int64_t M, int C) {
    int fold = C >= WIDTH ? 1 : WIDTH / C;
    return (Wide){C, fold, (int64_t)fold * C, threads_for(device, M * C)};
}

static void repeat(const Wide *wide, const float *channel, float *out) {
    for (int f = 0; f < wide->fold; f++)
        memcpy(out + (int64_t)f * wide->C, channel, (size_t)wide->C * sizeof *out);
}

/* Per part: two f64 and two f32 accumulators of `width`. */
static size_t sums_bytes(const Wide *wide) {
    return (size_t)wide->parts * (size_t)wide->width * 2 * (sizeof(double) + sizeof(float));
}

static double *part_sums(const Wide *wide, void *scratch, int part) {
    return (double *)((char *)scratch + (size_t)part * sums_bytes(wide) / (size_t)wide->parts);
}

static void flush(int64_t width, float *restrict run, double *restrict total) {
#pragma omp simd
    for (int64_t i = 0; i < 2 * width; i++) {
        total[i] += (double)run[i];
        run[i] = 0.0f;
    }
}

static void reduce_sums(const Wide *wide, void *scratch, double *sums) {
    int C = wide->C;
    memset(sums, 0, 2 * (size_t)C * sizeof *sums);
    for (int part = 0; part < wide->parts; part++) {
        const double *total = part_sums(wide, scratch, part);
        for (int half = 0; half < 2; half++)
            for (int f = 0; f < wide->fold; f++)
                for (int c = 0; c < C; c++)
                    sums[half * C + c] += total[half * wide->width + (int64_t)f * C + c];
    }
}

BODY sums_row(DType type, int64_t n, const void *restrict x, const float *restrict shift, float *restrict sum,
              float *restrict square) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = lane_load(type, x, i) - shift[i];
        sum[i] += v;
        square[i] += v * v;
    }
}

BODY first_shift(DType type, int64_t n, const void *restrict x, float *restrict shift) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        shift[i] = lane_load(type, x, i);
}

/* A thread part's sums in the making; everything is per lane of a wide row. */
typedef struct PartSums {
    int64_t width;
    double *total; /* [2 width]: of x and x^2 */
    float *run;    /* [2 width]: of x - shift and its square, over `pending` rows */
    float *shift;  /* [width] */
    int pending;
    int64_t rows; /* in total */
} PartSums;

/* Moves the run of the first n lanes into the totals, and the shift to the mean so far. */
static void flush_shifted(PartSums *p, int64_t n) {
    const double rows = p->pending, each = 1.0 / (double)(p->rows + p->pending);
    double *restrict sum = p->total, *restrict square = p->total + p->width;
    float *restrict run = p->run, *restrict run_square = p->run + p->width, *restrict shift = p->shift;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const double k = (double)shift[i], s = (double)run[i];
        sum[i] += s + rows * k;
        square[i] += (double)run_square[i] + k * (2 * s + rows * k);
        run[i] = run_square[i] = 0.0f;
        shift[i] = (float)(sum[i] * each);
    }
    p->rows += p->pending;
    p->pending = 0;
}

BODY sums_part(DType type, const Wide *wide, Part range, const void *x, PartSums *p) {
    if (range.first < range.last) {
        const int64_t n = range.last - range.first < wide->width ? range.last - range.first : wide->width;
        first_shift(type, n, lane_at(type, x, range.first), p->shift);
    }
    for (int64_t at = range.first; at < range.last; at += wide->width) {
        const int64_t n = range.last - at < wide->width ? range.last - at : wide->width;
        if (p->pending == SHORT_RUN || (n < wide->width && p->pending > 0))
            flush_shifted(p, wide->width);
        sums_row(type, n, lane_at(type, x, at), p->shift, p->run, p->run + wide->width);
        p->pending++;
        if (n < wide->width)
            flush_shifted(p, n);
    }
    if (p->pending > 0)
        flush_shifted(p, wide->width);
}

static void norm_sums_cpu(Device *device, int64_t M, int C, DType type, const void *x, double *sums) {
    Wide wide = wide_of(device, M, C);
    const size_t each = sums_bytes(&wide) / (size_t)wide.parts;
    char *scratch = cpu_scratch(device, sums_bytes(&wide) + (size_t)wide.parts * (size_t)wide.width * sizeof(float));
    float *shifts = (float *)(void *)(scratch + sums_bytes(&wide));
#pragma omp parallel for num_threads(wide.parts) schedule(static, 1) if (wide.parts > 1)
    for (int part = 0; part < wide.parts; part++) {
        PartSums p = {.width = wide.width, .total = part_sums(&wide, scratch, part)};
        p.run = (float *)(p.total + 2 * wide.width);
        p.shift = shifts + (int64_t)part * wide.width;
        memset(p.total, 0, each);
        const Part range = part_of(M * C, wide.parts, part, wide.width);
        if (type == DTYPE_BF16)
            sums_part(DTYPE_BF16, &wide, range, x, &p);
        else
            sums_part(DTYPE_F32, &wide, range, x, &p);
    }
    reduce_sums(&wide, scratch, sums);
}

static void norm_finalize_cpu(Device *device, int C, const double *sums, double count, const NormParameters *p,
                              const NormStatistics *out) {
    (void)device;
    if (!(count > 0))
        return;
    for (int c = 0; c < C; c++) {
        double m = sums[c] / count, variance = sums[C + c] / count - m * m;
        if (variance < 0)
            variance = 0; /* rounding only: NaN passes through */
        double inverse = 1.0 / sqrt(variance + (double)p->eps);
        out->mean[c] = (float)m;
        out->invstd[c] = (float)inverse;
        out->scale[c] = (float)(p->gamma[c] * inverse);
        out->shift[c] = (float)(p->beta[c] - m * p->gamma[c] * inverse);
        if (p->running_mean)
            p->running_mean[c] += p->momentum * ((float)m - p->running_mean[c]);
        if (p->running_var) {
            double unbiased = count > 1 ? variance * count / (count - 1) : variance;
            p->running_var[c] += p->momentum * ((float)unbiased - p->running_var[c]);
        }
    }
}

static void norm_from_running_cpu(Device *device, int C, const NormParameters *p, const NormStatistics *out) {
    (void)device;
    for (int c = 0; c < C; c++) {
        double inverse = 1.0 / sqrt((double)p->running_var[c] + (double)p->eps);
        out->mean[c] = p->running_mean[c];
        out->invstd[c] = (float)inverse;
        out->scale[c] = (float)(p->gamma[c] * inverse);
        out->shift[c] = (float)(p->beta[c] - p->running_mean[c] * p->gamma[c] * inverse);
    }
}

BODY apply_row(DType type, int relu, int64_t n, const void *x, const float *restrict scale, const float *restrict shift,
               const void *residual, void *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = lane_load(type, x, i) * scale[i] + shift[i];
        if (residual)
            v += lane_load(type, residual, i);
        lane_store(type, y, i, relu && v < 0.0f ? 0.0f : v);
    }
}

BODY apply_row_of(DType type, int relu, int64_t n, const void *x, const float *scale, const float *shift,
                  const void *residual, void *y) {
    if (residual && relu)
        apply_row(type, 1, n, x, scale, shift, residual, y);
    else if (residual)
        apply_row(type, 0, n, x, scale, shift, residual, y);
    else if (relu)
        apply_row(type, 1, n, x, scale, shift, NULL, y);
    else
        apply_row(type, 0, n, x, scale, shift, NULL, y);
}

static void norm_apply_cpu(Device *device, int64_t M, int C, DType type, const void *x, const NormStatistics *stats,
                           const void *residual, int relu, void *y) {
    Wide wide = wide_of(device, M, C);
    float *scales = cpu_scratch(device, 2 * (size_t)wide.width * sizeof *scales), *shifts = scales + wide.width;
    repeat(&wide, stats->scale, scales);
    repeat(&wide, stats->shift, shifts);
#pragma omp parallel for num_threads(wide.parts) schedule(static, 1) if (wide.parts > 1)
    for (int part = 0; part < wide.parts; part++) {
        Part p = part_of(M * C, wide.parts, part, wide.width);
        for (int64_t at = p.first; at < p.last; at += wide.width) {
            int64_t n = p.last - at < wide.width ? p.last - at : wide.width;
            const void *xs = lane_at(type, x, at), *rs = lane_at(type, residual, at);
            if (type == DTYPE_BF16)
                apply_row_of(DTYPE_BF16, relu, n, xs, scales, shifts, rs, lane_at_out(type, y, at));
            else
                apply_row_of(DTYPE_F32, relu, n, xs, scales, shifts, rs, lane_at_out(type, y, at));
        }
    }
}

typedef enum Gate { GATE_NONE, GATE_Y, GATE_X } Gate; /* no ReLU; by the stored output; recomputed from x */

/* Pointers of one wide row; dy is read and overwritten, the vectors are repeated per channel. */
typedef struct BackwardRow {
    int64_t n;
    void *dy;
    const void *dy2, *y, *x;
    const float *mean, *scale, *shift;
    float *sum, *dot; /* sum_m dz, sum_m dz (x - mean); unused without sums */
} BackwardRow;

BODY backward_row(DType type, Gate gate, int second, int with_sums, const BackwardRow *row) {
    void *dy = row->dy;
    const void *dy2 = row->dy2, *y = row->y, *x = row->x;
    const float *restrict mean = row->mean, *restrict scale = row->scale, *restrict shift = row->shift;
    float *restrict sum = row->sum, *restrict dot = row->dot;
    int64_t n = row->n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = lane_load(type, dy, i);
        if (second)
            g += lane_load(type, dy2, i);
        if (gate == GATE_Y)
            g = lane_load(type, y, i) > 0.0f ? g : 0.0f;
        if (gate == GATE_X)
            g = lane_load(type, x, i) * scale[i] + shift[i] > 0.0f ? g : 0.0f;
        lane_store(type, dy, i, g);
        if (with_sums) {
            sum[i] += g;
            dot[i] += g * (lane_load(type, x, i) - mean[i]);
        }
    }
}

BODY backward_row_gate(DType type, Gate gate, int second, int with_sums, const BackwardRow *row) {
    if (second && with_sums)
        backward_row(type, gate, 1, 1, row);
    else if (second)
        backward_row(type, gate, 1, 0, row);
    else if (with_sums)
        backward_row(type, gate, 0, 1, row);
    else
        backward_row(type, gate, 0, 0, row);
}

BODY backward_row_type(DType type, Gate gate, int second, int with_sums, const BackwardRow *row) {
    if (gate == GATE_Y)
        backward_row_gate(type, GATE_Y, second, with_sums, row);
    else if (gate == GATE_X)
        backward_row_gate(type, GATE_X, second, with_sums, row);
    else
        backward_row_gate(type, GATE_NONE, second, with_sums, row);
}

static void norm_backward_sums_cpu(Device *device, int64_t M, int C, DType type, void *dy, const void *dy2,
                                   const void *y, const void *x, const NormStatistics *stats, int relu, double *sums) {
    Gate gate = !relu ? GATE_NONE : y ? GATE_Y : GATE_X;
    if (gate == GATE_NONE && !dy2 && !sums)
        return;
    Wide wide = wide_of(device, M, C);
    size_t total_bytes = sums_bytes(&wide);
    char *scratch = cpu_scratch(device, total_bytes + 3 * (size_t)wide.width * sizeof(float));
    float *means = (float *)(scratch + total_bytes), *scales = means + wide.width, *shifts = scales + wide.width;
    if (sums)
        repeat(&wide, stats->mean, means);
    if (gate == GATE_X) {
        repeat(&wide, stats->scale, scales);
        repeat(&wide, stats->shift, shifts);
    }
#pragma omp parallel for num_threads(wide.parts) schedule(static, 1) if (wide.parts > 1)
    for (int part = 0; part < wide.parts; part++) {
        double *total = part_sums(&wide, scratch, part);
        float *run = (float *)(total + 2 * wide.width);
        memset(total, 0, total_bytes / (size_t)wide.parts);
        Part p = part_of(M * C, wide.parts, part, wide.width);
        int pending = 0;
        for (int64_t at = p.first; at < p.last; at += wide.width) {
            BackwardRow row = {.n = p.last - at < wide.width ? p.last - at : wide.width,
                               .dy = lane_at_out(type, dy, at),
                               .dy2 = lane_at(type, dy2, at),
                               .y = lane_at(type, y, at),
                               .x = lane_at(type, x, at),
                               .mean = means,
                               .scale = scales,
                               .shift = shifts,
                               .sum = run,
                               .dot = run + wide.width};
            if (type == DTYPE_BF16)
                backward_row_type(DTYPE_BF16, gate, dy2 != NULL, sums != NULL, &row);
            else
                backward_row_type(DTYPE_F32, gate, dy2 != NULL, sums != NULL, &row);
            if (++pending == SHORT_RUN) {
                flush(wide.width, run, total);
                pending = 0;
            }
        }
        flush(wide.width, run, total);
    }
    if (!sums)
        return;
    reduce_sums(&wide, scratch, sums);
    for (int c = 0; c < C; c++)
        sums[C + c] *= (double)stats->invstd[c];
}

static void norm_backward_params_cpu(Device *device, int C, const double *sums, float *dgamma, float *dbeta) {
    (void)device;
    for (int c = 0; c < C; c++) {
        dgamma[c] += (float)sums[C + c];
        dbeta[c] += (float)sums[c];
    }
}

/* dx = a dz + b x + c, the second backward pass with everything per channel gathered. */
BODY backward_apply_row(DType type, int batch, int64_t n, const void *dz, const void *x, const float *restrict a,
                        const float *restrict mean, const float *restrict b, const float *restrict c, void *dx) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = a[i] * lane_load(type, dz, i);
        if (batch)
            v += b[i] * (lane_load(type, x, i) - mean[i]) + c[i];
        lane_store(type, dx, i, v);
    }
}

static void norm_backward_apply_cpu(Device *device, int64_t M, int C, DType type, const void *dz, const void *x,
                                    const NormStatistics *stats, const double *sums, double count, void *dx) {
    Wide wide = wide_of(device, M, C);
    float *a = cpu_scratch(device, 4 * (size_t)wide.width * sizeof *a), *m = a + wide.width;
    float *b = m + wide.width, *c = b + wide.width;
    int batch = sums != NULL;
    repeat(&wide, stats->scale, a);
    if (batch) {
        repeat(&wide, stats->mean, m);
        for (int64_t i = 0; i < wide.width; i++) {
            int64_t channel = i % C;
            b[i] = (float)(-(double)stats->scale[channel] * (double)stats->invstd[channel] * sums[C + channel] / count);
            c[i] = (float)(-(double)stats->scale[channel] * sums[channel] / count);
        }
    }
#pragma omp parallel for num_threads(wide.parts) schedule(static, 1) if (wide.parts > 1)
    for (int part = 0; part < wide.parts; part++) {
        Part p = part_of(M * C, wide.parts, part, wide.width);
        for (int64_t at = p.first; at < p.last; at += wide.width) {
            int64_t n = p.last - at < wide.width ? p.last - at : wide.width;
            const void *dzs = lane_at(type, dz, at), *xs = lane_at(type, x, at);
            void *dxs = lane_at_out(type, dx, at);
            if (type == DTYPE_BF16 && batch)
                backward_apply_row(DTYPE_BF16, 1, n, dzs, xs, a, m, b, c, dxs);
            else if (type == DTYPE_BF16)
                backward_apply_row(DTYPE_BF16, 0, n, dzs, xs, a, m, b, c, dxs);
            else if (batch)
                backward_apply_row(DTYPE_F32, 1, n, dzs, xs, a, m, b, c, dxs);
            else
                backward_apply_row(DTYPE_F32, 0, n, dzs, xs, a, m, b, c, dxs);
        }
    }
}

static void norm_fold_cpu(Device *device, int K, int64_t n, const float *w, const float *scale, DType type,
                          void *w_out) {
    int parts = threads_for(device, K * n);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int k = 0; k < K; k++) {
        const float *row = w + k * n;
        if (type == DTYPE_BF16)
            for (int64_t i = 0; i < n; i++)
                ((uint16_t *)w_out)[k * n + i] = bf16_of_float(row[i] * scale[k]);
        else
            for (int64_t i = 0; i < n; i++)
                ((float *)w_out)[k * n + i] = row[i] * scale[k];
    }
}

const NormOps norm_ops_cpu = {
    .sums = norm_sums_cpu,
    .finalize = norm_finalize_cpu,
    .from_running = norm_from_running_cpu,
    .apply = norm_apply_cpu,
    .backward_sums = norm_backward_sums_cpu,
    .backward_params = norm_backward_params_cpu,
    .backward_apply = norm_backward_apply_cpu,
    .fold = norm_fold_cpu,
};
