/* What the CPU backend's files share: the device's state, its scratch memory, and how work is cut into parts.
 *
 * Every operator runs with OpenMP on device->threads threads, returns when its work is done, and gives the same bits
 * again for the same inputs and thread count.
 *
 * A loop over n items is cut into `device->threads` contiguous parts by part_of(), never by the OpenMP scheduler, so a
 * reduction that adds the parts in order gives the same bits for the same thread count. Small problems run on one
 * thread; that choice depends on the problem's size alone. */
#ifndef EXCON_KERNELS_CPU_DEVICE_H
#define EXCON_KERNELS_CPU_DEVICE_H

#include <dnnl.h>

#include "kernels/device.h"

enum { SCRATCH_PARTS = 6 };

typedef struct ScratchPart {
    void *data;
    size_t bytes;
} ScratchPart;

typedef struct CpuDevice {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratch; /* one operator's temporaries at a time */
    size_t scratch_bytes;
    ScratchPart parts[SCRATCH_PARTS]; /* as cpu_scratch_parts cut it last */
    double stamps[DEVICE_STAMPS];     /* seconds */
} CpuDevice;

static inline CpuDevice *cpu_of(Device *device) {
    return device->impl;
}

/* The device's scratch, at least `bytes` long and 64-byte aligned. It grows at the first call that needs more and is
 * overwritten by the next operator. Ends the job when memory is out. */
void *cpu_scratch(Device *device, size_t bytes);

/* The same scratch cut into `count` (up to SCRATCH_PARTS) parts of bytes[i] each, at page boundaries, with at least a
 * cache line of unused bytes behind each: a test can fill those and see what wrote into them. */
void cpu_scratch_parts(Device *device, int count, const size_t *bytes, void **parts);

/* c = op(a) op(b) + beta * c in f32, row-major: op(a) is [m, k], op(b) [k, n], c [m, n]; transpose 'N' takes a matrix
 * as it lies, 'T' its transpose; leading dimensions in elements. Inside a parallel region the calling thread does it
 * alone. Ends the job when oneDNN refuses. */
void cpu_gemm(Device *device, char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* Makes OpenMP regions of the calling thread use the device's thread count (oneDNN asks OpenMP). */
void cpu_use_threads(const Device *device);

/* Threads for a pass over `elements` numbers: one below a size that would not pay for waking the others. */
static inline int threads_for(const Device *device, int64_t elements) {
    return elements < 8192 ? 1 : device->threads;
}

typedef struct Part {
    int64_t first, last; /* [first, last) */
} Part;

/* Part `index` of `count` of n items; every boundary but the last is a multiple of `align`. */
static inline Part part_of(int64_t n, int count, int index, int64_t align) {
    int64_t blocks = (n + align - 1) / align;
    int64_t first = blocks * index / count * align, last = blocks * (index + 1) / count * align;
    return (Part){first < n ? first : n, last < n ? last : n};
}

#endif
