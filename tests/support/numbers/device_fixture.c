#include "tests/support/numbers/device_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"

int open_test_device(void **state) {
    Error err;
    const char *backend = getenv("EXCON_TEST_BACKEND");
    const int cuda = backend && strcmp(backend, "cuda") == 0;
    Device *device = calloc(1, sizeof *device);
    if (!device)
        return -1;
    if ((cuda ? device_open_cuda(device, 0, &err) : device_open_cpu(device, 2, 0, &err)) != STATUS_OK) {
        printf("%s\n", err.message);
        free(device);
        return -1;
    }
    *state = device;
    return 0;
}

int close_test_device(void **state) {
    Device *device = *state;
    if (!device)
        return -1;
    device_close(device);
    size_t left = device->bytes_now;
    if (left)
        printf("%zu bytes of device memory were never released\n", left);
    free(device);
    return left == 0 ? 0 : -1;
}
