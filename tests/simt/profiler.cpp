/* The profiler interface of the CUDA runtime, as far as the program calls it: says how many kernels ran between the two
 * marks, and whether as launches of recorded graphs. */
#include <stdio.h>

#include "internal.h"
#include "simt.h"

namespace {
SimtCounters begin;
}

extern "C" cudaError_t cudaProfilerStart() {
    begin = simt_counters();
    return cudaSuccess;
}

extern "C" cudaError_t cudaProfilerStop() {
    const SimtCounters now = simt_counters();
    fprintf(stderr, "stand-in GPU: %llu kernels between the profiler's marks, %llu graphs\n",
            now.kernels - begin.kernels, now.graph_launches - begin.graph_launches);
    return cudaSuccess;
}
