/* Convolutions through cuDNN's graph interface; how a plan is chosen stands in cudnn_plan.c.
 *
 * A ConvPlan keeps the cuDNN plans of the row counts last used; the least recently used row count makes room. A plan
 * is host memory, some 30 kB, and takes about a millisecond to choose, those of a ResNet-18 some 75 (cuDNN 9.19): the
 * trainer lets convolutions meet no more row counts than are kept here (Device.slow_to_plan). Workspace, and what does
 * not fit the caller's tensors, lies in the device's scratch:
 *     forward   bias in the tensors' type, or the convolution before an epilogue that the graph does not hold
 *     backward weight   dw, which is then added to the caller's in f32; of bf16 tensors cuDNN offers it in bf16 only */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device/cuda_device.h"
#include "kernels/cuda/device/graphs.h"
#include "kernels/cuda/products/cudnn_plan.h"
#include "kernels/cuda/products/epilogue.h"
#include "kernels/ops.h"

enum { ROWS_KEPT = 64, EPILOGUES = 8, PLANS = EPILOGUES + 2, TENSORS_MAX = 5 };

static const size_t WORKSPACE_LIMIT = (size_t)512 << 20;

typedef struct RowPlans {
    int64_t N; /* 0: free */
    uint64_t used;
    unsigned asked;         /* bit per plan: it was looked for */
    CudnnPlan plans[PLANS]; /* forward by epilogue, backward data, backward weight */
} RowPlans;

struct ConvCudnn {
    uint64_t clock;
    unsigned told; /* bit per pass: stderr says already that it runs as im2col + cuBLAS */
    RowPlans rows[ROWS_KEPT];
};

static void cudnn_check(Device *device, const ConvPlan *conv, ConvPass pass, cudnnStatus_t status,
                        const char *expression, const char *file, int line) {
    if (status == CUDNN_STATUS_SUCCESS)
        return;
    char text[CONV_TEXT], last[256] = "";
    conv_describe(conv, text);
    cudnnGetLastErrorString(last, sizeof last);
    device_fatal(device, STATUS_SYSTEM, "CUDA device %d: %s pass of %s: %s failed: %s: %s (%s:%d)", device->index,
                 conv_pass_name(pass), text, expression, cudnnGetErrorString(status), last, file, line);
}
#define CUDNN_CHECK(device, conv, pass, expression)                                                                    \
    cudnn_check((device), (conv), (pass), (expression), #expression, __FILE__, __LINE__)

/* ---- the handle -------------------------------------------------------------------------------------------------- */

const char *conv_cudnn_library(void) {
    static char text[64]; /* the same at every call */
    const size_t version = cudnnGetVersion();
    snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu (header %d.%d.%d)", version / 10000, version / 100 % 100,
             version % 100, CUDNN_MAJOR, CUDNN_MINOR, CUDNN_PATCHLEVEL);
    return text;
}

static void close_handle(void *handle) {
    cudnnDestroy((cudnnHandle_t)handle);
}

/* The device's handle, on its stream; NULL when cuDNN does not work here. */
static cudnnHandle_t handle_of(Device *device) {
    CudaDevice *cuda = cuda_of(device);
    if (cuda->cudnn || cuda->cudnn_failed)
        return (cudnnHandle_t)cuda->cudnn;
    cudnnHandle_t handle = NULL;
    cudnnStatus_t status = cudnnCreate(&handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnSetStream(handle, cuda->stream);
    if (status == CUDNN_STATUS_SUCCESS) {
        cuda->cudnn = handle;
        cuda->cudnn_close = close_handle;
        return handle;
    }
    char last[256] = "";
    cudnnGetLastErrorString(last, sizeof last);
    if (handle)
        cudnnDestroy(handle);
    cuda->cudnn_failed = 1;
    fprintf(
        stderr,
        "excon: CUDA device %d: cuDNN does not start (%s: %s); convolutions run as im2col + cuBLAS, which is slower\n",
        device->index, cudnnGetErrorString(status), last);
    return NULL;
}

ConvCudnn *conv_cudnn_new(Device *device) {
    if (!handle_of(device))
        return NULL;
    ConvCudnn *cudnn = calloc(1, sizeof *cudnn);
    if (!cudnn)
        device_fatal(device, STATUS_SYSTEM, "out of host memory for a convolution's cuDNN plans");
    return cudnn;
}

/* ---- plans by row count ------------------------------------------------------------------------------------------ */

/* Frees the slot's plans, after what may use them: launches under way, and recordings, which are dropped together with
 * what is known of captures that were met. So a capture is never recorded without the plans that it met plainly. */
static void make_room(Device *device, RowPlans *rows) {
    if (rows->N == 0)
        return;
    CUDA_CHECK(device, cudaStreamSynchronize(cuda_stream(device)));
    graphs_forget(cuda_of(device)->graphs);
    for (int i = 0; i < PLANS; i++)
        cudnn_plan_free(&rows->plans[i]);
    *rows = (RowPlans){0};
}

void conv_cudnn_free(Device *device, ConvCudnn *cudnn) {
    if (!cudnn)
        return;
    for (int i = 0; i < ROWS_KEPT; i++)
        make_room(device, &cudnn->rows[i]);
    free(cudnn);
}

/* A search takes long, and may allocate or wait, which a capture does not survive. */
static void refuse_search_in_recording(Device *device, const ConvPlan *conv, int64_t N) {
    if (!cuda_capturing(device))
        return;
    char text[CONV_TEXT];
    conv_describe(conv, text);
    device_fatal(device, STATUS_INTERNAL, "%s meets %lld rows first in a capture that is being recorded", text,
                 (long long)N);
}

/* The slot of row count N: the one in use, else a free one, else the least recently used one emptied. */
static RowPlans *rows_of(Device *device, const ConvPlan *conv, int64_t N) {
    ConvCudnn *cudnn = conv->cudnn;
    RowPlans *oldest = cudnn->rows, *found = NULL;
    for (int i = 0; i < ROWS_KEPT && !found; i++) {
        RowPlans *rows = &cudnn->rows[i];
        if (rows->N == N)
            found = rows;
        else if (rows->used < oldest->used)
            oldest = rows;
    }
    if (!found) {
        refuse_search_in_recording(device, conv, N);
        make_room(device, oldest);
        oldest->N = N;
        found = oldest;
    }
    found->used = ++cudnn->clock;
    return found;
}

static void tell(Device *device, const ConvPlan *conv, ConvPass pass, int64_t N, const char *why) {
    if (conv->cudnn->told & 1u << pass)
        return;
    conv->cudnn->told |= 1u << pass;
    char text[CONV_TEXT];
    conv_describe(conv, text);
    fprintf(stderr,
            "excon: CUDA device %d: cuDNN has no plan for the %s pass of %s, %lld rows (%s); it runs as im2col + "
            "cuBLAS, which is slower\n",
            device->index, conv_pass_name(pass), text, (long long)N, why);
}

/* NULL, told on stderr, when cuDNN offers none. */
static const CudnnPlan *plan_of(Device *device, ConvPlan *conv, ConvPass pass, int epilogue, int64_t N) {
    RowPlans *rows = rows_of(device, conv, N);
    const int slot = pass == CONV_FORWARD ? epilogue : pass == CONV_BACKWARD_DATA ? EPILOGUES : EPILOGUES + 1;
    CudnnPlan *plan = &rows->plans[slot];
    if (!(rows->asked & 1u << slot)) {
        refuse_search_in_recording(device, conv, N);
        const CudnnTarget target = {.handle = handle_of(device)};
        CudnnVariant variants[2];
        char why[CUDNN_WHY];
        const int count = cudnn_variants(pass, conv->type, epilogue, variants);
        if (!cudnn_plan_find(&target, conv, pass, N, variants, count, WORKSPACE_LIMIT, plan, why))
            tell(device, conv, pass, N, why);
        rows->asked |= 1u << slot;
    }
    return plan->descriptor ? plan : NULL;
}

/* ---- execution --------------------------------------------------------------------------------------------------- */

/* What the tensors of a graph point to. */
typedef struct Bindings {
    int64_t ids[TENSORS_MAX];
    void *pointers[TENSORS_MAX];
    int count;
} Bindings;

/* cuDNN takes inputs through pointers to non-const; it only reads them. */
static void bind(Bindings *b, CudnnTensor id, const void *pointer) {
    b->ids[b->count] = id;
    b->pointers[b->count++] = (void *)(uintptr_t)pointer;
}

static int is_aligned(const void *pointer) {
    return (uintptr_t)pointer % 16 == 0;
}

static void execute(Device *device, const ConvPlan *conv, ConvPass pass, const CudnnPlan *plan, const Bindings *b,
                    void *workspace) {
    cudnnBackendDescriptor_t pack = NULL;
    CUDNN_CHECK(device, conv, pass, cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    CUDNN_CHECK(device, conv, pass,
                cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, b->count, b->ids));
    CUDNN_CHECK(device, conv, pass,
                cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, b->count,
                                         b->pointers));
    CUDNN_CHECK(device, conv, pass,
                cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    CUDNN_CHECK(device, conv, pass, cudnnBackendFinalize(pack));
    CUDNN_CHECK(device, conv, pass, cudnnBackendExecute(handle_of(device), plan->descriptor, pack));
    CUDNN_CHECK(device, conv, pass, cudnnBackendDestroyDescriptor(pack));
}

static size_t bytes_of(int64_t n, DType type) {
    return (size_t)n * dtype_size(type);
}

/* y = conv, or with what the plan's graph holds of the epilogue. */
static void run_forward(Device *device, const ConvPlan *conv, const CudnnPlan *plan, const void *x, const void *w,
                        const ConvEpilogue *e, char *scratch, void *y) {
    const int K = conv->geometry.K;
    Bindings b = {.count = 0};
    bind(&b, TENSOR_X, x);
    bind(&b, TENSOR_W, w);
    bind(&b, TENSOR_Y, y);
    if (plan->variant.epilogue & EPILOGUE_ADD)
        bind(&b, TENSOR_RESIDUAL, y); /* element by element, each is read before it is overwritten */
    if (plan->variant.epilogue & EPILOGUE_BIAS) {
        void *bias = scratch + cuda_scratch_part(plan->workspace);
        if (plan->variant.bias_type != DTYPE_F32)
            device->ops->convert->cast(device, K, DTYPE_F32, e->bias, plan->variant.bias_type, bias);
        bind(&b, TENSOR_BIAS, plan->variant.bias_type != DTYPE_F32 ? bias : e->bias);
    }
    execute(device, conv, CONV_FORWARD, plan, &b, scratch);
}

int conv_cudnn_forward(Device *device, ConvPlan *conv, int64_t N, const void *x, const void *w, const ConvEpilogue *e,
                       void *y) {
    const int wanted =
        e ? (e->bias ? EPILOGUE_BIAS : 0) | (e->add ? EPILOGUE_ADD : 0) | (e->relu ? EPILOGUE_RELU : 0) : 0;
    if (!is_aligned(x) || !is_aligned(w) || !is_aligned(y) || (e && !is_aligned(e->bias))) {
        tell(device, conv, CONV_FORWARD, N, "an address is no multiple of 16");
        return 0;
    }
    const CudnnPlan *plan = plan_of(device, conv, CONV_FORWARD, wanted, N);
    if (!plan)
        return 0;
    const int64_t rows = N * conv->P * conv->Q;
    const int left = wanted & ~plan->variant.epilogue, staged = left & EPILOGUE_ADD;
    const size_t extra = staged                                   ? bytes_of(rows * conv->geometry.K, conv->type)
                         : plan->variant.epilogue & EPILOGUE_BIAS ? bytes_of(conv->geometry.K, conv->type)
                                                                  : 0;
    char *scratch = cuda_scratch(device, cuda_scratch_part(plan->workspace) + extra);
    void *product =
        staged ? scratch + cuda_scratch_part(plan->workspace) : y; /* y holds the residual until it is added */
    run_forward(device, conv, plan, x, w, e, scratch, product);
    if (left) {
        const Epilogue epilogue = {e->bias, staged ? y : NULL, e->relu}; /* a graph holds all of it or nothing */
        cuda_epilogue(device, rows, conv->geometry.K, &epilogue, conv->type, product, conv->type, y);
    }
    return 1;
}

int conv_cudnn_backward_data(Device *device, ConvPlan *conv, int64_t N, const void *dy, const void *w, void *dx) {
    if (!is_aligned(dy) || !is_aligned(w) || !is_aligned(dx)) {
        tell(device, conv, CONV_BACKWARD_DATA, N, "an address is no multiple of 16");
        return 0;
    }
    const CudnnPlan *plan = plan_of(device, conv, CONV_BACKWARD_DATA, 0, N);
    if (!plan)
        return 0;
    Bindings b = {.count = 0};
    bind(&b, TENSOR_X, dx);
    bind(&b, TENSOR_W, w);
    bind(&b, TENSOR_Y, dy);
    execute(device, conv, CONV_BACKWARD_DATA, plan, &b, cuda_scratch(device, plan->workspace));
    return 1;
}

int conv_cudnn_backward_weight(Device *device, ConvPlan *conv, int64_t N, const void *x, const void *dy, float *dw) {
    if (!is_aligned(x) || !is_aligned(dy)) {
        tell(device, conv, CONV_BACKWARD_WEIGHT, N, "an address is no multiple of 16");
        return 0;
    }
    const CudnnPlan *plan = plan_of(device, conv, CONV_BACKWARD_WEIGHT, 0, N);
    if (!plan)
        return 0;
    const ConvGeometry *g = &conv->geometry;
    const int64_t count = (int64_t)g->K * g->R * g->R * g->C;
    char *scratch = cuda_scratch(device, cuda_scratch_part(plan->workspace) + bytes_of(count, plan->variant.w_type));
    void *fresh = scratch + cuda_scratch_part(plan->workspace);
    Bindings b = {.count = 0};
    bind(&b, TENSOR_X, x);
    bind(&b, TENSOR_W, fresh);
    bind(&b, TENSOR_Y, dy);
    execute(device, conv, CONV_BACKWARD_WEIGHT, plan, &b, scratch);
    cuda_accumulate(device, count, plan->variant.w_type, fresh, dw);
    return 1;
}
