/* The table of corruptions, and what calls them. */
#include "trainer/evaluate/corruptions/corruptions.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/evaluate/corruptions/work.h"

/* What stands for a parameter is said at each function. Lengths in pixels are half as long at 32 pixels as at 64,
 * unless the published set for 32 pixels is followed (docs/evaluation.md says where, and why). */
/* clang-format off */
const Corruption corruptions[CORRUPTION_COUNT] = {
    {"gaussian_noise", "noise", 1, corrupt_gaussian_noise,
        {{.04}, {.08}, {.12}, {.15}, {.18}},
        {{.04}, {.06}, {.08}, {.09}, {.10}}},
    {"shot_noise", "noise", 2, corrupt_shot_noise,
        {{250}, {100}, {50}, {30}, {15}},
        {{500}, {250}, {100}, {75}, {50}}},
    {"impulse_noise", "noise", 3, corrupt_impulse_noise,
        {{.01}, {.02}, {.05}, {.08}, {.14}},
        {{.01}, {.02}, {.03}, {.05}, {.07}}},
    {"speckle_noise", "noise", 4, corrupt_speckle_noise,
        {{.15}, {.2}, {.25}, {.3}, {.35}},
        {{.15}, {.2}, {.25}, {.3}, {.35}}},
    {"defocus_blur", "blur", 5, corrupt_defocus_blur,
        {{.5, .6}, {1, .1}, {1.5, .1}, {2.5, .01}, {3, .1}},
        {{.3, .4}, {.4, .5}, {.5, .6}, {1, .2}, {1.5, .1}}},
    {"glass_blur", "blur", 6, corrupt_glass_blur,
        {{.1, 1, 1}, {.5, 1, 1}, {.6, 1, 2}, {.7, 2, 1}, {.9, 2, 2}},
        {{.05, 1, 1}, {.25, 1, 1}, {.3, 1, 2}, {.35, 1, 1}, {.45, 1, 2}}},
    {"gaussian_blur", "blur", 7, corrupt_gaussian_blur,
        {{.5}, {.75}, {1}, {1.25}, {1.5}},
        {{.25}, {.375}, {.5}, {.625}, {.75}}},
    {"motion_blur", "blur", 8, corrupt_motion_blur,
        {{10, 1}, {10, 1.5}, {10, 2}, {10, 2.5}, {12, 3}},
        {{5, .5}, {5, .75}, {5, 1}, {5, 1.25}, {6, 1.5}}},
    {"zoom_blur", "blur", 9, corrupt_zoom_blur,
        {{5}, {10}, {15}, {20}, {25}},
        {{5}, {10}, {15}, {20}, {25}}},
    {"snow", "weather", 10, corrupt_snow,
        {{.1, .2, 1, .6, 8, 3, .8}, {.1, .2, 1, .5, 10, 4, .8}, {.15, .3, 1.75, .55, 10, 4, .7},
         {.25, .3, 2.25, .6, 12, 6, .65}, {.3, .3, 1.25, .65, 14, 12, .6}},
        {{.1, .2, 1, .6, 4, 1.5, .8}, {.1, .2, 1, .5, 5, 2, .8}, {.15, .3, 1.75, .55, 5, 2, .7},
         {.25, .3, 2.25, .6, 6, 3, .65}, {.3, .3, 1.25, .65, 7, 6, .6}}},
    {"fog", "weather", 11, corrupt_fog,
        {{.4, 3}, {.7, 3}, {1, 2.5}, {1.5, 2}, {2, 1.75}},
        {{.2, 3}, {.5, 3}, {.75, 2.5}, {1, 2}, {1.5, 1.75}}},
    {"spatter", "weather", 12, corrupt_spatter,
        {{.62, .1, .7, .7, .6, 0}, {.65, .1, .8, .7, .6, 0}, {.65, .3, 1, .69, .6, 0},
         {.65, .1, .7, .68, .6, 1}, {.65, .1, .5, .67, .6, 1}},
        {{.62, .1, .7, .7, .5, 0}, {.65, .1, .8, .7, .5, 0}, {.65, .3, 1, .69, .5, 0},
         {.65, .1, .7, .69, .6, 1}, {.65, .1, .5, .68, .6, 1}}},
    {"brightness", "weather", 13, corrupt_brightness,
        {{.1}, {.2}, {.3}, {.4}, {.5}},
        {{.05}, {.1}, {.15}, {.2}, {.3}}},
    {"saturate", "digital", 14, corrupt_saturate,
        {{.3, 0}, {.1, 0}, {2, 0}, {5, .1}, {30, .2}},
        {{.3, 0}, {.1, 0}, {2, 0}, {5, .1}, {30, .2}}},
    {"contrast", "digital", 15, corrupt_contrast,
        {{.4}, {.3}, {.2}, {.1}, {.05}},
        {{.75}, {.5}, {.4}, {.3}, {.15}}},
    {"elastic_transform", "digital", 16, corrupt_elastic_transform,
        {{0, 0, .08}, {.05, .3, .06}, {.1, .08, .06}, {.1, .03, .03}, {.16, .03, .02}},
        {{0, 0, .08}, {.05, .3, .06}, {.1, .08, .06}, {.1, .03, .03}, {.16, .03, .02}}},
    {"pixelate", "digital", 17, corrupt_pixelate,
        {{.9}, {.8}, {.7}, {.6}, {.5}},
        {{.95}, {.9}, {.85}, {.75}, {.65}}},
    {"jpeg_compression", "digital", 18, corrupt_jpeg_compression,
        {{65}, {58}, {50}, {40}, {25}},
        {{80}, {65}, {58}, {50}, {40}}},
};
/* clang-format on */

const Corruption *corruption_find(const char *name) {
    for (int i = 0; i < CORRUPTION_COUNT; i++)
        if (strcmp(corruptions[i].name, name) == 0)
            return &corruptions[i];
    return NULL;
}

Status corruption_check_side(int side, Error *err) {
    if (side == 64 || side == 32)
        return STATUS_OK;
    return error_set(err, STATUS_DATA,
                     "corruptions are defined for images of 64x64 and 32x32 pixels, not for a side of %d", side);
}

static Status corrupt_one(CorruptionWork *w, const Corruption *corruption, int severity, int64_t id, const uint8_t *in,
                          uint8_t *out) {
    const int values = 3 * w->side * w->side;
    w->p = (w->side == 64 ? corruption->at64 : corruption->at32)[severity - 1];
    w->draws = philox_reader(0, PHILOX_CORRUPTION, (uint64_t)id, corruption->number * 8 + (uint32_t)severity);
    w->status = STATUS_OK;
    image_from_bytes(in, values, w->x);
    corruption->apply(w);
    bytes_from_image(w->x, values, out);
    return w->status;
}

Status corrupt_images(const Corruption *corruption, int severity, int side, int64_t n, const int64_t *ids,
                      const uint8_t *in, uint8_t *out, Error *err) {
    RETURN_IF(corruption_check_side(side, err));
    const size_t image = 3 * (size_t)side * (size_t)side;
    Status failed = STATUS_OK;
#pragma omp parallel
    {
        CorruptionWork *w = malloc(sizeof *w);
        if (w)
            w->side = side;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n; i++) {
            const size_t at = (size_t)i * image;
            const Status status = w ? corrupt_one(w, corruption, severity, ids[i], in + at, out + at) : STATUS_SYSTEM;
            if (status != STATUS_OK) {
#pragma omp critical(corruption_failed)
                {
                    failed = status;
                    error_set(err, status, "%s", w ? w->error.message : "out of memory for corrupted images");
                }
            }
        }
        free(w);
    }
    return failed;
}
