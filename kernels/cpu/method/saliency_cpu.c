/* Class activation maps and the masks made of them.
 *
 * A map with a NaN anywhere gives an empty mask, as it does where min and max propagate NaN; saliency_top orders NaN
 * below every number. Loops run over whole images, one image per thread at a time. */
#include <math.h>
#include <string.h>

#include "kernels/contract/saliency.h"
#include "kernels/contract/upsample.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/lanes.h"

BODY channel_means(DType type, int HW, int C, const void *restrict dA, float *restrict alpha) {
    for (int c = 0; c < C; c++)
        alpha[c] = 0.0f;
    for (int p = 0; p < HW; p++)
#pragma omp simd
        for (int c = 0; c < C; c++)
            alpha[c] += lane_load(type, dA, (int64_t)p * C + c);
    for (int c = 0; c < C; c++)
        alpha[c] /= (float)HW;
}

static void saliency_weights_cpu(Device *device, int64_t N, int HW, int C, DType type, const void *dA, float *alpha) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        if (type == DTYPE_BF16)
            channel_means(DTYPE_BF16, HW, C, lane_at(type, dA, n * image), alpha + n * C);
        else
            channel_means(DTYPE_F32, HW, C, lane_at(type, dA, n * image), alpha + n * C);
    }
}

/* Negative values become 0; NaN stays. */
static inline float rectify(float value) {
    return value < 0.0f ? 0.0f : value;
}

/* One position's part of a Grad-CAM++ weight; g is the derivative, mass the channel's sum of activations. */
static inline float plus_part(float g, float mass) {
    float square = g * g;
    return g <= 0.0f ? 0.0f : g * square / (2.0f * square + mass * square * g + 1e-6f);
}

enum { PLUS_CHANNELS = 64 }; /* at a time */

BODY channel_weights_plus(DType type, int HW, int C, const void *restrict A, const void *restrict dA,
                          float *restrict alpha) {
    for (int first = 0; first < C; first += PLUS_CHANNELS) {
        const int count = C - first < PLUS_CHANNELS ? C - first : PLUS_CHANNELS;
        float mass[PLUS_CHANNELS] = {0}, sum[PLUS_CHANNELS] = {0};
        for (int p = 0; p < HW; p++)
#pragma omp simd
            for (int c = 0; c < count; c++)
                mass[c] += lane_load(type, A, (int64_t)p * C + first + c);
        for (int p = 0; p < HW; p++)
#pragma omp simd
            for (int c = 0; c < count; c++)
                sum[c] += plus_part(lane_load(type, dA, (int64_t)p * C + first + c), mass[c]);
        for (int c = 0; c < count; c++)
            alpha[first + c] = sum[c];
    }
}

static void saliency_weights_plus_cpu(Device *device, int64_t N, int HW, int C, DType type, const void *A,
                                      const void *dA, float *alpha) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const void *An = lane_at(type, A, n * image), *dAn = lane_at(type, dA, n * image);
        if (type == DTYPE_BF16)
            channel_weights_plus(DTYPE_BF16, HW, C, An, dAn, alpha + n * C);
        else
            channel_weights_plus(DTYPE_F32, HW, C, An, dAn, alpha + n * C);
    }
}

BODY weighted_map(DType type, int HW, int C, const void *restrict A, const float *restrict alpha, int relu,
                  float *restrict cam) {
    for (int p = 0; p < HW; p++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int c = 0; c < C; c++)
            sum += alpha[c] * lane_load(type, A, (int64_t)p * C + c);
        cam[p] = relu ? rectify(sum) : sum;
    }
}

static void saliency_cam_cpu(Device *device, int64_t N, int HW, int C, DType type, const void *A, const float *alpha,
                             int relu, float *cam) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        if (type == DTYPE_BF16)
            weighted_map(DTYPE_BF16, HW, C, lane_at(type, A, n * image), alpha + n * C, relu, cam + n * HW);
        else
            weighted_map(DTYPE_F32, HW, C, lane_at(type, A, n * image), alpha + n * C, relu, cam + n * HW);
    }
}

BODY summed_map(DType type, int HW, int C, const void *restrict x, const void *restrict weight, int relu,
                float *restrict cam) {
    for (int p = 0; p < HW; p++) {
        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            int64_t i = (int64_t)p * C + c;
            sum += weight ? lane_load(type, x, i) * lane_load(type, weight, i) : lane_load(type, x, i);
        }
        cam[p] = relu ? rectify(sum) : sum;
    }
}

static void saliency_channel_sum_cpu(Device *device, int64_t N, int HW, int C, DType type, const void *x,
                                     const void *weight, int relu, float *cam) {
    int64_t image = (int64_t)HW * C;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const void *xn = lane_at(type, x, n * image), *wn = lane_at(type, weight, n * image);
        if (type == DTYPE_BF16)
            summed_map(DTYPE_BF16, HW, C, xn, wn, relu, cam + n * HW);
        else
            summed_map(DTYPE_F32, HW, C, xn, wn, relu, cam + n * HW);
    }
}

static void upsample_map(int h, int w, int H, int W, const float *restrict cam, float *restrict up) {
    float ratio_y = (float)h / (float)H, ratio_x = (float)w / (float)W;
    for (int y = 0; y < H; y++) {
        UpsampleAt row = upsample_at(y, h, ratio_y);
        const float *restrict upper = cam + (int64_t)row.first * w, *restrict lower = cam + (int64_t)row.second * w;
#pragma omp simd
        for (int x = 0; x < W; x++) {
            UpsampleAt column = upsample_at(x, w, ratio_x);
            float top = upsample_mix(upper[column.first], upper[column.second], column.share);
            float bottom = upsample_mix(lower[column.first], lower[column.second], column.share);
            up[(int64_t)y * W + x] = upsample_mix(top, bottom, row.share);
        }
    }
}

static void saliency_upsample_cpu(Device *device, int64_t N, int h, int w, int H, int W, const float *cam, float *up) {
    int parts = threads_for(device, N * H * W);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++)
        upsample_map(h, w, H, W, cam + n * h * w, up + n * H * W);
}

/* A map's way to 0..1: value minus min, over divisor. */
typedef struct Range {
    float min, divisor;
    int nans;
} Range;

static Range range_of(int HW, const float *restrict up) {
    float min = INFINITY, max = -INFINITY;
    int nans = 0;
#pragma omp simd reduction(min : min) reduction(max : max) reduction(+ : nans)
    for (int p = 0; p < HW; p++) {
        min = up[p] < min ? up[p] : min;
        max = up[p] > max ? up[p] : max;
        nans += up[p] != up[p];
    }
    return (Range){min, max - min + 1e-8f, nans};
}

static void threshold_map(int HW, const float *restrict up, float threshold, float *restrict mask) {
    const Range range = range_of(HW, up);
    for (int p = 0; p < HW; p++)
        mask[p] = !range.nans && (up[p] - range.min) / range.divisor > threshold ? 1.0f : 0.0f;
}

static void saliency_mask_cpu(Device *device, int64_t N, int HW, const float *up, float threshold, float *mask) {
    int parts = threads_for(device, N * HW);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++)
        threshold_map(HW, up + n * HW, threshold, mask + n * HW);
}

/* Unsigned key in the order of the numbers; NaN is 0, both zeros are equal. */
static inline uint32_t order_key(float value) {
    uint32_t bits = bits_of_float(value + 0.0f);
    uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return value == value ? key : 0u;
}

/* Selection by radix: four passes narrow down the key of the `keep`-th largest value, byte by byte. */
static void top_map(int HW, const float *up, int keep, float *mask) {
    if (keep <= 0 || keep >= HW) {
        for (int p = 0; p < HW; p++)
            mask[p] = keep > 0 ? 1.0f : 0.0f;
        return;
    }
    uint32_t prefix = 0, known = 0;
    int wanted = keep; /* how many of the values matching the prefix are to be kept */
    for (int shift = 24; shift >= 0; shift -= 8) {
        int histogram[256] = {0};
        for (int p = 0; p < HW; p++) {
            uint32_t key = order_key(up[p]);
            if ((key & known) == prefix)
                histogram[(key >> shift) & 255u]++;
        }
        uint32_t byte = 255;
        while (histogram[byte] < wanted)
            wanted -= histogram[byte--];
        prefix |= byte << shift;
        known |= 255u << shift;
    }
    for (int p = 0; p < HW; p++) {
        uint32_t key = order_key(up[p]);
        int tie_kept = key == prefix && wanted > 0;
        wanted -= tie_kept;
        mask[p] = key > prefix || tie_kept ? 1.0f : 0.0f;
    }
}

static void saliency_top_cpu(Device *device, int64_t N, int HW, const float *up, int keep, float *mask) {
    int parts = threads_for(device, N * HW);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++)
        top_map(HW, up + n * HW, keep, mask + n * HW);
}

BODY masked_image(DType type, int HW, const void *x, const float *mask, const float *fill, int invert, void *out) {
    for (int p = 0; p < HW; p++) {
        int kept = (mask[p] != 0.0f) != (invert != 0);
        for (int c = 0; c < 3; c++) {
            int64_t i = (int64_t)p * 3 + c;
            lane_store(type, out, i, kept ? lane_load(type, x, i) : fill[c]);
        }
    }
}

static void saliency_apply_cpu(Device *device, int64_t N, int HW, DType type, const void *x, const float *mask,
                               const float fill[3], int invert, void *out) {
    int64_t image = (int64_t)HW * 3;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const void *xn = lane_at(type, x, n * image);
        void *yn = lane_at_out(type, out, n * image);
        if (type == DTYPE_BF16)
            masked_image(DTYPE_BF16, HW, xn, mask + n * HW, fill, invert, yn);
        else
            masked_image(DTYPE_F32, HW, xn, mask + n * HW, fill, invert, yn);
    }
}

BODY softened_image(DType type, int HW, const void *x, const float *up, void *out) {
    const Range range = range_of(HW, up);
    for (int p = 0; p < HW; p++) {
        float scaled = (up[p] - range.min) / range.divisor;
        float share = !range.nans && scaled > 0.0f ? scaled : 0.0f;
        for (int c = 0; c < 3; c++) {
            int64_t i = (int64_t)p * 3 + c;
            lane_store(type, out, i, share * lane_load(type, x, i));
        }
    }
}

static void saliency_soften_cpu(Device *device, int64_t N, int HW, DType type, const void *x, const float *up,
                                void *out) {
    int64_t image = (int64_t)HW * 3;
    int parts = threads_for(device, N * image);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        const void *xn = lane_at(type, x, n * image);
        void *yn = lane_at_out(type, out, n * image);
        if (type == DTYPE_BF16)
            softened_image(DTYPE_BF16, HW, xn, up + n * HW, yn);
        else
            softened_image(DTYPE_F32, HW, xn, up + n * HW, yn);
    }
}

const SaliencyOps saliency_ops_cpu = {
    .weights = saliency_weights_cpu,
    .weights_plus = saliency_weights_plus_cpu,
    .cam = saliency_cam_cpu,
    .channel_sum = saliency_channel_sum_cpu,
    .upsample = saliency_upsample_cpu,
    .mask = saliency_mask_cpu,
    .top = saliency_top_cpu,
    .apply = saliency_apply_cpu,
    .soften = saliency_soften_cpu,
};
