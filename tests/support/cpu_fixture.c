#include "tests/support/cpu_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/device.h"

int open_cpu_device(void **state) {
    Error err;
    Device *device = calloc(1, sizeof *device);
    if (!device)
        return -1;
    if (device_open_cpu(device, 2, &err) != STATUS_OK) {
        printf("%s\n", err.message);
        free(device);
        return -1;
    }
    *state = device;
    return 0;
}

int close_cpu_device(void **state) {
    Device *device = *state;
    device_close(device);
    size_t left = device->bytes_now;
    if (left)
        printf("%zu bytes of device memory were never released\n", left);
    free(device);
    return left == 0 ? 0 : -1;
}
