/* What the random transform does to one pixel; inlined by every backend, so that none has definitions of its own.
 *
 * Colours are in [0,1], rgb is red, green and blue. The operators are torchvision's on float tensors; each clamps its
 * result to [0,1]. Compilers may contract these float32 expressions differently, which moves a pixel by a few units in
 * the last place; where a source pixel is sampled is fixed by an explicit fma. */
#ifndef EXCON_CONTRACT_VIEWS_PIXEL_H
#define EXCON_CONTRACT_VIEWS_PIXEL_H

#include "kernels/contract/views.h"

/* Where output position `index` of `out` falls among `in` source positions: between `first` and its right (lower)
 * neighbour, or on the last one. */
typedef struct ViewSample {
    int32_t first;
    float share; /* weight of the neighbour */
} ViewSample;

/* Half-pixel centres, edges clamped. In double: in float32 the weight would lose as many bits as the coordinate has
 * before the point. */
PHILOX_FN ViewSample views_sample(int index, int in, int out) {
    double at = fma((double)index + 0.5, (double)in / (double)out, -0.5);
    at = at > 0.0 ? at : 0.0;
    ViewSample sample;
    sample.first = (int32_t)at < in - 1 ? (int32_t)at : in - 1;
    sample.share = (float)(at - (double)sample.first);
    return sample;
}

/* A source byte as a colour in [0,1]. */
PHILOX_FN float views_unit(uint8_t value) {
    return (float)value * (1.0f / 255.0f);
}

PHILOX_FN float views_mix(float first, float second, float share) {
    return first + share * (second - first);
}

PHILOX_FN float views_clamp(float value) {
    value = value > 0.0f ? value : 0.0f;
    return value < 1.0f ? value : 1.0f;
}

PHILOX_FN float views_grey(float r, float g, float b) {
    return 0.2989f * r + 0.587f * g + 0.114f * b;
}

PHILOX_FN float views_brightness(float value, float factor) {
    return views_clamp(factor * value);
}

/* Towards or away from a grey: offset = (1 - factor) * grey. Contrast takes the mean grey of the image as it is at that
 * point of the order, saturation the pixel's own. */
PHILOX_FN float views_blend(float value, float factor, float offset) {
    return views_clamp(factor * value + offset);
}

PHILOX_FN void views_saturation(float rgb[3], float factor) {
    float offset = (1.0f - factor) * views_grey(rgb[0], rgb[1], rgb[2]);
    rgb[0] = views_blend(rgb[0], factor, offset);
    rgb[1] = views_blend(rgb[1], factor, offset);
    rgb[2] = views_blend(rgb[2], factor, offset);
}

/* Channel of the colour with hue `sextant` (modulo 6), maximum `high` and spread `chroma`; offset 5 gives red, 3 green,
 * 1 blue. This is the hexagonal HSV model: the channel falls from `high` by chroma over the sextants opposite to it. */
PHILOX_FN float views_hsv_channel(float sextant, float offset, float high, float chroma) {
    float k = sextant + offset;
    k -= 6.0f * floorf(k * (1.0f / 6.0f));
    float fall = k < 4.0f - k ? k : 4.0f - k;
    return views_clamp(high - chroma * views_clamp(fall));
}

/* Rotates hue by `turn` of a full circle, keeping value and saturation. */
PHILOX_FN void views_hue(float rgb[3], float turn) {
    float r = rgb[0], g = rgb[1], b = rgb[2];
    float high = r > g ? r : g, low = r > g ? g : r;
    high = high > b ? high : b;
    low = low < b ? low : b;
    float chroma = high - low;
    float inverse = 1.0f / (chroma > 0.0f ? chroma : 1.0f);
    float from_red = (g - b) * inverse, from_green = 2.0f + (b - r) * inverse, from_blue = 4.0f + (r - g) * inverse;
    float sextant = high == r ? from_red : high == g ? from_green : from_blue;
    sextant += 6.0f * turn;
    rgb[0] = views_hsv_channel(sextant, 5.0f, high, chroma);
    rgb[1] = views_hsv_channel(sextant, 3.0f, high, chroma);
    rgb[2] = views_hsv_channel(sextant, 1.0f, high, chroma);
}

#endif
