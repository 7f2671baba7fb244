/* Shared by the two files of the stand-in for cuDNN: descriptors as they were set (cudnn.cpp), and what the graphs they
 * make up mean (cudnn_engines.cpp). */
#ifndef SIMT_CUDNN_INTERNAL_H
#define SIMT_CUDNN_INTERNAL_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "include/cudnn.h"
#include "internal.h"

struct SimtValue {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<unsigned char> bytes;
    std::vector<std::shared_ptr<struct SimtObject>> objects; /* of descriptors: what they were when set */
};

struct SimtObject {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, SimtValue> values;
    int engine = -1; /* of configurations and engines */
};

typedef std::shared_ptr<SimtObject> Ref;

/* The operation of a pass: its attributes follow each other as window, x, w, y, alpha, beta. */
struct Pass {
    cudnnBackendDescriptorType_t owner;
    int first;
};
static const Pass passes[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
};
enum { WINDOW, X, W, Y, ALPHA, BETA, PARTS };

static inline const Pass *pass_of(cudnnBackendDescriptorType_t owner) {
    for (const Pass &p : passes)
        if (p.owner == owner)
            return &p;
    return nullptr;
}

static inline bool has(const Ref &o, int name) {
    return o->values.count(name) != 0;
}

template <typename T> static inline T get(const Ref &o, int name, size_t index = 0) {
    T out;
    memcpy(&out, o->values.at(name).bytes.data() + index * sizeof(T), sizeof(T));
    return out;
}

static inline const Ref &child(const Ref &o, int name, size_t index = 0) {
    return o->values.at(name).objects.at(index);
}

static inline bool is_virtual(const Ref &tensor) {
    return has(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL) && get<bool>(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}

static inline int64_t id_of(const Ref &tensor) {
    return get<int64_t>(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID);
}

static inline int64_t dim(const Ref &tensor, size_t i) {
    return get<int64_t>(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
}

static inline bool is_bf16(const Ref &tensor) {
    return get<cudnnDataType_t>(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16;
}

/* An operation graph, understood. */
struct Graph {
    int pass; /* 0 forward, 1 backward data, 2 backward filter */
    Ref window, x, w, y;
    Ref residual, bias, result; /* NULL, or of the fused epilogue; result is y where there is none */
    bool relu = false, relu_keeps_nan = false;
    bool known = true; /* by an engine whose kernel exists */
};

/* Empty, or what does not fit. */
std::string simt_cudnn_understand(const Ref &graph, Graph *out);

struct Engine {
    std::vector<cudnnBackendNumericalNote_t> notes;
    bool compiled; /* at run time */
    int64_t workspace;
};
const Engine &simt_cudnn_engine(int index);

/* The engines for a graph, those that must not be taken first. */
std::vector<int> simt_cudnn_engines(cudnnBackendHeurMode_t mode, const Graph &graph, SimtCudnn offered);

typedef std::map<int64_t, void *> Pointers;

/* Computes the graph now; workspace as large as the engine says. */
void simt_cudnn_run(const Graph &graph, int engine, SimtCudnn offered, const Pointers &pointers, void *workspace);

#endif
