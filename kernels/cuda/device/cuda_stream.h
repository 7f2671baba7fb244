/* What a room outside the CUDA backend needs to order work of its own against a device's: its stream, whether that is
 * being recorded, and checks. comm/nccl uses it; the device's state is cuda_device.h, the backend's own. C and CUDA. */
#ifndef EXCON_KERNELS_CUDA_STREAM_H
#define EXCON_KERNELS_CUDA_STREAM_H

#include <cuda_runtime_api.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The stream that all work of the device is queued on. */
cudaStream_t cuda_stream(const Device *device);

/* 1 while the device's stream is being captured. */
int cuda_capturing(const Device *device);

/* Drops all recordings of the device: something that they name is gone. */
void cuda_forget_recordings(Device *device);

/* Ends the job when `code` is a failure, naming rank, device, expression and place (device_fatal). */
void cuda_check(Device *device, cudaError_t code, const char *expression, const char *file, int line);
#define CUDA_CHECK(device, expression) cuda_check((device), (expression), #expression, __FILE__, __LINE__)

#ifdef __cplusplus
}
#endif
#endif
