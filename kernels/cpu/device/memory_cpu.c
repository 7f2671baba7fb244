/* Memory and moments of the CPU device. Large blocks are anonymous mappings with huge pages asked for: zero without
 * being touched, so an arena planned for the largest batch costs only what is used. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/round.h"
#include "kernels/contract/graph.h"
#include "kernels/contract/memory.h"
#include "kernels/contract/stream.h"
#include "kernels/contract/upload.h"
#include "kernels/cpu/device/cpu_device.h"

enum { ALIGNMENT = 64 };

/* Sanitizers watch the heap, not mappings. */
#ifdef __SANITIZE_ADDRESS__
static const size_t mapped_from = SIZE_MAX;
#else
static const size_t mapped_from = (size_t)4 << 20;
#endif

/* What a heap block of `bytes` takes: aligned_alloc() wants a multiple of the alignment. */
static size_t padded(size_t bytes) {
    return bytes ? round_up(bytes, ALIGNMENT) : ALIGNMENT;
}

static Status alloc_cpu(Device *device, size_t bytes, void **out, Error *err) {
    size_t present = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    *out = NULL;
    void *block = NULL;
    if (bytes <= present && device->bytes_now <= present - bytes) {
        if (bytes >= mapped_from) {
            block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (block == MAP_FAILED)
                block = NULL;
            else
                madvise(block, bytes, MADV_HUGEPAGE);
        } else {
            block = aligned_alloc(ALIGNMENT, padded(bytes));
            if (block)
                memset(block, 0, padded(bytes));
        }
    }
    if (!block)
        return error_set(err, STATUS_SYSTEM,
                         "out of memory: asked for %.1f MB with %.1f MB in use, and the machine has %.1f MB; use a "
                         "smaller batch, model or precision: bf16",
                         (double)bytes / 1e6, (double)device->bytes_now / 1e6, (double)present / 1e6);
    device->bytes_now += bytes;
    if (device->bytes_now > device->bytes_peak)
        device->bytes_peak = device->bytes_now;
    *out = block;
    return STATUS_OK;
}

static void release_cpu(Device *device, void *pointer, size_t bytes) {
    if (!pointer)
        return;
    device->bytes_now -= bytes;
    if (bytes >= mapped_from)
        munmap(pointer, bytes);
    else
        free(pointer);
}

static void copy_cpu(Device *device, void *dst, const void *src, size_t bytes) {
    if (bytes == 0 || dst == src)
        return;
    int parts = threads_for(device, (int64_t)(bytes / 16));
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of((int64_t)bytes, parts, i, 4096);
        memcpy((char *)dst + p.first, (const char *)src + p.first, (size_t)(p.last - p.first));
    }
}

static void copy_in_cpu(Device *device, void *dst, const void *host_src, size_t bytes) {
    copy_cpu(device, dst, host_src, bytes);
}

static void copy_out_cpu(Device *device, void *host_dst, const void *src, size_t bytes) {
    copy_cpu(device, host_dst, src, bytes);
}

static void zero_cpu(Device *device, void *dst, size_t bytes) {
    if (bytes == 0)
        return;
    int parts = threads_for(device, (int64_t)(bytes / 16));
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        Part p = part_of((int64_t)bytes, parts, i, 4096);
        memset((char *)dst + p.first, 0, (size_t)(p.last - p.first));
    }
}

static void sync_cpu(Device *device) {
    (void)device; /* every operator has finished when it returns */
}

static Status host_alloc_cpu(Device *device, size_t bytes, void **out, Error *err) {
    (void)device;
    *out = aligned_alloc(ALIGNMENT, padded(bytes));
    if (!*out)
        return error_set(err, STATUS_SYSTEM, "out of memory: asked for %.1f MB of host memory", (double)bytes / 1e6);
    memset(*out, 0, bytes);
    return STATUS_OK;
}

static void host_release_cpu(Device *device, void *pointer, size_t bytes) {
    (void)device;
    (void)bytes;
    free(pointer);
}

static void upload_start_cpu(Device *device, int slot, void *dst, const void *host_src, size_t bytes) {
    (void)slot;
    copy_cpu(device, dst, host_src, bytes);
}

static void upload_wait_cpu(Device *device, int slot) {
    (void)device;
    (void)slot;
}

static void upload_release_cpu(Device *device, int slot) {
    (void)device;
    (void)slot;
}

static void upload_finish_cpu(Device *device, int slot) {
    (void)device;
    (void)slot;
}

static void stamp_cpu(Device *device, int slot) {
    cpu_of(device)->stamps[slot] = clock_seconds();
}

static double stamp_seconds_cpu(Device *device, int from, int to) {
    return cpu_of(device)->stamps[to] - cpu_of(device)->stamps[from];
}

static int graph_begin_cpu(Device *device, uint64_t key) {
    (void)device;
    (void)key;
    return 1;
}

static void graph_end_cpu(Device *device) {
    (void)device;
}

const MemoryOps memory_ops_cpu = {
    .alloc = alloc_cpu,
    .release = release_cpu,
    .copy_in = copy_in_cpu,
    .copy_out = copy_out_cpu,
    .copy = copy_cpu,
    .zero = zero_cpu,
    .host_alloc = host_alloc_cpu,
    .host_release = host_release_cpu,
};

const UploadOps upload_ops_cpu = {
    .start = upload_start_cpu,
    .wait = upload_wait_cpu,
    .release = upload_release_cpu,
    .finish = upload_finish_cpu,
};

const StreamOps stream_ops_cpu = {
    .sync = sync_cpu,
    .stamp = stamp_cpu,
    .seconds = stamp_seconds_cpu,
};

const GraphOps graph_ops_cpu = {
    .begin = graph_begin_cpu,
    .end = graph_end_cpu,
};
