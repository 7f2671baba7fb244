/* Stand-in for asynchronous copies from global to shared memory. A copy happens when its thread waits for it, not
 * before, so that a missing wait is seen. See tests/simt/async_copy.cpp. */
#ifndef SIMT_CUDA_PIPELINE_H
#define SIMT_CUDA_PIPELINE_H

#include "cuda_runtime.h"

/* bytes: 4, 8 or 16, which both addresses are multiples of. */
void __pipeline_memcpy_async(void *shared, const void *global, size_t bytes);
/* Closes a group of copies. */
void __pipeline_commit();
/* Waits for all groups of this thread but the last `prior`. */
void __pipeline_wait_prior(size_t prior);

#endif
