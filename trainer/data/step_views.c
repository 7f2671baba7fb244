#include "trainer/data/step_views.h"

#include "kernels/buffers.h"

enum { VIEWS = 3 };

static void list_buffers(StepViews *views, Buffer list[VIEWS]) {
    list[0] = (Buffer){&views->random, views->bytes};
    list[1] = (Buffer){&views->backup, views->bytes};
    list[2] = (Buffer){&views->standard, views->masks ? views->bytes : 0};
}

Status step_views_init(StepViews *views, const Config *config, Device *device, int64_t rows, int size, DType dtype,
                       Error *err) {
    *views = (StepViews){.device = device,
                         .dtype = dtype,
                         .masks = config_masks(config),
                         .bytes = (size_t)rows * (size_t)size * (size_t)size * 3 * dtype_size(dtype)};
    Buffer list[VIEWS];
    list_buffers(views, list);
    return buffers_alloc(device, list, VIEWS, err);
}

void step_views_free(StepViews *views) {
    Buffer list[VIEWS];
    list_buffers(views, list);
    buffers_free(views->device, list, VIEWS);
    *views = (StepViews){0};
}
