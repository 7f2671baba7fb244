/* What tests may set of the stand-in GPU, besides running it. Exported by the backend library that is built on it. */
#ifndef SIMT_SIMT_H
#define SIMT_SIMT_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SimtOrder {
    SIMT_FORWARD = 0, /* threads of a block by rank; streams as they were created */
    SIMT_REVERSE = 1,
    SIMT_SHUFFLED = 2 /* a new permutation after every barrier; also of the blocks */
} SimtOrder;

/* Order of threads, blocks and streams from now on. Results that depend on it are a race. The environment variable
 * EXCON_SIMT_ORDER (forward, reverse, or a seed for shuffled) sets it at start. */
void simt_set_order(SimtOrder order, unsigned seed);

/* Kernels, fibers' turns, and barriers so far: what a test may want to see move. */
typedef struct SimtCounters {
    unsigned long long kernels, blocks, switches, captured, graph_launches;
} SimtCounters;
SimtCounters simt_counters(void);

/* What the stand-in for cuDNN offers from now on. */
typedef enum SimtCudnn {
    SIMT_CUDNN_ALL = 0,      /* engines of every kind, see tests/simt/cudnn.cpp */
    SIMT_CUDNN_FALLBACK = 1, /* only what heuristics name as a last resort */
    SIMT_CUDNN_COMPILED = 2, /* only an engine that is compiled at run time */
    SIMT_CUDNN_NOTHING = 3,  /* no engine for anything */
    SIMT_CUDNN_BROKEN = 4    /* no handle */
} SimtCudnn;
void simt_cudnn_offer(SimtCudnn what);

typedef struct SimtCudnnCounters {
    long long descriptors;                /* alive now */
    unsigned long long plans, executions; /* so far */
} SimtCudnnCounters;
SimtCudnnCounters simt_cudnn_counters(void);

/* Calls of NCCL's functions so far, those that ask for its version or the text of an error aside. */
unsigned long long simt_nccl_calls(void);

#ifdef __cplusplus
}
#endif
#endif
