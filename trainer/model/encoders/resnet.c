/* ResNet with the CIFAR stem (3x3, stride 1, no max-pool): He et al. 2016, widths w, 2w, 4w, 8w. Explained is the raw
 * output of the last convolution of a stage's main path. */
#include <stdio.h>

#include "trainer/model/encoders/encoders.h"

enum { STAGES = 4, BOTTLENECK = 4 }; /* depth: blocks of the stages, then whether blocks are bottlenecks */

static int add_block(Model *model, const char *prefix, int in, int planes, int stride, int bottleneck, bool last) {
    const int out_channels = bottleneck ? planes * 4 : planes;
    const bool has_shortcut = stride != 1 || model->tensors[in].C != out_channels;
    char name[96];
#define NAMED(suffix) (snprintf(name, sizeof name, "%s.%s", prefix, suffix), name)
    int x = model_add_conv(model, NAMED("conv1"), in, planes, bottleneck ? 1 : 3, bottleneck ? 1 : stride);
    int shortcut = in;
    if (has_shortcut)
        shortcut = model_add_conv(model, NAMED("shortcut.0"), in, out_channels, 1, stride);
    x = model_add_norm(model, NAMED("bn1"), x, -1, true);
    if (has_shortcut) { /* both norms need their moments at the same time */
        shortcut = model_add_norm(model, NAMED("shortcut.1"), shortcut, -1, false);
        model_join_moments(model, x, shortcut);
    }
    if (bottleneck) {
        x = model_add_conv(model, NAMED("conv2"), x, planes, 3, stride);
        x = model_add_norm(model, NAMED("bn2"), x, -1, true);
        x = model_add_conv(model, NAMED("conv3"), x, out_channels, 1, 1);
    } else {
        x = model_add_conv(model, NAMED("conv2"), x, out_channels, 3, 1);
    }
    if (last)
        model_add_stage(model, x);
    x = model_add_norm(model, NAMED(bottleneck ? "bn3" : "bn2"), x, shortcut, true);
#undef NAMED
    return x;
}

Status resnet_build(Model *model, const int *depth, int *output, Error *err) {
    (void)err;
    const int w = model->shape.width;
    int x = model_add_conv(model, "encoder.conv1", 0, w, 3, 1);
    x = model_add_norm(model, "encoder.bn1", x, -1, true);
    for (int stage = 0; stage < STAGES; stage++)
        for (int b = 0; b < depth[stage]; b++) {
            char prefix[64];
            snprintf(prefix, sizeof prefix, "encoder.layer%d.%d", stage + 1, b);
            x = add_block(model, prefix, x, w << stage, stage > 0 && b == 0 ? 2 : 1, depth[BOTTLENECK],
                          b == depth[stage] - 1);
        }
    *output = x;
    return STATUS_OK;
}
