/* Memory and moments of a CUDA device. */
#include "kernels/contract/memory.h"
#include "kernels/contract/stream.h"
#include "kernels/cuda/device/cuda_device.h"

static void zero_cuda(Device *device, void *dst, size_t bytes) {
    if (bytes)
        CUDA_CHECK(device, cudaMemsetAsync(dst, 0, bytes, cuda_stream(device)));
}

static Status no_memory(Device *device, size_t bytes, Error *err) {
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    return error_set(err, STATUS_SYSTEM,
                     "out of memory on CUDA device %d: asked for %.1f MB with %.1f MB in use here and %.1f of %.1f MB "
                     "free; use a smaller batch or model, precision: bf16, or more ranks",
                     device->index, (double)bytes / 1e6, (double)device->bytes_now / 1e6, (double)available / 1e6,
                     (double)total / 1e6);
}

static Status alloc_cuda(Device *device, size_t bytes, void **out, Error *err) {
    *out = NULL;
    if (cudaMalloc(out, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        return no_memory(device, bytes, err);
    }
    zero_cuda(device, *out, bytes);
    device->bytes_now += bytes;
    if (device->bytes_now > device->bytes_peak)
        device->bytes_peak = device->bytes_now;
    return STATUS_OK;
}

/* Nothing that was issued uses any memory afterwards. */
static void wait_for_all(Device *device) {
    CUDA_CHECK(device, cudaStreamSynchronize(cuda_stream(device)));
    CUDA_CHECK(device, cudaStreamSynchronize(cuda_of(device)->copies));
}

static void release_cuda(Device *device, void *pointer, size_t bytes) {
    if (!pointer)
        return;
    device->bytes_now -= bytes;
    wait_for_all(device);
    CUDA_CHECK(device, cudaFree(pointer));
}

static void copy_in_cuda(Device *device, void *dst, const void *host_src, size_t bytes) {
    if (bytes)
        CUDA_CHECK(device, cudaMemcpyAsync(dst, host_src, bytes, cudaMemcpyHostToDevice, cuda_stream(device)));
}

static void copy_out_cuda(Device *device, void *host_dst, const void *src, size_t bytes) {
    if (bytes)
        CUDA_CHECK(device, cudaMemcpyAsync(host_dst, src, bytes, cudaMemcpyDeviceToHost, cuda_stream(device)));
    CUDA_CHECK(device, cudaStreamSynchronize(cuda_stream(device)));
}

static void copy_cuda(Device *device, void *dst, const void *src, size_t bytes) {
    if (bytes && dst != src)
        CUDA_CHECK(device, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda_stream(device)));
}

static void sync_cuda(Device *device) {
    CUDA_CHECK(device, cudaStreamSynchronize(cuda_stream(device)));
}

static Status host_alloc_cuda(Device *device, size_t bytes, void **out, Error *err) {
    *out = NULL;
    if (cudaHostAlloc(out, bytes ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError();
        return error_set(err, STATUS_SYSTEM,
                         "out of pinned host memory: asked for %.1f MB for CUDA device %d; raise the memory limit of "
                         "the job",
                         (double)bytes / 1e6, device->index);
    }
    for (size_t i = 0; i < bytes; i++)
        ((char *)*out)[i] = 0;
    return STATUS_OK;
}

static void host_release_cuda(Device *device, void *pointer, size_t bytes) {
    (void)bytes;
    if (!pointer)
        return;
    wait_for_all(device);
    CUDA_CHECK(device, cudaFreeHost(pointer));
}

/* In a recording the moment is taken at every replay. */
static void stamp_cuda(Device *device, int slot) {
    CUDA_CHECK(device,
               cudaEventRecordWithFlags(cuda_of(device)->stamps[slot], cuda_stream(device),
                                        cuda_capturing(device) ? cudaEventRecordExternal : cudaEventRecordDefault));
}

static double stamp_seconds_cuda(Device *device, int from, int to) {
    float milliseconds = 0;
    CudaDevice *cuda = cuda_of(device);
    CUDA_CHECK(device, cudaEventElapsedTime(&milliseconds, cuda->stamps[from], cuda->stamps[to]));
    return 1e-3 * (double)milliseconds;
}

const MemoryOps memory_ops_cuda = {
    .alloc = alloc_cuda,
    .release = release_cuda,
    .copy_in = copy_in_cuda,
    .copy_out = copy_out_cuda,
    .copy = copy_cuda,
    .zero = zero_cuda,
    .host_alloc = host_alloc_cuda,
    .host_release = host_release_cuda,
};

const StreamOps stream_ops_cuda = {
    .sync = sync_cuda,
    .stamp = stamp_cuda,
    .seconds = stamp_seconds_cuda,
};
