/* Convolutions: cuDNN where it is built in and has a plan, else im2col and cuBLAS, which is also the cross-check.
 *
 * The plain way: with depth = R*R*C, columns [N*P*Q, depth] hold for every output pixel the input pixels its window
 * sees, in the order of the weights [K, depth], zeros where the window leaves the image. Then
 *     y  = columns w^T        dcolumns = dy w, dx gathers them        dw += dy^T columns
 * A 1x1 kernel with stride 1 has columns = x. Images are taken as many at a time as the plan's scratch_limit allows.
 * bf16 results are rounded once: sums that are not yet a result (dcolumns, y before its epilogue) stay f32. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/contract/conv.h"
#include "kernels/cuda/products/conv_plan.h"
#include "kernels/cuda/products/epilogue.h"
#include "kernels/cuda/products/gemm.h"
#include "kernels/cuda/threads/lanes.cuh"
#include "kernels/cuda/threads/launch.cuh"

static const size_t SCRATCH_LIMIT = (size_t)256 << 20;

/* A warp fills one row, neighbouring lanes neighbouring units. Unit: what a lane moves at once; a pixel has `units`. */
template <typename Unit>
static __global__ void im2col_kernel(ConvGeometry g, int P, int Q, int units, unsigned rows, const Unit *__restrict__ x,
                                     Unit *__restrict__ columns) {
    const int lane = (int)threadIdx.x % WARP, across = g.R * units, length = g.R * across;
    for (unsigned row = (unsigned)grid_first() / WARP; row < rows; row += (unsigned)grid_step() / WARP) {
        const int q = (int)(row % Q), p = (int)(row / Q % P), top = p * g.stride - g.pad, left = q * g.stride - g.pad;
        const Unit *image = x + (int64_t)(row / Q / P) * g.H * g.W * units;
        for (int at = lane; at < length; at += WARP) {
            const int r = at / across, s = at % across / units, h = top + r, w = left + s;
            const bool inside = h >= 0 && h < g.H && w >= 0 && w < g.W;
            columns[(int64_t)row * length + at] = inside ? image[((int64_t)h * g.W + w) * units + at % units] : Unit();
        }
    }
}

/* columns [images*P*Q, R*R*C] from x [images,H,W,C]. */
static void im2col(Device *device, const ConvPlan *plan, int64_t images, const void *x, void *columns) {
    const ConvGeometry *g = &plan->geometry;
    const unsigned rows = (unsigned)(images * plan->P * plan->Q), blocks = blocks_for(device, rows, BLOCK / WARP);
    if (lanes_fit(plan->type, g->C, x))
        CUDA_LAUNCH(device, im2col_kernel<uint4>, blocks, BLOCK, 0, *g, plan->P, plan->Q,
                    (int)(g->C * dtype_size(plan->type) / sizeof(uint4)), rows, (const uint4 *)x, (uint4 *)columns);
    else if (plan->type == DTYPE_BF16)
        CUDA_LAUNCH(device, im2col_kernel<uint16_t>, blocks, BLOCK, 0, *g, plan->P, plan->Q, g->C, rows,
                    (const uint16_t *)x, (uint16_t *)columns);
    else
        CUDA_LAUNCH(device, im2col_kernel<uint32_t>, blocks, BLOCK, 0, *g, plan->P, plan->Q, g->C, rows,
                    (const uint32_t *)x, (uint32_t *)columns);
}

/* COUNT neighbouring channels. */
template <int COUNT> static __device__ __forceinline__ void add_floats(const float *__restrict__ from, float *sum) {
    if constexpr (COUNT == 1) {
        sum[0] += *from;
    } else {
        float part[COUNT];
        for (int i = 0; i < COUNT; i += 4)
            lanes_load(from + i, part + i);
        for (int i = 0; i < COUNT; i++)
            sum[i] += part[i];
    }
}

/* A thread sums COUNT channels of one input pixel over the windows that see it, in the order of the kernel's rows. */
template <typename T, int COUNT>
static __global__ void gather_columns_kernel(ConvGeometry g, int P, int Q, int64_t total,
                                             const float *__restrict__ columns, T *__restrict__ dx) {
    const int groups = g.C / COUNT;
    for (int64_t i = grid_first(); i < total; i += grid_step()) {
        const int64_t pixel = i / groups;
        const int channel = (int)(i % groups) * COUNT, w = (int)(pixel % g.W), h = (int)(pixel / g.W % g.H);
        const int64_t image = pixel / g.W / g.H;
        float sum[COUNT] = {0.0f};
        for (int r = 0; r < g.R; r++) {
            const int down = h + g.pad - r, p = down / g.stride;
            if (down < 0 || p * g.stride != down || p >= P)
                continue;
            for (int s = 0; s < g.R; s++) {
                const int right = w + g.pad - s, q = right / g.stride;
                if (right < 0 || q * g.stride != right || q >= Q)
                    continue;
                add_floats<COUNT>(columns + (((image * P + p) * Q + q) * g.R * g.R + r * g.R + s) * g.C + channel, sum);
            }
        }
        if constexpr (COUNT == 1)
            element_store(dx + i, sum[0]);
        else
            lanes_store(dx + i * COUNT, sum);
    }
}

/* dx [images,H,W,C] from dcolumns [images*P*Q, R*R*C] f32. */
static void gather_columns(Device *device, const ConvPlan *plan, int64_t images, const float *columns, void *dx) {
    const ConvGeometry *g = &plan->geometry;
    const int64_t elements = images * g->H * g->W * g->C;
    if (lanes_fit(plan->type, g->C, dx))
        WITH_TYPE(plan->type, T, {
            const int64_t total = elements / Lanes<T>::COUNT;
            CUDA_LAUNCH(device, (gather_columns_kernel<T, Lanes<T>::COUNT>), blocks_for(device, total, BLOCK), BLOCK, 0,
                        *g, plan->P, plan->Q, total, columns, (T *)dx);
        });
    else
        WITH_TYPE(plan->type, T,
                  CUDA_LAUNCH(device, (gather_columns_kernel<T, 1>), blocks_for(device, elements, BLOCK), BLOCK, 0, *g,
                              plan->P, plan->Q, elements, columns, (T *)dx));
}

/* ---- the plain way, images [first, first + count) at a time ------------------------------------------------------ */

/* Sizes of one image's share. */
typedef struct Share {
    int64_t rows;                              /* P*Q */
    int64_t depth;                             /* R*R*C */
    size_t image, output;                      /* bytes of x or dx, of y or dy */
    size_t columns, float_columns, float_rows; /* bytes */
} Share;

static Share share_of(const ConvPlan *plan) {
    const ConvGeometry *g = &plan->geometry;
    Share s;
    s.rows = (int64_t)plan->P * plan->Q;
    s.depth = (int64_t)g->R * g->R * g->C;
    s.image = (size_t)g->H * (size_t)g->W * (size_t)g->C * dtype_size(plan->type);
    s.output = (size_t)(s.rows * g->K) * dtype_size(plan->type);
    s.columns = (size_t)(s.rows * s.depth) * dtype_size(plan->type);
    s.float_columns = (size_t)(s.rows * s.depth) * sizeof(float);
    s.float_rows = (size_t)(s.rows * g->K) * sizeof(float);
    return s;
}

static bool is_pointwise(const ConvPlan *plan) {
    const ConvGeometry *g = &plan->geometry;
    return g->R == 1 && g->stride == 1 && g->pad == 0;
}

/* Images at a time, when one takes so much scratch: within the plan's limit, and with row numbers that fit an int. */
static int64_t images_at_once(const ConvPlan *plan, size_t per_image, int64_t N) {
    int64_t images = INT_MAX / ((int64_t)plan->P * plan->Q);
    if (per_image && (int64_t)(plan->scratch_limit / per_image) < images)
        images = (int64_t)(plan->scratch_limit / per_image);
    return images < 1 ? 1 : images < N ? images : N;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void plain_forward(Device *device, const ConvPlan *plan, int64_t N, const char *x, const void *w,
                          const ConvEpilogue *e, char *y) {
    const Share s = share_of(plan);
    const int K = plan->geometry.K;
    const bool pointwise = is_pointwise(plan), staged = e && plan->type == DTYPE_BF16;
    const size_t columns_bytes = pointwise ? 0 : s.columns, staged_bytes = staged ? s.float_rows : 0;
    const int64_t chunk = images_at_once(plan, columns_bytes + staged_bytes, N);
    for (int64_t first = 0; first < N; first += chunk) {
        const int64_t images = least(chunk, N - first), rows = images * s.rows;
        const char *image = x + (size_t)first * s.image;
        char *out = y + (size_t)first * s.output;
        char *columns = (char *)cuda_scratch(device, cuda_scratch_part((size_t)chunk * columns_bytes) +
                                                         (size_t)chunk * staged_bytes);
        char *product = staged ? columns + cuda_scratch_part((size_t)chunk * columns_bytes) : out;
        if (!pointwise)
            im2col(device, plan, images, image, columns);
        cuda_gemm(device, AS_STORED, TRANSPOSED, rows, K, s.depth, plan->type, pointwise ? image : columns, w,
                  e && e->add && !staged ? 1.0f : 0.0f, staged ? DTYPE_F32 : plan->type, product);
        if (!e)
            continue;
        const Epilogue epilogue = {e->bias, staged && e->add ? out : NULL, e->relu};
        cuda_epilogue(device, rows, K, &epilogue, staged ? DTYPE_F32 : plan->type, product, plan->type, out);
    }
}

static void plain_backward_data(Device *device, const ConvPlan *plan, int64_t N, const char *dy, const void *w,
                                char *dx) {
    const Share s = share_of(plan);
    const bool pointwise = is_pointwise(plan);
    const size_t columns_bytes = pointwise ? 0 : s.float_columns;
    const int64_t chunk = images_at_once(plan, columns_bytes, N);
    for (int64_t first = 0; first < N; first += chunk) {
        const int64_t images = least(chunk, N - first);
        const char *gradient = dy + (size_t)first * s.output;
        char *image = dx + (size_t)first * s.image;
        void *columns = pointwise ? image : cuda_scratch(device, (size_t)chunk * columns_bytes);
        cuda_gemm(device, AS_STORED, AS_STORED, images * s.rows, s.depth, plan->geometry.K, plan->type, gradient, w,
                  0.0f, pointwise ? plan->type : DTYPE_F32, columns);
        if (!pointwise)
            gather_columns(device, plan, images, (const float *)columns, image);
    }
}

static void plain_backward_weight(Device *device, const ConvPlan *plan, int64_t N, const char *x, const char *dy,
                                  float *dw) {
    const Share s = share_of(plan);
    const bool pointwise = is_pointwise(plan);
    const size_t columns_bytes = pointwise ? 0 : s.columns;
    const int64_t chunk = images_at_once(plan, columns_bytes, N);
    for (int64_t first = 0; first < N; first += chunk) {
        const int64_t images = least(chunk, N - first);
        const void *columns = x + (size_t)first * s.image;
        if (!pointwise) {
            void *scratch = cuda_scratch(device, (size_t)chunk * columns_bytes);
            im2col(device, plan, images, columns, scratch);
            columns = scratch;
        }
        cuda_gemm(device, TRANSPOSED, AS_STORED, plan->geometry.K, s.depth, images * s.rows, plan->type,
                  dy + (size_t)first * s.output, columns, 1.0f, DTYPE_F32, dw);
    }
}

/* ---- the operators ----------------------------------------------------------------------------------------------- */

const char *conv_library_cuda(void) {
#ifdef EXCON_CUDNN
    return conv_cudnn_library();
#else
    return "convolutions by cuBLAS";
#endif
}

void conv_describe(const ConvPlan *plan, char text[CONV_TEXT]) {
    const ConvGeometry *g = &plan->geometry;
    snprintf(text, CONV_TEXT, "convolution %dx%d, %d -> %d channels, %dx%d pixels, stride %d, pad %d, %s", g->R, g->R,
             g->C, g->K, g->H, g->W, g->stride, g->pad, plan->type == DTYPE_BF16 ? "bf16" : "f32");
}

const char *conv_pass_name(ConvPass pass) {
    return pass == CONV_FORWARD ? "forward" : pass == CONV_BACKWARD_DATA ? "backward data" : "backward weight";
}

static Status check_geometry(const ConvGeometry *g, DType type, Error *err) {
    if (g->H < 1 || g->W < 1 || g->C < 1 || g->K < 1 || g->R < 1 || g->stride < 1 || g->pad < 0 ||
        g->H + 2 * g->pad < g->R || g->W + 2 * g->pad < g->R || (type != DTYPE_F32 && type != DTYPE_BF16))
        return error_set(err, STATUS_CONFIG,
                         "impossible convolution: %dx%d kernel, stride %d, pad %d on %dx%d pixels, %d -> %d channels",
                         g->R, g->R, g->stride, g->pad, g->H, g->W, g->C, g->K);
    const double rows =
        (double)conv_out(g->H, g->R, g->stride, g->pad) * (double)conv_out(g->W, g->R, g->stride, g->pad);
    if (rows > INT_MAX || (double)g->R * g->R * g->C > INT_MAX)
        return error_set(err, STATUS_CONFIG,
                         "convolution too large: %dx%d kernel on %dx%d pixels of %d channels; use smaller images", g->R,
                         g->R, g->H, g->W, g->C);
    return STATUS_OK;
}

static Status conv_create_cuda(Device *device, const ConvGeometry *geometry, DType type, ConvPlan **out, Error *err) {
    *out = NULL;
    RETURN_IF(check_geometry(geometry, type, err));
    ConvPlan *plan = (ConvPlan *)calloc(1, sizeof *plan);
    if (!plan)
        return error_set(err, STATUS_SYSTEM, "out of memory for a convolution plan");
    plan->geometry = *geometry;
    plan->type = type;
    plan->P = conv_out(geometry->H, geometry->R, geometry->stride, geometry->pad);
    plan->Q = conv_out(geometry->W, geometry->R, geometry->stride, geometry->pad);
    plan->scratch_limit = SCRATCH_LIMIT;
#ifdef EXCON_CUDNN
    if (!device->plain_conv)
        plan->cudnn = conv_cudnn_new(device);
#else
    (void)device;
#endif
    *out = plan;
    return STATUS_OK;
}

static void conv_destroy_cuda(Device *device, ConvPlan *plan) {
    if (!plan)
        return;
#ifdef EXCON_CUDNN
    conv_cudnn_free(device, plan->cudnn);
#else
    (void)device;
#endif
    free(plan);
}

static void conv_forward_cuda(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *w,
                              const ConvEpilogue *epilogue, void *y) {
    if (N == 0)
        return;
#ifdef EXCON_CUDNN
    if (plan->cudnn && conv_cudnn_forward(device, plan, N, x, w, epilogue, y))
        return;
#endif
    plain_forward(device, plan, N, (const char *)x, w, epilogue, (char *)y);
}

static void conv_backward_data_cuda(Device *device, ConvPlan *plan, int64_t N, const void *dy, const void *w,
                                    void *dx) {
    if (N == 0)
        return;
#ifdef EXCON_CUDNN
    if (plan->cudnn && conv_cudnn_backward_data(device, plan, N, dy, w, dx))
        return;
#endif
    plain_backward_data(device, plan, N, (const char *)dy, w, (char *)dx);
}

static void conv_backward_weight_cuda(Device *device, ConvPlan *plan, int64_t N, const void *x, const void *dy,
                                      float *dw) {
    if (N == 0)
        return;
#ifdef EXCON_CUDNN
    if (plan->cudnn && conv_cudnn_backward_weight(device, plan, N, x, dy, dw))
        return;
#endif
    plain_backward_weight(device, plan, N, (const char *)x, (const char *)dy, dw);
}

extern "C" const ConvOps conv_ops_cuda = {
    .create = conv_create_cuda,
    .destroy = conv_destroy_cuda,
    .forward = conv_forward_cuda,
    .backward_data = conv_backward_data_cuda,
    .backward_weight = conv_backward_weight_cuda,
};
