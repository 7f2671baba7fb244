#include "kernels/cuda/products/cudnn_plan.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if CUDNN_MAJOR < 9
#error "excon needs cuDNN 9 or newer; make CUDNN=0 builds without it, convolutions then run as im2col and cuBLAS"
#endif

typedef cudnnBackendDescriptor_t Descriptor;

enum { ALIGNMENT = 16, OPERATIONS_MAX = 4, MADE_MAX = 24, CONFIGS_MAX = 64 };

/* Configurations are tried in cuDNN before they are returned, which takes most of a search's time. For bf16 one of the
 * first will do; for f32 those without tensor cores are far down the list. */
enum { CONFIGS_BF16 = 16, CONFIGS_F32 = CONFIGS_MAX };

/* Descriptors under construction. The first failure is kept, and everything after it does nothing. */
typedef struct Builder {
    const CudnnTarget *target;
    Descriptor made[MADE_MAX];
    int count;
    cudnnStatus_t status;
    const char *failed; /* the call that did */
} Builder;

#define TRY(builder, call) ((builder)->status == CUDNN_STATUS_SUCCESS ? keep((builder), (call), #call) : (void)0)

static void keep(Builder *b, cudnnStatus_t status, const char *call) {
    b->status = status;
    if (status != CUDNN_STATUS_SUCCESS)
        b->failed = call;
}

static Descriptor make(Builder *b, cudnnBackendDescriptorType_t type) {
    Descriptor d = NULL;
    if (b->count == MADE_MAX) {
        b->status = CUDNN_STATUS_INTERNAL_ERROR;
        b->failed = "make";
    }
    TRY(b, cudnnBackendCreateDescriptor(type, &d));
    if (d)
        b->made[b->count++] = d;
    return d;
}

static void free_made(Builder *b) {
    while (b->count > 0)
        cudnnBackendDestroyDescriptor(b->made[--b->count]);
}

/* SET names the attribute in the message of a failure. */
#define SET(builder, descriptor, attribute, type, count, value)                                                        \
    TRY(builder, cudnnBackendSetAttribute(descriptor, attribute, type, count, value))

#define FINALIZE(builder, descriptor) TRY(builder, cudnnBackendFinalize(descriptor))

static cudnnDataType_t data_type(DType type) {
    return type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* [n,c,h,w] as cuDNN counts dimensions, channels last in memory: so are weights [K,R,R,C]. Virtual tensors stay inside
 * the graph. */
static Descriptor make_tensor(Builder *b, int64_t id, DType type, const int64_t dims[4], bool is_virtual) {
    const int64_t strides[4] = {dims[2] * dims[3] * dims[1], 1, dims[3] * dims[1], dims[1]}, alignment = ALIGNMENT;
    const cudnnDataType_t stored = data_type(type);
    Descriptor d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    SET(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    SET(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &stored);
    SET(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    SET(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    SET(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    SET(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    FINALIZE(b, d);
    return d;
}

static Descriptor make_window(Builder *b, const ConvGeometry *g) {
    const int64_t spatial = 2, dilations[2] = {1, 1};
    const int64_t pads[2] = {g->pad, g->pad}, strides[2] = {g->stride, g->stride};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    Descriptor d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    SET(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    FINALIZE(b, d);
    return d;
}

/* The attributes of a pass's operation. */
typedef struct ConvAttributes {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
} ConvAttributes;

static const ConvAttributes conv_attributes[] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_BACKWARD_WEIGHT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static Descriptor make_convolution(Builder *b, ConvPass pass, Descriptor window, Descriptor x, Descriptor w,
                                   Descriptor y) {
    const ConvAttributes *a = &conv_attributes[pass];
    const float alpha = 1.0f, beta = 0.0f;
    Descriptor d = make(b, a->type);
    SET(b, d, a->window, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &window);
    SET(b, d, a->x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    SET(b, d, a->w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
    SET(b, d, a->y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    SET(b, d, a->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    SET(b, d, a->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    FINALIZE(b, d);
    return d;
}

/* y = x + other, or y = relu(x) with other NULL, in which NaN stays NaN. */
static Descriptor make_pointwise(Builder *b, cudnnPointwiseMode_t mode, Descriptor x, Descriptor other, Descriptor y) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnNanPropagation_t nan_stays = CUDNN_PROPAGATE_NAN;
    Descriptor what = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    SET(b, what, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    SET(b, what, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    if (!other)
        SET(b, what, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, &nan_stays);
    FINALIZE(b, what);
    Descriptor d = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    SET(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &what);
    SET(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    if (other)
        SET(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other);
    SET(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    FINALIZE(b, d);
    return d;
}

/* The operations in the order of the data. Engines that need no compilation know convolution, residual, bias, ReLU in
 * this order, with the bias in the tensors' type. */
static int make_operations(Builder *b, const ConvPlan *conv, ConvPass pass, int64_t N, const CudnnVariant *v,
                           Descriptor out[OPERATIONS_MAX]) {
    const ConvGeometry *g = &conv->geometry;
    const int64_t image[4] = {N, g->C, g->H, g->W}, weights[4] = {g->K, g->C, g->R, g->R};
    const int64_t result[4] = {N, g->K, conv->P, conv->Q}, row[4] = {1, g->K, 1, 1};
    const int steps[] = {EPILOGUE_ADD, EPILOGUE_BIAS, EPILOGUE_RELU};
    int left = v->epilogue, count = 0;
    int64_t inner = 100; /* ids of what stays inside */
    Descriptor x = make_tensor(b, TENSOR_X, conv->type, image, false);
    Descriptor w = make_tensor(b, TENSOR_W, v->w_type, weights, false);
    Descriptor y = make_tensor(b, TENSOR_Y, conv->type, result, false);
    Descriptor at = left ? make_tensor(b, inner++, DTYPE_F32, result, true) : y;
    out[count++] = make_convolution(b, pass, make_window(b, g), x, w, at);
    for (int i = 0; i < 3; i++) {
        if (!(v->epilogue & steps[i]))
            continue;
        left &= ~steps[i];
        Descriptor next = left ? make_tensor(b, inner++, DTYPE_F32, result, true) : y;
        Descriptor other = steps[i] == EPILOGUE_ADD    ? make_tensor(b, TENSOR_RESIDUAL, conv->type, result, false)
                           : steps[i] == EPILOGUE_BIAS ? make_tensor(b, TENSOR_BIAS, v->bias_type, row, false)
                                                       : NULL;
        out[count++] = make_pointwise(b, other ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_RELU_FWD, at, other, next);
        at = next;
    }
    return count;
}

static Descriptor make_graph(Builder *b, const ConvPlan *conv, ConvPass pass, int64_t N, const CudnnVariant *v) {
    Descriptor operations[OPERATIONS_MAX];
    const int count = make_operations(b, conv, pass, N, v, operations);
    Descriptor graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (b->target->handle)
        SET(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->target->handle);
    SET(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    FINALIZE(b, graph);
    return graph;
}

/* At most `wanted` engine configurations for the graph, best first; returns how many. */
static int ask_heuristics(Builder *b, Descriptor graph, cudnnBackendHeurMode_t mode, int wanted, Descriptor *out) {
    Descriptor heuristics = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    SET(b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    SET(b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
#if CUDNN_VERSION >= 90800
    if (!b->target->handle)
        SET(b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b->target->properties);
#endif
    FINALIZE(b, heuristics);
    int made = 0;
    for (; made < wanted && b->status == CUDNN_STATUS_SUCCESS; made++) {
        out[made] = NULL;
        TRY(b, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &out[made]));
    }
    int64_t found = 0;
    TRY(b, cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, wanted,
                                    &found, out));
    const int kept = b->status != CUDNN_STATUS_SUCCESS ? 0 : found < wanted ? (int)found : wanted;
    while (made > kept)
        if (out[--made])
            cudnnBackendDestroyDescriptor(out[made]);
    return kept;
}

/* What an engine says of itself. */
typedef struct EngineNotes {
    bool exact; /* deterministic, and nothing in less than f32 but the products of bf16 numbers */
    bool tensor_cores;
    bool compiled; /* at run time */
} EngineNotes;

static EngineNotes notes_of(Builder *b, Descriptor engine, DType type) {
    cudnnBackendNumericalNote_t numerical[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t numbers = 0, behaviours = 0;
    TRY(b, cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &numbers, numerical));
    TRY(b, cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                    CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &behaviours, behaviour));
    /* More notes than this header knows: newer ones are among them. */
    EngineNotes out = {.exact = b->status == CUDNN_STATUS_SUCCESS && numbers <= CUDNN_NUMERICAL_NOTE_TYPE_COUNT &&
                                behaviours <= CUDNN_BEHAVIOR_NOTE_TYPE_COUNT};
    for (int64_t i = 0; out.exact && i < behaviours; i++)
        out.compiled = out.compiled || behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    for (int64_t i = 0; out.exact && i < numbers; i++) {
        out.tensor_cores = out.tensor_cores || numerical[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        out.exact = numerical[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP ||
                    (numerical[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && type == DTYPE_BF16);
    }
    return out;
}

/* What a search may accept. */
typedef struct Terms {
    cudnnBackendHeurMode_t mode;
    bool only_tensor_cores;
    bool compiled; /* engines whose kernels are compiled at run time, too */
    size_t workspace_limit;
} Terms;

/* Makes the plan of a configuration, which it then owns, when it keeps the terms. */
static bool take_config(const CudnnTarget *target, Descriptor config, DType type, const Terms *terms, CudnnPlan *out) {
    Builder b = {.target = target};
    int64_t count = 0, workspace = -1;
    Descriptor engine = make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), plan = NULL;
    TRY(&b, cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                     &engine));
    const EngineNotes notes = notes_of(&b, engine, type);
    if (notes.exact && (notes.tensor_cores || !terms->only_tensor_cores) && (!notes.compiled || terms->compiled)) {
        TRY(&b, cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan));
        SET(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
        if (target->handle)
            SET(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
#if CUDNN_VERSION >= 90800
        else
            SET(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target->properties);
#endif
        FINALIZE(&b, plan);
        TRY(&b, cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                         &workspace));
    }
    const bool taken =
        plan && b.status == CUDNN_STATUS_SUCCESS && workspace >= 0 && (uint64_t)workspace <= terms->workspace_limit;
    if (taken)
        *out = (CudnnPlan){.descriptor = plan,
                           .config = config,
                           .workspace = (size_t)workspace,
                           .tensor_cores = notes.tensor_cores,
                           .compiled = notes.compiled};
    else if (plan)
        cudnnBackendDestroyDescriptor(plan);
    free_made(&b);
    return taken;
}

static void explain(const Builder *b, int configs, char why[CUDNN_WHY]) {
    if (b->status == CUDNN_STATUS_SUCCESS) {
        snprintf(why, CUDNN_WHY,
                 configs ? "none of %d engine configurations is deterministic, exact enough and small enough in memory"
                         : "no engine knows it",
                 configs);
        return;
    }
    char last[256] = "";
    cudnnGetLastErrorString(last, sizeof last);
    snprintf(why, CUDNN_WHY, "%.160s: %s: %s", b->failed, cudnnGetErrorString(b->status), last);
}

static bool search(const CudnnTarget *target, const ConvPlan *conv, ConvPass pass, int64_t N,
                   const CudnnVariant *variant, const Terms *terms, CudnnPlan *out, char why[CUDNN_WHY]) {
    Builder b = {.target = target};
    Descriptor configs[CONFIGS_MAX];
    const int count = ask_heuristics(&b, make_graph(&b, conv, pass, N, variant), terms->mode,
                                     conv->type == DTYPE_BF16 ? CONFIGS_BF16 : CONFIGS_F32, configs);
    explain(&b, count, why);
    bool found = false;
    for (int i = 0; i < count; i++) {
        if (!found && take_config(target, configs[i], conv->type, terms, out))
            found = true;
        else
            cudnnBackendDestroyDescriptor(configs[i]);
    }
    free_made(&b);
    out->variant = *variant;
    return found;
}

int cudnn_variants(ConvPass pass, DType type, int epilogue, CudnnVariant out[2]) {
    const CudnnVariant bare = {.epilogue = 0, .w_type = type, .bias_type = type};
    int count = 0;
    if (pass == CONV_FORWARD && epilogue & EPILOGUE_BIAS) {
        out[count] = bare;
        out[count++].epilogue = epilogue;
    }
    if (pass == CONV_BACKWARD_WEIGHT && type == DTYPE_BF16) {
        out[count] = bare;
        out[count++].w_type = DTYPE_F32;
    }
    out[count++] = bare;
    return count;
}

int cudnn_plan_find(const CudnnTarget *target, const ConvPlan *conv, ConvPass pass, int64_t N,
                    const CudnnVariant *variants, int count, size_t workspace_limit, CudnnPlan *out,
                    char why[CUDNN_WHY]) {
    /* Tensor cores first for bf16: the heuristics have been seen to put engines without them, which transpose images
     * to and fro, before those with them. */
    const Terms terms[] = {{CUDNN_HEUR_MODE_A, conv->type == DTYPE_BF16, false, workspace_limit},
                           {CUDNN_HEUR_MODE_A, false, false, workspace_limit},
                           {CUDNN_HEUR_MODE_A, false, true, workspace_limit},
                           {CUDNN_HEUR_MODE_FALLBACK, false, true, workspace_limit}};
    for (size_t t = 0; t < sizeof terms / sizeof *terms; t++)
        for (int v = 0; v < count; v++)
            if (search(target, conv, pass, N, &variants[v], &terms[t], out, why))
                return 1;
    *out = (CudnnPlan){0};
    return 0;
}

void cudnn_plan_free(CudnnPlan *plan) {
    if (plan->descriptor) {
        cudnnBackendDestroyDescriptor(plan->descriptor);
        cudnnBackendDestroyDescriptor(plan->config);
    }
    *plan = (CudnnPlan){0};
}
