/* cuDNN's graph interface for convolutions, on the stream of the handle.
 *
 * It is strict: an attribute of the wrong type or count, one that is missing, a descriptor that is not finalized, an
 * unaligned or unnamed tensor are errors. Heuristics offer engines of every kind, those that must not be taken first;
 * such an engine writes NaN. What an engine calls its workspace it fills with NaN too. Fused epilogues are known in one
 * order, convolution, residual, bias, ReLU, with the bias in the tensors' type, and weight gradients in the tensors'
 * type, as in cuDNN 9.19 where kernels are not to be compiled at run time. */
#include "cudnn_internal.h"

#include <stdio.h>

struct SimtCudnnHandle {
    cudaStream_t stream;
};

namespace {

struct Descriptor {
    Ref object;
};

SimtCudnn offered = SIMT_CUDNN_ALL;
SimtCudnnCounters counters;
std::string last_error;

cudnnStatus_t fail(cudnnStatus_t status, const std::string &why) {
    last_error = why;
    return status;
}

/* ---- which attributes there are ---- */

struct Attribute {
    cudnnBackendDescriptorType_t owner;
    cudnnBackendAttributeType_t type;
    int64_t least, most;
    bool required;
};

const std::map<int, Attribute> &attributes() {
    static const int64_t MANY = 16;
    static const std::map<int, Attribute> table = {
        {CUDNN_ATTR_TENSOR_UNIQUE_ID, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 1, 1, true}},
        {CUDNN_ATTR_TENSOR_DATA_TYPE, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, 1, true}},
        {CUDNN_ATTR_TENSOR_DIMENSIONS, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 4, 4, true}},
        {CUDNN_ATTR_TENSOR_STRIDES, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 4, 4, true}},
        {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 1, 1, true}},
        {CUDNN_ATTR_TENSOR_IS_VIRTUAL, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_BOOLEAN, 1, 1, false}},
        {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 1, 1, true}},
        {CUDNN_ATTR_CONVOLUTION_COMP_TYPE, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, 1, true}},
        {CUDNN_ATTR_CONVOLUTION_CONV_MODE,
         {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_CONVOLUTION_MODE, 1, 1, true}},
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 2, 2, true}},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 2, 2, true}},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 2, 2, true}},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 2, 2, true}},
        {CUDNN_ATTR_POINTWISE_MODE, {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_POINTWISE_MODE, 1, 1, true}},
        {CUDNN_ATTR_POINTWISE_MATH_PREC, {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, 1, true}},
        {CUDNN_ATTR_POINTWISE_NAN_PROPAGATION,
         {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_NAN_PROPOGATION, 1, 1, false}},
        {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
         {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true}},
        {CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
         {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true}},
        {CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
         {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, false}},
        {CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
         {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true}},
        {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_TYPE_HANDLE, 1, 1, true}},
        {CUDNN_ATTR_OPERATIONGRAPH_OPS,
         {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, MANY, true}},
        {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
         {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true}},
        {CUDNN_ATTR_ENGINEHEUR_MODE, {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_TYPE_HEUR_MODE, 1, 1, true}},
        {CUDNN_ATTR_EXECUTION_PLAN_HANDLE, {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_TYPE_HANDLE, 1, 1, true}},
        {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
         {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true}},
        {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_INT64, 1, MANY, true}},
        {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
         {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR, 1, MANY, true}},
        {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR, 1, 1, true}},
    };
    return table;
}

bool find_attribute(int name, Attribute *out) {
    auto found = attributes().find(name);
    if (found != attributes().end()) {
        *out = found->second;
        return true;
    }
    for (const Pass &p : passes)
        if (name >= p.first && name < p.first + PARTS) {
            *out = {p.owner, name - p.first >= ALPHA ? CUDNN_TYPE_FLOAT : CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1, true};
            return true;
        }
    return false;
}

size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_INT64:
        return sizeof(int64_t);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    default:
        return 4; /* enumerations and floats */
    }
}

/* ---- finalizing ---- */

cudnnStatus_t check_tensor(const Ref &t) {
    const int64_t n = dim(t, 0), c = dim(t, 1), h = dim(t, 2), w = dim(t, 3), want[4] = {h * w * c, 1, w * c, c};
    for (size_t i = 0; i < 4; i++)
        if (get<int64_t>(t, CUDNN_ATTR_TENSOR_STRIDES, i) != want[i] || n < 1 || c < 1 || h < 1 || w < 1)
            return fail(CUDNN_STATUS_BAD_PARAM, "a tensor is not dense with channels last");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_convolution(const Ref &op, const Pass *pass) {
    const Ref x = child(op, pass->first + X), w = child(op, pass->first + W), y = child(op, pass->first + Y);
    const Ref window = child(op, pass->first + WINDOW);
    bool fits = dim(x, 0) == dim(y, 0) && dim(x, 1) == dim(w, 1) && dim(w, 0) == dim(y, 1) &&
                get<int64_t>(window, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) == 2 &&
                get<cudnnConvolutionMode_t>(window, CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION;
    for (size_t i = 0; i < 2; i++) {
        const int64_t padded = dim(x, 2 + i) + get<int64_t>(window, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) +
                               get<int64_t>(window, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
        fits = fits && get<int64_t>(window, CUDNN_ATTR_CONVOLUTION_DILATIONS, i) == 1 &&
               (padded - dim(w, 2 + i)) / get<int64_t>(window, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i) + 1 ==
                   dim(y, 2 + i);
    }
    return fits ? CUDNN_STATUS_SUCCESS : fail(CUDNN_STATUS_BAD_PARAM, "shapes of a convolution do not fit");
}

cudnnStatus_t check_pack(const Ref &pack) {
    return pack->values.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count ==
                   pack->values.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count
               ? CUDNN_STATUS_SUCCESS
               : fail(CUDNN_STATUS_BAD_PARAM, "as many ids as pointers, please");
}

cudnnStatus_t check_required(const Ref &o) {
    for (int name = 0; name <= CUDNN_ATTR_VARIANT_PACK_WORKSPACE; name++) {
        Attribute a;
        if (find_attribute(name, &a) && a.owner == o->type && a.required && !has(o, name))
            return fail(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " is missing");
    }
    return CUDNN_STATUS_SUCCESS;
}

/* EXCON_SIMT_CUDNN_PLANS: a file that gets a line for every plan, its number of rows. */
void note_plan(const Ref &plan) {
    counters.plans++;
    const char *path = getenv("EXCON_SIMT_CUDNN_PLANS");
    FILE *file = path ? fopen(path, "a") : nullptr;
    if (!file)
        return;
    Graph graph;
    simt_cudnn_understand(
        child(child(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), &graph);
    fprintf(file, "%lld\n", static_cast<long long>(dim(graph.x, 0)));
    fclose(file);
}

Descriptor *descriptor_of(cudnnBackendDescriptor_t d) {
    return static_cast<Descriptor *>(d);
}

} // namespace

/* ---- the interface ---- */

extern "C" void simt_cudnn_offer(SimtCudnn what) {
    offered = what;
}

extern "C" SimtCudnnCounters simt_cudnn_counters(void) {
    return counters;
}

size_t cudnnGetVersion(void) {
    return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    static const char *const names[] = {"success", "not initialized", "bad parameter", "not supported", "internal"};
    return names[status];
}

void cudnnGetLastErrorString(char *message, size_t size) {
    snprintf(message, size, "%s", last_error.c_str());
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    if (offered == SIMT_CUDNN_BROKEN)
        return fail(CUDNN_STATUS_NOT_INITIALIZED, "it was told to fail");
    *handle = new SimtCudnnHandle{nullptr};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
    Descriptor *d = new Descriptor{std::make_shared<SimtObject>()};
    d->object->type = type;
    *out = d;
    counters.descriptors++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
    delete descriptor_of(d);
    counters.descriptors--;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    const Ref &o = descriptor_of(d)->object;
    Attribute a;
    if (o->finalized || !find_attribute(name, &a) || a.owner != o->type || a.type != type || count < a.least ||
        count > a.most || !values)
        return fail(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " cannot be set like this");
    const size_t bytes = size_of(type) * (size_t)count;
    SimtValue v = {type, count, std::vector<unsigned char>(bytes), {}};
    memcpy(v.bytes.data(), values, bytes);
    for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++) {
        const Ref &other = descriptor_of(static_cast<const cudnnBackendDescriptor_t *>(values)[i])->object;
        if (!other->finalized)
            return fail(CUDNN_STATUS_BAD_PARAM, "a descriptor is used before it is finalized");
        v.objects.push_back(other);
    }
    o->values[name] = v;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
    const Ref &o = descriptor_of(d)->object;
    cudnnStatus_t status = o->finalized ? fail(CUDNN_STATUS_BAD_PARAM, "it is finalized already") : check_required(o);
    if (status == CUDNN_STATUS_SUCCESS && o->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        status = check_tensor(o);
    if (status == CUDNN_STATUS_SUCCESS && pass_of(o->type))
        status = check_convolution(o, pass_of(o->type));
    if (status == CUDNN_STATUS_SUCCESS && o->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        Graph graph;
        const std::string why = simt_cudnn_understand(o, &graph);
        if (!why.empty())
            status = fail(CUDNN_STATUS_BAD_PARAM, why);
    }
    if (status == CUDNN_STATUS_SUCCESS && o->type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        status = check_pack(o);
    if (status == CUDNN_STATUS_SUCCESS && o->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        status = simt_any_capturing() ? fail(CUDNN_STATUS_NOT_SUPPORTED, "plans are not made during a capture")
                                      : CUDNN_STATUS_SUCCESS;
    if (status == CUDNN_STATUS_SUCCESS && o->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        note_plan(o);
    o->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

namespace {

/* Configurations are handed out in descriptors that the caller made. */
cudnnStatus_t hand_out(const Ref &heuristics, int64_t wanted, int64_t *count, cudnnBackendDescriptor_t *out) {
    const Ref &graph_object = child(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    Graph graph;
    simt_cudnn_understand(graph_object, &graph);
    *count = 0;
    const auto mode = get<cudnnBackendHeurMode_t>(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE);
    for (int engine : simt_cudnn_engines(mode, graph, offered)) {
        if (*count == wanted)
            break;
        const Ref &config = descriptor_of(out[(*count)++])->object;
        if (config->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || config->finalized)
            return fail(CUDNN_STATUS_BAD_PARAM, "configurations go into descriptors of their type");
        config->finalized = true;
        config->engine = engine;
        config->values[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] = {
            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, std::vector<unsigned char>(sizeof(void *)), {graph_object}};
    }
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> cudnnStatus_t answer(const std::vector<T> &values, int64_t wanted, int64_t *count, void *out) {
    *count = (int64_t)values.size();
    for (size_t i = 0; i < values.size() && (int64_t)i < wanted; i++)
        static_cast<T *>(out)[i] = values[i];
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *out) {
    const Ref &o = descriptor_of(d)->object;
    if (!o->finalized)
        return fail(CUDNN_STATUS_BAD_PARAM, "a descriptor is read before it is finalized");
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return hand_out(o, wanted, count, static_cast<cudnnBackendDescriptor_t *>(out));
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE && type == CUDNN_TYPE_BACKEND_DESCRIPTOR && wanted == 1) {
        const Ref &engine = descriptor_of(*static_cast<cudnnBackendDescriptor_t *>(out))->object;
        engine->finalized = true;
        engine->engine = o->engine;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && type == CUDNN_TYPE_NUMERICAL_NOTE)
        return answer(simt_cudnn_engine(o->engine).notes, wanted, count, out);
    if (name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE && type == CUDNN_TYPE_BEHAVIOR_NOTE)
        return answer(std::vector<cudnnBackendBehaviorNote_t>(simt_cudnn_engine(o->engine).compiled ? 1 : 0,
                                                              CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION),
                      wanted, count, out);
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && type == CUDNN_TYPE_INT64) {
        const int engine = child(o, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine;
        return answer(std::vector<int64_t>{simt_cudnn_engine(engine).workspace}, wanted, count, out);
    }
    return fail(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " cannot be read like this");
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    const Ref &p = descriptor_of(plan)->object, &v = descriptor_of(pack)->object;
    if (!p->finalized || !v->finalized || p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return fail(CUDNN_STATUS_BAD_PARAM, "a finalized plan and a finalized variant pack are needed");
    const Ref &config = child(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    Graph graph;
    simt_cudnn_understand(child(config, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), &graph);
    Pointers pointers;
    for (size_t i = 0; i < (size_t)v->values.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count; i++)
        pointers[get<int64_t>(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)] =
            get<void *>(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
    for (const Ref &t : {graph.x, graph.w, graph.result, graph.residual, graph.bias}) {
        if (!t)
            continue;
        if (!pointers.count(id_of(t)))
            return fail(CUDNN_STATUS_BAD_PARAM, "the variant pack lacks tensor " + std::to_string(id_of(t)));
        if (reinterpret_cast<uintptr_t>(pointers[id_of(t)]) %
            static_cast<uintptr_t>(get<int64_t>(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)))
            return fail(CUDNN_STATUS_BAD_PARAM, "a tensor is not aligned as promised");
    }
    void *workspace = get<void *>(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    const int engine = config->engine;
    if (!workspace && simt_cudnn_engine(engine).workspace > 0)
        return fail(CUDNN_STATUS_BAD_PARAM, "a workspace is needed");
    const SimtCudnn what = offered;
    counters.executions++;
    simt_enqueue(handle->stream, [=]() { simt_cudnn_run(graph, engine, what, pointers, workspace); });
    return CUDNN_STATUS_SUCCESS;
}
