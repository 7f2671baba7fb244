#include "kernels/buffers.h"

Status buffers_alloc(Device *device, const Buffer *list, int count, Error *err) {
    for (int i = 0; i < count; i++) {
        const Status status =
            list[i].bytes ? device->ops->memory->alloc(device, list[i].bytes, list[i].at, err) : STATUS_OK;
        if (status != STATUS_OK) {
            buffers_free(device, list, i);
            return status;
        }
    }
    return STATUS_OK;
}

void buffers_free(Device *device, const Buffer *list, int count) {
    for (int i = 0; i < count; i++) {
        if (*list[i].at)
            device->ops->memory->release(device, *list[i].at, list[i].bytes);
        *list[i].at = NULL;
    }
}

size_t buffers_bytes(const Buffer *list, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += list[i].bytes;
    return bytes;
}
