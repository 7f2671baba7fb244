#include "tests/support/numbers/view_recipe.h"

ViewSpec view_recipe(ViewKind kind) {
    ViewSpec spec = {.kind = kind, .mean = {0.5f, 0.4f, 0.3f}, .std = {0.2f, 0.25f, 0.3f}};
    spec.seed = 3, spec.epoch = 2, spec.view = 1;
    spec.scale_min = 0.2f, spec.scale_max = 1.0f;
    spec.ratio_min = 0.75f, spec.ratio_max = 4.0f / 3;
    spec.flip_probability = 0.5f, spec.jitter_probability = 0.8f, spec.grey_probability = 0.2f;
    spec.brightness = spec.contrast = spec.saturation = 0.4f, spec.hue = 0.1f;
    return spec;
}
