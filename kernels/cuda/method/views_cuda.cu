/* The random transform (contract/views.h) on CUDA: one block makes one view.
 *
 * Warp 0 draws the view's parameters while the others fetch the image's bytes into shared memory (12 KiB at 64x64);
 * images beyond STAGED_BYTES are read through the caches instead. Then each warp makes tiles of 32 consecutive pixels,
 * one per lane, from sampling to normalisation in registers, and writes them as full 16-byte vectors by way of shared
 * memory.
 *
 * Contrast needs the mean grey of the whole image as the operators before it left it. Pixels are made a second time
 * after the mean is known rather than kept: that is about a third more arithmetic in a kernel of some microseconds,
 * while keeping them would take 12 bytes of shared memory per pixel, which leaves a multiprocessor half empty at 64x64
 * and which 224x224 does not fit into, and so a second path besides.
 *
 * The block's size follows from the image's size alone, so a view does not depend on the batch it is made in. */
#include "kernels/contract/views.h"
#include "kernels/contract/views_draw.h"
#include "kernels/contract/views_pixel.h"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/reduce.cuh"

static const int BLOCK_LEAST = 2 * WARP; /* one warp draws, at least one fetches */
static const int BLOCK_MOST = 512;
static const int TILE = 3 * WARP; /* elements a warp writes at once */
static const int STAGED_BYTES =
    48 * 1024; /* 128x128 pixels; two blocks, all that registers allow, still share a multiprocessor */
static const int GRANTED_BYTES = 40 * 1024; /* dynamic shared memory that needs no asking, next to the static */
static const int CONTRAST = 1;              /* in ViewParams::order */

/* Where one output row or column samples the source. */
typedef struct Tap {
    int32_t offset; /* bytes, of the first of two source rows or columns */
    float share;    /* weight of the second */
} Tap;

/* The crop of one image, and how it is sampled. */
typedef struct Crop {
    const uint8_t *source; /* [H,W,3], shared or global memory */
    const Tap *rows;       /* [H] shared */
    const Tap *columns;    /* [W] shared */
    int W;
    int last_row, last_column; /* offsets of the crop's last ones, which have no neighbour */
} Crop;

static __device__ void fetch_image(const uint8_t *image, int bytes, bool aligned, uint8_t *staged) {
    const int first = (int)threadIdx.x - WARP, step = (int)blockDim.x - WARP;
    if (aligned)
        for (int i = first; i < bytes / 16; i += step)
            reinterpret_cast<uint4 *>(staged)[i] = reinterpret_cast<const uint4 *>(image)[i];
    else
        for (int i = first; i < bytes; i += step)
            staged[i] = image[i];
}

static __device__ void plan_taps(const ViewParams &drawn, int H, int W, Tap *rows, Tap *columns) {
    for (int i = (int)threadIdx.x; i < H + W; i += (int)blockDim.x) {
        const bool is_row = i < H;
        const int x = i - H;
        const ViewSample sample =
            is_row ? views_sample(i, drawn.crop[2], H) : views_sample(drawn.flip ? W - 1 - x : x, drawn.crop[3], W);
        Tap *tap = is_row ? rows + i : columns + x;
        tap->offset = is_row ? (drawn.crop[0] + sample.first) * W * 3 : (drawn.crop[1] + sample.first) * 3;
        tap->share = sample.share;
    }
}

/* Pixel number `index` of the crop, resized and flipped. */
static __device__ __forceinline__ void sample_pixel(const Crop &crop, int index, float rgb[3]) {
    const int y = index / crop.W;
    const Tap row = crop.rows[y], column = crop.columns[index - y * crop.W];
    const uint8_t *upper = crop.source + row.offset + column.offset;
    const uint8_t *lower = row.offset < crop.last_row ? upper + crop.W * 3 : upper;
    const int right = column.offset < crop.last_column ? 3 : 0;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        const float top = views_mix(views_unit(upper[c]), views_unit(upper[right + c]), column.share);
        const float bottom = views_mix(views_unit(lower[c]), views_unit(lower[right + c]), column.share);
        rgb[c] = views_mix(top, bottom, row.share);
    }
}

/* The first `count` colour operators of the drawn order; neutral factors change nothing. */
static __device__ __forceinline__ void jitter_pixel(const ViewParams &drawn, int count, float contrast_offset,
                                                    float rgb[3]) {
#pragma unroll 1 /* one copy of each operator */
    for (int k = 0; k < count; k++) {
        const int which = drawn.order[k];
        const float factor = drawn.jitter[which];
        if (which == 0 && factor != 1.0f)
            for (int c = 0; c < 3; c++)
                rgb[c] = views_brightness(rgb[c], factor);
        else if (which == CONTRAST && factor != 1.0f)
            for (int c = 0; c < 3; c++)
                rgb[c] = views_blend(rgb[c], factor, contrast_offset);
        else if (which == 2 && factor != 1.0f)
            views_saturation(rgb, factor);
        else if (which == 3 && factor != 0.0f)
            views_hue(rgb, factor);
    }
}

/* Place of the contrast operator in the order; 4 when there is none to apply. */
static __device__ int contrast_place(const ViewParams &drawn) {
    int place = 0;
    while (drawn.order[place] != CONTRAST)
        place++;
    return drawn.jitter[CONTRAST] != 1.0f ? place : 4;
}

/* Mean grey of the image after the first `count` operators. All threads of the block call. */
static __device__ float mean_grey(const Crop &crop, const ViewParams &drawn, int pixels, int count) {
    double sum = 0.0;
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < pixels; i += (int)blockDim.x) {
        float rgb[3];
        sample_pixel(crop, i, rgb);
        jitter_pixel(drawn, count, 0.0f, rgb);
        sum += (double)views_grey(rgb[0], rgb[1], rgb[2]);
    }
    return (float)(block_reduce<Sum>(sum, 0.0) / (double)pixels);
}

/* A warp's tile from shared memory to `out`. whole: all of it, and `out` on a 16-byte boundary. */
template <typename T> static __device__ __forceinline__ void write_tile(const T *tile, int count, bool whole, T *out) {
    const int lane = (int)threadIdx.x % WARP;
    if (!whole)
        for (int i = lane; i < count; i += WARP)
            out[i] = tile[i];
    else if (lane < TILE / Lanes<T>::COUNT)
        reinterpret_cast<uint4 *>(out)[lane] = reinterpret_cast<const uint4 *>(tile)[lane];
}

/* The finished view. All threads of the block call. */
template <typename T>
static __device__ void write_view(const ViewSpec &spec, const Crop &crop, const ViewParams &drawn, int pixels,
                                  float contrast_offset, bool aligned, T *out) {
    __align__(16) __shared__ T tiles[BLOCK_MOST / WARP][TILE];
    const int lane = (int)threadIdx.x % WARP;
    T *tile = tiles[threadIdx.x / WARP];
    float scale[3];
    for (int c = 0; c < 3; c++)
        scale[c] = 1.0f / spec.std[c];
#pragma unroll 1
    for (int first = (int)threadIdx.x - lane; first < pixels; first += (int)blockDim.x) {
        const int count = min(pixels - first, (int)WARP);
        float rgb[3];
        sample_pixel(crop, first + min(lane, count - 1), rgb);
        jitter_pixel(drawn, 4, contrast_offset, rgb);
        if (drawn.grey)
            rgb[0] = rgb[1] = rgb[2] = views_grey(rgb[0], rgb[1], rgb[2]);
        for (int c = 0; c < 3; c++)
            element_store(tile + lane * 3 + c, (rgb[c] - spec.mean[c]) * scale[c]);
        __syncwarp();
        write_tile(tile, count * 3, aligned && count == WARP, out + first * 3);
        __syncwarp();
    }
}

/* Shared memory: the image when STAGED, then the taps of rows and columns. */
template <typename T, bool STAGED>
static __global__ void __launch_bounds__(BLOCK_MOST, 2)
    views_kernel(const __grid_constant__ ViewSpec spec, int H, int W, const uint8_t *__restrict__ images,
                 bool images_aligned, const int64_t *__restrict__ ids, bool out_aligned, T *__restrict__ out,
                 ViewParams *__restrict__ params) {
    DYNAMIC_SHARED(uint8_t, shared);
    __shared__ ViewParams drawn;
    const int pixels = H * W, bytes = pixels * 3;
    const int64_t n = blockIdx.x;
    const uint8_t *image = images + n * bytes;
    if (threadIdx.x == 0)
        views_draw(&spec, ids[n], H, W, &drawn);
    else if (STAGED && threadIdx.x >= WARP)
        fetch_image(image, bytes, images_aligned, shared);
    __syncthreads();
    if (params && threadIdx.x == 0)
        params[n] = drawn;

    Tap *rows = reinterpret_cast<Tap *>(shared + (STAGED ? (bytes + 15) / 16 * 16 : 0));
    plan_taps(drawn, H, W, rows, rows + H);
    __syncthreads();
    Crop crop;
    crop.source = STAGED ? shared : image;
    crop.rows = rows;
    crop.columns = rows + H;
    crop.W = W;
    crop.last_row = (drawn.crop[0] + drawn.crop[2] - 1) * W * 3;
    crop.last_column = (drawn.crop[1] + drawn.crop[3] - 1) * 3;

    const int contrast = contrast_place(drawn);
    float offset = 0.0f;
    if (contrast < 4)
        offset = (1.0f - drawn.jitter[CONTRAST]) * mean_grey(crop, drawn, pixels, contrast);
    write_view(spec, crop, drawn, pixels, offset, out_aligned, out + n * bytes);
}

template <typename T, bool STAGED>
static void views_launch(Device *device, const ViewSpec *spec, int64_t N, int H, int W, const uint8_t *images,
                         const int64_t *ids, T *out, ViewParams *params) {
    const int pixels = H * W;
    int block = (int)ceil_div(pixels, WARP) * WARP;
    block = block < BLOCK_LEAST ? BLOCK_LEAST : block > BLOCK_MOST ? BLOCK_MOST : block;
    const size_t shared = (STAGED ? (size_t)ceil_div(pixels * 3, 16) * 16 : 0) + (size_t)(H + W) * sizeof(Tap);
    if (shared > GRANTED_BYTES)
        CUDA_ALLOW_SHARED(device, (views_kernel<T, STAGED>), shared);
    const bool images_aligned = pixels * 3 % 16 == 0 && (uintptr_t)images % 16 == 0;
    const bool out_aligned = pixels * 3 % Lanes<T>::COUNT == 0 && (uintptr_t)out % 16 == 0;
    CUDA_LAUNCH(device, (views_kernel<T, STAGED>), (unsigned)N, (unsigned)block, shared, *spec, H, W, images,
                images_aligned, ids, out_aligned, out, params);
}

static void views_make_cuda(Device *device, const ViewSpec *spec, int64_t N, int H, int W, const uint8_t *images,
                            const int64_t *ids, DType type, void *out, ViewParams *params) {
    if (N == 0)
        return;
    const bool staged = (int64_t)H * W * 3 <= STAGED_BYTES;
    WITH_TYPE(type, T, if (staged) views_launch<T, true>(device, spec, N, H, W, images, ids, (T *)out, params);
              else views_launch<T, false>(device, spec, N, H, W, images, ids, (T *)out, params));
}

extern "C" const ViewsOps views_ops_cuda = {
    .make = views_make_cuda,
};
