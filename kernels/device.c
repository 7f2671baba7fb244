#include "kernels/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void device_close(Device *device) {
    if (device->close)
        device->close(device);
    device->close = NULL;
    device->ops = NULL;
    device->impl = NULL;
}

void device_fatal(Device *device, Status code, const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, "excon: device %s: %s\n", device->name, message);
    fflush(stderr);
    if (device->fatal)
        device->fatal(device->fatal_ctx, code, message);
    abort();
}
