/* Opens a CUDA device and owns its state: stream, cuBLAS, scratch memory, stamps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device/cuda_device.h"
#include "kernels/cuda/device/graphs.h"
#include "kernels/cuda/products/conv_plan.h"
#include "kernels/ops.h"

extern const Ops ops_cuda; /* table_cuda.c */

/* What cuBLAS recommends for Hopper; more than enough elsewhere. */
static const size_t BLAS_WORKSPACE = (size_t)32 << 20;

static const size_t SCRATCH_LEAST = (size_t)64 << 10;

void cuda_check(Device *device, cudaError_t code, const char *expression, const char *file, int line) {
    if (code != cudaSuccess)
        device_fatal(device, STATUS_SYSTEM, "CUDA device %d: %s failed: %s (%s:%d)", device->index, expression,
                     cudaGetErrorString(code), file, line);
}

cudaStream_t cuda_stream(const Device *device) {
    return cuda_of(device)->stream;
}

void cublas_check(Device *device, cublasStatus_t code, const char *expression, const char *file, int line) {
    if (code != CUBLAS_STATUS_SUCCESS)
        device_fatal(device, STATUS_SYSTEM, "CUDA device %d: %s failed: cuBLAS status %d (%s:%d)", device->index,
                     expression, (int)code, file, line);
}

static int count_devices(char *why, size_t why_size) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0)
        return count;
    snprintf(why, why_size, "no CUDA device: %s", code == cudaSuccess ? "none present" : cudaGetErrorString(code));
    cudaGetLastError(); /* it is not the next call's */
    return 0;
}

static void describe(Device *device, const struct cudaDeviceProp *properties) {
    int runtime = 0, driver = 0, blas = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    cublasGetVersion(cuda_of(device)->blas, &blas);
    snprintf(device->name, sizeof device->name, "%.80s, %.0f GB, sm_%d%d", properties->name,
             (double)properties->totalGlobalMem * 1e-9, properties->major, properties->minor);
    snprintf(device->libraries, sizeof device->libraries,
             "CUDA %d.%d (header %d.%d, driver %d.%d), cuBLAS %d.%d.%d, %s", runtime / 1000, runtime % 1000 / 10,
             CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, driver / 1000, driver % 1000 / 10, blas / 10000,
             blas / 100 % 100, blas % 100, conv_library_cuda());
}

static cudaError_t make_stamps(CudaDevice *cuda) {
    for (int i = 0; i < DEVICE_STAMPS; i++) {
        cudaError_t code = cudaEventCreateWithFlags(&cuda->stamps[i], cudaEventDefault);
        if (code != cudaSuccess)
            return code;
    }
    return cudaSuccess;
}

/* Undoes what of open_device was done. */
static void close_device(CudaDevice *cuda) {
    if (cuda->graphs)
        graphs_free(cuda->graphs);
    if (cuda->cudnn)
        cuda->cudnn_close(cuda->cudnn);
    for (int i = 0; i < DEVICE_STAMPS; i++)
        if (cuda->stamps[i])
            cudaEventDestroy(cuda->stamps[i]);
    uploads_close(cuda);
    if (cuda->blas)
        cublasDestroy(cuda->blas);
    cudaFree(cuda->blas_workspace);
    cudaFree(cuda->scratch);
    for (int i = 0; i < cuda->retired_count; i++)
        cudaFree(cuda->retired[i]);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static void close_cuda(Device *device) {
    device->bytes_now -= cuda_of(device)->scratch_bytes + cuda_of(device)->retired_bytes;
    close_device(cuda_of(device));
}

static Status open_device(Device *device, int index, Error *err) {
    *device = (Device){.kind = DEVICE_CUDA, .index = index};
    CudaDevice *cuda = calloc(1, sizeof *cuda);
    if (!cuda)
        return error_set(err, STATUS_SYSTEM, "cannot open CUDA device %d: out of memory", index);
    struct cudaDeviceProp properties;
    const char *what = "cudaSetDevice";
    cublasStatus_t blas = CUBLAS_STATUS_SUCCESS;
    cudaError_t code = cudaSetDevice(index);
    if (code == cudaSuccess) {
        what = "cudaGetDeviceProperties";
        code = cudaGetDeviceProperties(&properties, index);
    }
    if (code == cudaSuccess) {
        what = "cudaStreamCreate";
        code = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    }
    if (code == cudaSuccess) {
        what = "cudaMalloc";
        code = cudaMalloc(&cuda->blas_workspace, BLAS_WORKSPACE);
    }
    if (code == cudaSuccess) {
        what = "cudaEventCreate";
        code = make_stamps(cuda);
    }
    if (code == cudaSuccess) {
        what = "cudaStreamCreate for uploads";
        code = uploads_open(cuda);
    }
    if (code == cudaSuccess) {
        what = "cublasCreate";
        blas = cublasCreate(&cuda->blas);
    }
    if (code == cudaSuccess && blas == CUBLAS_STATUS_SUCCESS)
        blas = cublasSetStream(cuda->blas, cuda->stream);
    if (code == cudaSuccess && blas == CUBLAS_STATUS_SUCCESS)
        blas = cublasSetWorkspace(cuda->blas, cuda->blas_workspace, BLAS_WORKSPACE);
    if (code == cudaSuccess && blas == CUBLAS_STATUS_SUCCESS) /* sums of bf16 products stay f32 to the end */
        blas = cublasSetMathMode(cuda->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    if (code == cudaSuccess && blas == CUBLAS_STATUS_SUCCESS)
        cuda->graphs = graphs_new();
    if (!cuda->graphs) {
        close_device(cuda);
        return error_set(err, STATUS_SYSTEM, "cannot open CUDA device %d: %s: %s; is another process using it?", index,
                         what, code != cudaSuccess ? cudaGetErrorString(code) : "cuBLAS or host memory");
    }
    cuda->multiprocessors = properties.multiProcessorCount;
    cuda->capability = 10 * properties.major + properties.minor;
    device->impl = cuda;
    device->ops = &ops_cuda;
    device->close = close_cuda;
    device->fast_bf16 = cuda->capability >= 80; /* tensor cores take bf16 since then */
#ifdef EXCON_CUDNN
    device->fast_conv = 1;
    device->slow_to_plan = 1;
#endif
    describe(device, &properties);
    return STATUS_OK;
}

void *cuda_scratch(Device *device, size_t bytes) {
    CudaDevice *cuda = cuda_of(device);
    if (bytes <= cuda->scratch_bytes)
        return cuda->scratch;
    if (cuda_capturing(device) || cuda->retired_count == SCRATCH_GROWTHS)
        device_fatal(device, STATUS_INTERNAL, "scratch memory of %zu bytes is asked for %s", bytes,
                     cuda_capturing(device) ? "by a capture of launches that did with less before" : "too late");
    const size_t least = cuda->scratch_bytes ? cuda->scratch_bytes + cuda->scratch_bytes / 2 : SCRATCH_LEAST;
    const size_t grown = bytes > least ? bytes : least;
    if (graphs_any(cuda->graphs)) {
        cuda->retired[cuda->retired_count++] = cuda->scratch;
        cuda->retired_bytes += cuda->scratch_bytes;
    } else {
        CUDA_CHECK(device, cudaStreamSynchronize(cuda->stream));
        CUDA_CHECK(device, cudaFree(cuda->scratch));
        device->bytes_now -= cuda->scratch_bytes;
    }
    CUDA_CHECK(device, cudaMalloc(&cuda->scratch, grown));
    cuda->scratch_bytes = grown;
    device->bytes_now += grown;
    if (device->bytes_now > device->bytes_peak)
        device->bytes_peak = device->bytes_now;
    return cuda->scratch;
}

/* The library's way in (kernels/device.h). */
const CudaBackend excon_cuda_backend = {
    .ops_bytes = OPS_BYTES, .device_bytes = sizeof(Device), .count = count_devices, .open = open_device};
