/* Shared by the files of the stand-in GPU. */
#ifndef SIMT_INTERNAL_H
#define SIMT_INTERNAL_H

#include <functional>

#include "include/cuda_runtime.h"
#include "simt.h"

/* Runs a whole grid now. */
void simt_run_grid(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread);

/* Gives a stream something to do when its turn comes: for the stand-ins of libraries. */
void simt_enqueue(cudaStream_t stream, std::function<void()> work);

/* The same for work that other processes wait for: it runs now, after what stands before it on the stream; recorded
 * work runs at each launch. So processes that call their collectives in the same order never wait in a circle, one for
 * work that another has queued and the other for a call that the first has not come to. */
void simt_enqueue_prompt(cudaStream_t stream, std::function<void()> work);

/* Whether work given to the stream now is recorded. */
bool simt_capturing(cudaStream_t stream);
/* Whether a capture is under way on any stream; it goes on. */
bool simt_any_capturing();

SimtOrder simt_order();
void simt_stream_counters(SimtCounters *counters);

#endif
