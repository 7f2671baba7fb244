#include "trainer/data/view_specs.h"

#include <string.h>

ViewSpec view_spec(const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, const float mean[3],
                   const float std[3]) {
    ViewSpec spec = {.kind = kind,
                     .seed = (uint64_t)config->seed,
                     .epoch = epoch,
                     .view = view,
                     .scale_min = (float)config->augment.scale_min,
                     .scale_max = (float)config->augment.scale_max,
                     .ratio_min = 3.0f / 4.0f,
                     .ratio_max = 4.0f / 3.0f,
                     .flip_probability = (float)config->augment.flip_probability,
                     .jitter_probability = (float)config->augment.jitter_probability,
                     .grey_probability = (float)config->augment.grey_probability,
                     .brightness = (float)config->augment.brightness,
                     .contrast = (float)config->augment.contrast,
                     .saturation = (float)config->augment.saturation,
                     .hue = (float)config->augment.hue};
    memcpy(spec.mean, mean, sizeof spec.mean);
    memcpy(spec.std, std, sizeof spec.std);
    return spec;
}
