/* What the CUDA backend's files share: the device's state, its stream and scratch memory, and checks. C and CUDA.
 *
 * Launchers take device pointers, queue their work on the device's stream and return. None uses floating-point atomics:
 * for the same inputs and device the same bits come out again.
 *
 * Everything runs on one stream per device, in the order of the calls; the collectives and uploads have streams of
 * their own and are ordered against this one by events (comm/nccl, upload_cuda.c). Nothing here waits except copy_out,
 * sync, an upload's finish and a scratch that must grow. */
#ifndef EXCON_KERNELS_CUDA_DEVICE_H
#define EXCON_KERNELS_CUDA_DEVICE_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "kernels/base/round.h"
#include "kernels/cuda/device/cuda_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every growth of scratch memory is by half at least: from 64 KiB, so many reach beyond any device. */
enum { SCRATCH_GROWTHS = 48 };

typedef struct CudaDevice {
    cudaStream_t stream;
    cublasHandle_t blas; /* on that stream, with a workspace of its own, so that captures hold no allocation */
    void *blas_workspace;
    void *cudnn; /* cudnnHandle_t, made by the first convolution plan; NULL: none yet, or not built in */
    void (*cudnn_close)(void *cudnn);
    int cudnn_failed; /* cudnnCreate did, which was said on stderr */
    int multiprocessors;
    int capability; /* 10 * major + minor: 90 for Hopper */
    void *scratch;  /* one operator's temporaries at a time */
    size_t scratch_bytes;
    void *retired[SCRATCH_GROWTHS]; /* scratch that recordings still point into */
    size_t retired_bytes;
    int retired_count;
    cudaEvent_t stamps[DEVICE_STAMPS];
    struct CudaGraphs *graphs;
    cudaStream_t copies; /* copies in beside `stream`, ordered against it by these events (upload_cuda.c) */
    cudaEvent_t copied[DEVICE_UPLOADS], released[DEVICE_UPLOADS];
} CudaDevice;

static inline CudaDevice *cuda_of(const Device *device) {
    return (CudaDevice *)device->impl;
}

/* The device's scratch, at least `bytes` long and 256-byte aligned; overwritten by the next operator. It grows at the
 * first call that needs more; never during a capture. What it was before stays, for the recordings that point into it:
 * ranks then record and replay at the same steps, whatever their own row counts make of their scratch. Ends the job
 * when memory is out. */
void *cuda_scratch(Device *device, size_t bytes);

/* What a part of the scratch takes, so that the one behind it is 256-byte aligned too. */
static inline size_t cuda_scratch_part(size_t bytes) {
    return round_up(bytes, 256);
}

/* Make and destroy the stream and events of uploads; uploads_close undoes what of uploads_open was done. */
cudaError_t uploads_open(CudaDevice *cuda);
void uploads_close(CudaDevice *cuda);

/* CUDA_CHECK (cuda_stream.h) for cuBLAS. */
void cublas_check(Device *device, cublasStatus_t code, const char *expression, const char *file, int line);
#define CUBLAS_CHECK(device, expression) cublas_check((device), (expression), #expression, __FILE__, __LINE__)

#ifdef __cplusplus
}
#endif
#endif
