/* Stands in for the CUDA backend in builds without it. */
#include <stdio.h>

#include "kernels/device.h"

static const char missing[] = "this build has no CUDA";

Status device_open_cuda(Device *device, int index, Error *err) {
    *device = (Device){.kind = DEVICE_CUDA, .index = index};
    return error_set(err, STATUS_SYSTEM,
                     "cannot open CUDA device %d: %s; use backend: cpu, or rebuild with make CUDA=1", index, missing);
}

int device_count_cuda(char *why, size_t why_size) {
    if (why)
        snprintf(why, why_size, "%s", missing);
    return 0;
}
