#include "kernels/cuda/device/graphs.h"

#include <stdlib.h>

#include "kernels/contract/graph.h"
#include "kernels/cuda/device/cuda_device.h"

enum { GRAPHS_KEPT = 8 };

typedef struct Recording {
    uint64_t key;
    uint64_t used;        /* 0: free slot */
    cudaGraphExec_t exec; /* NULL: met once */
} Recording;

struct CudaGraphs {
    Recording kept[GRAPHS_KEPT];
    uint64_t clock;
    Recording *recording; /* the capture under way */
};

CudaGraphs *graphs_new(void) {
    return calloc(1, sizeof(CudaGraphs));
}

static void drop(Recording *r) {
    if (r->exec)
        cudaGraphExecDestroy(r->exec);
    *r = (Recording){0};
}

void graphs_forget(CudaGraphs *graphs) {
    for (int i = 0; i < GRAPHS_KEPT; i++)
        drop(&graphs->kept[i]);
}

int graphs_any(const CudaGraphs *graphs) {
    for (int i = 0; i < GRAPHS_KEPT; i++)
        if (graphs->kept[i].exec)
            return 1;
    return 0;
}

void graphs_free(CudaGraphs *graphs) {
    graphs_forget(graphs);
    free(graphs);
}

int cuda_capturing(const Device *device) {
    return cuda_of(device)->graphs->recording != NULL;
}

void cuda_forget_recordings(Device *device) {
    graphs_forget(cuda_of(device)->graphs);
}

static Recording *find(CudaGraphs *graphs, uint64_t key) {
    Recording *oldest = graphs->kept;
    for (int i = 0; i < GRAPHS_KEPT; i++) {
        Recording *r = &graphs->kept[i];
        if (r->used && r->key == key)
            return r;
        if (r->used < oldest->used)
            oldest = r;
    }
    drop(oldest);
    oldest->key = key;
    return oldest;
}

static int graph_begin_cuda(Device *device, uint64_t key) {
    CudaGraphs *graphs = cuda_of(device)->graphs;
    Recording *r = find(graphs, key);
    const int met = r->used != 0;
    r->used = ++graphs->clock;
    if (r->exec) {
        CUDA_CHECK(device, cudaGraphLaunch(r->exec, cuda_stream(device)));
        return 0;
    }
    if (met) {
        CUDA_CHECK(device, cudaStreamBeginCapture(cuda_stream(device), cudaStreamCaptureModeThreadLocal));
        graphs->recording = r;
    }
    return 1;
}

static void graph_end_cuda(Device *device) {
    CudaGraphs *graphs = cuda_of(device)->graphs;
    Recording *r = graphs->recording;
    if (!r)
        return;
    cudaGraph_t graph = NULL;
    graphs->recording = NULL;
    CUDA_CHECK(device, cudaStreamEndCapture(cuda_stream(device), &graph));
    CUDA_CHECK(device, cudaGraphInstantiate(&r->exec, graph, 0));
    CUDA_CHECK(device, cudaGraphDestroy(graph));
    CUDA_CHECK(device, cudaGraphLaunch(r->exec, cuda_stream(device)));
}

const GraphOps graph_ops_cuda = {
    .begin = graph_begin_cuda,
    .end = graph_end_cuda,
};
