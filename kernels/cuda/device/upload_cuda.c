/* Copies in that run beside the device's work: a stream of their own, and two events per slot.
 *
 * `copied` is recorded behind a slot's copies, and the device's stream waits for it; `released` is recorded behind the
 * work that used their destinations, and the next copies wait for it. Both streams run in order, so a slot that two
 * users share only makes them wait for more than they must. */
#include "kernels/contract/upload.h"
#include "kernels/cuda/device/cuda_device.h"

cudaError_t uploads_open(CudaDevice *cuda) {
    cudaError_t code = cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking);
    for (int s = 0; s < DEVICE_UPLOADS && code == cudaSuccess; s++) {
        code = cudaEventCreateWithFlags(&cuda->copied[s], cudaEventDisableTiming);
        if (code == cudaSuccess)
            code = cudaEventCreateWithFlags(&cuda->released[s], cudaEventDisableTiming);
    }
    return code;
}

void uploads_close(CudaDevice *cuda) {
    for (int s = 0; s < DEVICE_UPLOADS; s++) {
        if (cuda->copied[s])
            cudaEventDestroy(cuda->copied[s]);
        if (cuda->released[s])
            cudaEventDestroy(cuda->released[s]);
    }
    if (cuda->copies)
        cudaStreamDestroy(cuda->copies);
}

static void upload_start_cuda(Device *device, int slot, void *dst, const void *host_src, size_t bytes) {
    const CudaDevice *cuda = cuda_of(device);
    CUDA_CHECK(device, cudaStreamWaitEvent(cuda->copies, cuda->released[slot], 0));
    if (bytes)
        CUDA_CHECK(device, cudaMemcpyAsync(dst, host_src, bytes, cudaMemcpyHostToDevice, cuda->copies));
    CUDA_CHECK(device, cudaEventRecord(cuda->copied[slot], cuda->copies));
}

static void upload_wait_cuda(Device *device, int slot) {
    CUDA_CHECK(device, cudaStreamWaitEvent(cuda_stream(device), cuda_of(device)->copied[slot], 0));
}

static void upload_release_cuda(Device *device, int slot) {
    CUDA_CHECK(device, cudaEventRecord(cuda_of(device)->released[slot], cuda_stream(device)));
}

static void upload_finish_cuda(Device *device, int slot) {
    CUDA_CHECK(device, cudaEventSynchronize(cuda_of(device)->copied[slot]));
}

const UploadOps upload_ops_cuda = {
    .start = upload_start_cuda,
    .wait = upload_wait_cuda,
    .release = upload_release_cuda,
    .finish = upload_finish_cuda,
};
