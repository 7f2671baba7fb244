/* A device: where tensors live and which operator table works on them.
 *
 * Everything a training step does goes through `device->ops`; the CPU and the CUDA backend fill the same table
 * (kernels/ops.h), so the trainer knows neither. Launches are ordered on the device's stream; only copy_out and sync
 * wait.
 *
 * Alphabet of dimensions used in every contract:
 *   N rows (images, views)  C channels  H W height, width  K output channels  R kernel size  D embedding  G groups
 * Image tensors are NHWC. Weights of convolutions are KRRC, of dense layers [out, in]. */
#ifndef EXCON_KERNELS_DEVICE_H
#define EXCON_KERNELS_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum DType { DTYPE_F32 = 0, DTYPE_BF16 = 1, DTYPE_U8 = 2, DTYPE_I32 = 3, DTYPE_I64 = 4, DTYPE_F64 = 5 } DType;

static inline size_t dtype_size(DType type) {
    return type == DTYPE_BF16 ? 2 : type == DTYPE_U8 ? 1 : (type == DTYPE_I64 || type == DTYPE_F64) ? 8 : 4;
}

typedef enum DeviceKind { DEVICE_CPU = 0, DEVICE_CUDA = 1 } DeviceKind;

struct Ops;

enum { DEVICE_STAMPS = 16 }; /* moments ops->stream->stamp tells apart */
enum { DEVICE_UPLOADS = 4 }; /* slots of ops->upload->start */

typedef struct Device {
    const struct Ops *ops;
    DeviceKind kind;
    int index;                    /* ordinal on this host */
    int threads;                  /* CPU threads the backend may use */
    char name[128];               /* "AMD EPYC 9xx4, 2 threads, avx512_bf16" or the GPU's name */
    char libraries[256];          /* versions, header and runtime, for the banner */
    size_t bytes_now, bytes_peak; /* device memory taken through ops->memory->alloc */
    void (*fatal)(void *ctx, Status code, const char *message); /* never returns; NULL: print and abort() */
    void *fatal_ctx;
    void (*close)(struct Device *); /* frees what opening made; for device_close */
    void *impl;                     /* owned by the backend */
    void *library;                  /* dlopen handle of a backend that is a library of its own; NULL: the CPU's */
    int fast_conv;                  /* 1: the backend has something faster for convolutions than im2col and GEMM */
    int slow_to_plan; /* 1: a convolution searches for its way at every row count that it meets first, which takes about
                         as long as a step: callers whose row counts vary let it meet few (contract/conv.h) */
    int fast_bf16;    /* 1: the device multiplies bf16 faster than f32, convolutions of whole images at least */
    int plain_conv; /* 1: convolutions as im2col and GEMM even where the backend has something faster, for cross-checks;
                       read by ops->conv->create */
} Device;

/* The highest instruction set level that this program was compiled for and this processor has (1 for the lowest:
 * kernels/cpu/device/levels.h); the environment variable EXCON_CPU names a lower one. STATUS_SYSTEM when the processor
 * is older than the lowest level or than EXCON_CPU, STATUS_USAGE when EXCON_CPU is no level. */
Status cpu_level_best(int *level, Error *err);

/* Opens a CPU device with `threads` OpenMP threads (0: OMP_NUM_THREADS or the cores this process may use) at an
 * instruction set level from 1 to cpu_level_best's (0: that one). Ranks that must compute the same bits from the same
 * numbers open at one level. */
Status device_open_cpu(Device *device, int threads, int level, Error *err);

/* The CUDA backend is a library of its own, libexcon_cuda.so beside the program (or in ../lib, or where the environment
 * variable EXCON_CUDA_LIBRARY says), loaded at the first of these calls: the program starts without CUDA's libraries,
 * and on machines that have none. */

/* Opens CUDA device `index`; STATUS_SYSTEM when there is no such device or no backend. */
Status device_open_cuda(Device *device, int index, Error *err);

/* Devices the CUDA driver offers; 0 when none, no driver, or no backend. `why` (may be NULL) says which. */
int device_count_cuda(char *why, size_t why_size);

/* What that library exports, under the name excon_cuda_backend. */
typedef struct CudaBackend {
    size_t ops_bytes, device_bytes; /* OPS_BYTES and sizeof(Device) of the headers it was compiled with */
    int (*count)(char *why, size_t why_size);
    Status (*open)(Device *device, int index, Error *err);
} CudaBackend;

/* Frees what opening made. A device that is zero, or whose opening failed, has nothing. */
void device_close(Device *device);

/* Ends the job through device->fatal: used by backends for failures no caller could handle. Never returns. */
void device_fatal(Device *device, Status code, const char *format, ...) __attribute__((format(printf, 3, 4), noreturn));

#ifdef __cplusplus
}
#endif
#endif
