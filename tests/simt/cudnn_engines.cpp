/* What operation graphs of the stand-in for cuDNN mean, and the engines that compute them. */
#include <dnnl.h>

#include <cmath>

#include "cudnn_internal.h"
#include "include/cuda_bf16.h"

namespace {

bool same_dims(const Ref &a, const Ref &b) {
    for (size_t i = 0; i < 4; i++)
        if (dim(a, i) != dim(b, i))
            return false;
    return true;
}

} // namespace

/* The conv first, then pointwise operations each taking the one before's result. Empty when something does not fit. */
std::string simt_cudnn_understand(const Ref &graph, Graph *out) {
    const SimtValue &ops = graph->values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const Ref &conv = ops.objects[0];
    const Pass *pass = pass_of(conv->type);
    if (!pass)
        return "the first operation is no convolution";
    out->pass = (int)(pass - passes);
    out->window = child(conv, pass->first + WINDOW);
    out->x = child(conv, pass->first + X);
    out->w = child(conv, pass->first + W);
    out->result = out->y = child(conv, pass->first + Y);
    if (get<float>(conv, pass->first + ALPHA) != 1.0f || get<float>(conv, pass->first + BETA) != 0.0f)
        return "alpha and beta are 1 and 0 here";
    for (size_t i = 1; i < ops.objects.size(); i++) {
        const Ref &op = ops.objects[i];
        if (op->type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            return "a second convolution";
        const Ref what = child(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        const bool add = get<cudnnPointwiseMode_t>(what, CUDNN_ATTR_POINTWISE_MODE) == CUDNN_POINTWISE_ADD;
        if (!is_virtual(out->result) || child(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC) != out->result)
            return "an operation does not continue the one before";
        if (add != has(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC))
            return "an addition needs two inputs, and ReLU one";
        out->result = child(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
        if (!same_dims(out->result, out->y))
            return "shapes differ along the graph";
        if (!add) {
            out->relu = true;
            out->relu_keeps_nan =
                has(what, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION) &&
                get<cudnnNanPropagation_t>(what, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION) == CUDNN_PROPAGATE_NAN;
        } else if (same_dims(child(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC), out->y)) {
            out->known = out->known && !out->bias;
            out->residual = child(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        } else {
            out->bias = child(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
            out->known = out->known && is_bf16(out->bias) == is_bf16(out->x);
        }
        out->known = out->known && (!out->relu || i + 1 == ops.objects.size());
    }
    if (is_virtual(out->result))
        return "the result stays inside the graph";
    out->known =
        out->known && (ops.objects.size() == 1 || (out->bias && out->pass == 0)) && is_bf16(out->w) == is_bf16(out->x);
    return "";
}

namespace {

/* Those that must not be taken before those that may. */
const Engine engines[] = {
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, false, 0},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, false, 0},
    {{CUDNN_NUMERICAL_NOTE_WINOGRAD}, false, 0},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, false, (int64_t)1 << 40},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, true, 0},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, false, 1000},
    {{CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, false, 300},
    {{}, true, 0},
};
enum { COMPILED_WITH_TENSOR_CORES = 4, WITH_TENSOR_CORES, WITHOUT_TENSOR_CORES, COMPILED, ENGINES };

bool offers(int engine, cudnnBackendHeurMode_t mode, const Graph &graph, SimtCudnn offered) {
    if (offered == SIMT_CUDNN_NOTHING)
        return false;
    if (offered == SIMT_CUDNN_COMPILED || !graph.known)
        return engine == COMPILED;
    if (mode == CUDNN_HEUR_MODE_FALLBACK)
        return engine == WITHOUT_TENSOR_CORES;
    return offered == SIMT_CUDNN_ALL && engine != COMPILED;
}

/* An engine that may be taken for such tensors computes what it should. */
bool computes(int engine, const Graph &graph, SimtCudnn offered) {
    return engine == COMPILED || (engine == WITH_TENSOR_CORES && is_bf16(graph.x)) ||
           (engine == WITHOUT_TENSOR_CORES && (!is_bf16(graph.x) || offered == SIMT_CUDNN_FALLBACK));
}

std::vector<float> widen(const void *from, bool bf16, size_t n) {
    std::vector<float> out(n);
    for (size_t i = 0; i < n; i++)
        out[i] =
            bf16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(from)[i]) : static_cast<const float *>(from)[i];
    return out;
}

void narrow(const std::vector<float> &values, bool bf16, void *to) {
    for (size_t i = 0; i < values.size(); i++)
        if (bf16)
            static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16_rn(values[i]);
        else
            static_cast<float *>(to)[i] = values[i];
}

size_t elements(const Ref &tensor) {
    return (size_t)(dim(tensor, 0) * dim(tensor, 1) * dim(tensor, 2) * dim(tensor, 3));
}

/* Every tap of the window is a matrix product over all output pixels: rows of x under the tap, times w's slice. */
void convolve(const Graph &g, std::vector<float> &x, std::vector<float> &w, std::vector<float> &y) {
    const int64_t N = dim(g.x, 0), C = dim(g.x, 1), H = dim(g.x, 2), width = dim(g.x, 3);
    const int64_t K = dim(g.y, 1), P = dim(g.y, 2), Q = dim(g.y, 3), R = dim(g.w, 2);
    const int64_t stride = get<int64_t>(g.window, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
                  pad = get<int64_t>(g.window, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), rows = N * P * Q;
    std::vector<float> tap((size_t)(rows * C));
    for (int64_t r = 0; r < R; r++)
        for (int64_t s = 0; s < R; s++) {
            std::vector<int64_t> at((size_t)rows); /* pixel of x, or -1 */
            for (int64_t row = 0; row < rows; row++) {
                const int64_t h = row / Q % P * stride - pad + r, v = row % Q * stride - pad + s;
                at[(size_t)row] =
                    h >= 0 && h < H && v >= 0 && v < width ? (row / Q / P * H + h) * width + v : (int64_t)-1;
            }
            float *slice = w.data() + (r * R + s) * C;
            const int M = (int)rows, k = (int)K, c = (int)C, ld = (int)(R * R * C);
            if (g.pass != 1)
                for (int64_t row = 0; row < rows; row++)
                    for (int64_t i = 0; i < C; i++)
                        tap[(size_t)(row * C + i)] = at[(size_t)row] < 0 ? 0.0f : x[(size_t)(at[(size_t)row] * C + i)];
            if (g.pass == 0)
                dnnl_sgemm('N', 'T', M, k, c, 1, tap.data(), c, slice, ld, 1, y.data(), k);
            else if (g.pass == 2)
                dnnl_sgemm('T', 'N', k, c, M, 1, y.data(), k, tap.data(), c, 0, slice, ld);
            else
                dnnl_sgemm('N', 'N', M, c, k, 1, y.data(), k, slice, ld, 0, tap.data(), c);
            for (int64_t row = 0; g.pass == 1 && row < rows; row++)
                for (int64_t i = 0; at[(size_t)row] >= 0 && i < C; i++)
                    x[(size_t)(at[(size_t)row] * C + i)] += tap[(size_t)(row * C + i)];
        }
}

} // namespace

const Engine &simt_cudnn_engine(int index) {
    return engines[index];
}

std::vector<int> simt_cudnn_engines(cudnnBackendHeurMode_t mode, const Graph &graph, SimtCudnn offered) {
    std::vector<int> out;
    for (int e = 0; e < ENGINES; e++)
        if (offers(e, mode, graph, offered))
            out.push_back(e);
    return out;
}

void simt_cudnn_run(const Graph &g, int engine, SimtCudnn offered, const Pointers &pointers, void *workspace) {
    const Ref &to = g.pass == 0 ? g.result : g.pass == 1 ? g.x : g.w;
    if (workspace)
        memset(workspace, 0xFF, (size_t)engines[engine].workspace);
    if (!computes(engine, g, offered)) {
        narrow(std::vector<float>(elements(to), NAN), is_bf16(to), pointers.at(id_of(to)));
        return;
    }
    auto read = [&](const Ref &t, bool wanted) {
        return wanted ? widen(pointers.at(id_of(t)), is_bf16(t), elements(t)) : std::vector<float>(elements(t));
    };
    std::vector<float> x = read(g.x, g.pass != 1), w = read(g.w, g.pass != 2), y = read(g.y, g.pass != 0);
    convolve(g, x, w, y);
    if (g.residual) {
        std::vector<float> other = read(g.residual, true);
        for (size_t i = 0; i < y.size(); i++)
            y[i] += other[i];
    }
    if (g.bias) {
        std::vector<float> other = read(g.bias, true);
        for (size_t i = 0; i < y.size(); i++)
            y[i] += other[i % other.size()];
    }
    if (g.relu)
        for (float &v : y)
            v = v > 0 || (std::isnan(v) && g.relu_keeps_nan) ? v : 0;
    narrow(g.pass == 0 ? y : g.pass == 1 ? x : w, is_bf16(to), pointers.at(id_of(to)));
}
