/* Recordings of captures of launches (CUDA graphs), by key. See contract/graph.h.
 *
 * A key is issued plainly when it is met first, which also sizes scratch memory and lets libraries choose their ways;
 * it is recorded the second time and replayed from then on. GRAPHS_KEPT recordings are kept, the least recently used
 * makes room. */
#ifndef EXCON_KERNELS_CUDA_GRAPHS_H
#define EXCON_KERNELS_CUDA_GRAPHS_H

typedef struct CudaGraphs CudaGraphs;

/* NULL when memory is out. */
CudaGraphs *graphs_new(void);
void graphs_free(CudaGraphs *graphs);

/* 1 when anything is recorded. */
int graphs_any(const CudaGraphs *graphs);

/* Drops all recordings: an address in them has changed. */
void graphs_forget(CudaGraphs *graphs);

#endif
