/* WideResNet (Zagoruyko & Komodakis 2016): blocks of norm, ReLU, convolution, twice (pre-activation), three stages of n
 * blocks, a norm and ReLU before the pooling, no dropout. wrn-D-K has depth D = 6n + 4 and widths 16, 16K, 32K, 64K at
 * model.width 64, in proportion otherwise. Names are those of the common PyTorch implementation. Explained is the raw
 * output of the last convolution of a stage, before the shortcut is added. */
#include <stdio.h>

#include "trainer/model/encoders/encoders.h"

enum { STAGES = 3 };

static int add_block(Model *model, const char *prefix, int in, int planes, int stride, bool last) {
    const bool has_shortcut = model->tensors[in].C != planes;
    char name[96];
#define NAMED(suffix) (snprintf(name, sizeof name, "%s.%s", prefix, suffix), name)
    const int before = model_add_norm(model, NAMED("bn1"), in, -1, true);
    int x = model_add_conv(model, NAMED("conv1"), before, planes, 3, stride), shortcut = in;
    if (has_shortcut)
        shortcut = model_add_conv(model, NAMED("convShortcut"), before, planes, 1, stride);
    x = model_add_norm(model, NAMED("bn2"), x, -1, true);
    x = model_add_conv(model, NAMED("conv2"), x, planes, 3, 1);
#undef NAMED
    if (last)
        model_add_stage(model, x);
    return model_add_sum(model, x, shortcut);
}

Status wrn_build(Model *model, const int *depth, int *output, Error *err) {
    const int blocks = (depth[0] - 4) / 6, width = model->shape.width / 4;
    if (model->shape.width % 4 != 0)
        return error_set(err, STATUS_CONFIG,
                         "model.width %d: a WideResNet's stem has a quarter as many channels, so that 64 gives the "
                         "published 16; take a multiple of 4",
                         model->shape.width);
    int x = model_add_conv(model, "encoder.conv1", 0, width, 3, 1);
    for (int stage = 0; stage < STAGES; stage++)
        for (int b = 0; b < blocks; b++) {
            char prefix[64];
            snprintf(prefix, sizeof prefix, "encoder.block%d.layer.%d", stage + 1, b);
            x = add_block(model, prefix, x, (width << stage) * depth[1], stage > 0 && b == 0 ? 2 : 1, b == blocks - 1);
        }
    *output = model_add_norm(model, "encoder.bn1", x, -1, true);
    return STATUS_OK;
}
