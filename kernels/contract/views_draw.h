/* Draws the parameters of one random view; inlined by every backend.
 *
 * The words come from one Philox block sequence, stream PHILOX_VIEW, counter (sample id, epoch * 8 + view). Each word
 * has a fixed place, so what is drawn for one purpose never depends on another:
 *
 *   word 0      flip             word 1      jitter applied?    words 2..4  order (Fisher-Yates from the back: below 4,
 * 3, 2) words 5..8  brightness, contrast, saturation, hue           word 9      grey word 10, 11 crop y, x        words
 * 12 + 2k, 13 + 2k         area and log ratio of crop attempt k = 0..9
 *
 * The crop is torchvision's RandomResizedCrop.get_params. Everything that is rounded to whole pixels is computed in
 * double with explicit fma, so contraction choices of the compilers cannot move a crop; log and exp may differ in the
 * last place between C libraries, which matters only within 1e-13 pixels of a rounding boundary. */
#ifndef EXCON_CONTRACT_VIEWS_DRAW_H
#define EXCON_CONTRACT_VIEWS_DRAW_H

#include "kernels/contract/views.h"

#define VIEWS_CROP_ATTEMPTS 10

/* low + (high - low) * u, rounded once. */
PHILOX_FN double views_between(double low, double high, uint32_t word) {
    return fma(high - low, (double)philox_uniform(word), low);
}

/* Multiplicative jitter factor of the given strength: uniform in [max(0, 1 - strength), 1 + strength]. */
PHILOX_FN float views_factor(float strength, uint32_t word) {
    double low = 1.0 - (double)strength;
    return (float)views_between(low > 0.0 ? low : 0.0, 1.0 + (double)strength, word);
}

/* Largest central crop of an H x W image with its ratio w/h clamped to [ratio_min, ratio_max]. */
PHILOX_FN void views_central_crop(const ViewSpec *spec, int H, int W, int32_t crop[4]) {
    double ratio = (double)W / (double)H;
    int h = H, w = W;
    if (ratio < (double)spec->ratio_min)
        h = (int)rint((double)W / (double)spec->ratio_min);
    else if (ratio > (double)spec->ratio_max)
        w = (int)rint((double)H * (double)spec->ratio_max);
    crop[0] = (H - h) / 2;
    crop[1] = (W - w) / 2;
    crop[2] = h;
    crop[3] = w;
}

PHILOX_FN void views_draw_crop(const ViewSpec *spec, PhiloxReader *words, uint32_t word_y, uint32_t word_x, int H,
                               int W, int32_t crop[4]) {
    double log_min = log((double)spec->ratio_min), log_max = log((double)spec->ratio_max);
    for (int attempt = 0; attempt < VIEWS_CROP_ATTEMPTS; attempt++) {
        uint32_t word_area = philox_next(words), word_ratio = philox_next(words);
        double area =
            (double)H * (double)W * views_between((double)spec->scale_min, (double)spec->scale_max, word_area);
        double aspect = exp(views_between(log_min, log_max, word_ratio));
        double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect));
        if (w > 0.0 && w <= (double)W && h > 0.0 && h <= (double)H) {
            crop[2] = (int32_t)h;
            crop[3] = (int32_t)w;
            crop[0] = (int32_t)(((uint64_t)word_y * (uint64_t)(H - crop[2] + 1)) >> 32);
            crop[1] = (int32_t)(((uint64_t)word_x * (uint64_t)(W - crop[3] + 1)) >> 32);
            return;
        }
    }
    views_central_crop(spec, H, W, crop);
}

/* Grey, whether there is jitter, its order and its factors, from their words. */
PHILOX_FN void views_draw_colours(const ViewSpec *spec, const uint32_t word[12], ViewParams *out) {
    out->grey = philox_uniform(word[9]) < spec->grey_probability;
    out->jittered = philox_uniform(word[1]) < spec->jitter_probability;
    if (!out->jittered)
        return;
    for (int last = 3; last > 0; last--) {
        int pick = (int)(((uint64_t)word[5 - last] * (uint64_t)(last + 1)) >> 32);
        int32_t kept = out->order[last];
        out->order[last] = out->order[pick];
        out->order[pick] = kept;
    }
    out->jitter[0] = views_factor(spec->brightness, word[5]);
    out->jitter[1] = views_factor(spec->contrast, word[6]);
    out->jitter[2] = views_factor(spec->saturation, word[7]);
    out->jitter[3] = (float)views_between(-(double)spec->hue, (double)spec->hue, word[8]);
}

/* Fills `out` for sample `id` of H x W pixels. Without jitter the order is 0..3 and the factors are neutral (1, 1, 1,
 * 0); VIEW_STANDARD is the identity; VIEW_CROP_FLIP draws the crop and the flip only. */
PHILOX_FN void views_draw(const ViewSpec *spec, int64_t id, int H, int W, ViewParams *out) {
    out->crop[0] = out->crop[1] = 0;
    out->crop[2] = H;
    out->crop[3] = W;
    out->flip = out->jittered = out->grey = 0;
    for (int k = 0; k < 4; k++) {
        out->order[k] = k;
        out->jitter[k] = k < 3 ? 1.0f : 0.0f;
    }
    if (spec->kind == VIEW_STANDARD)
        return;

    PhiloxReader words = philox_reader(spec->seed, PHILOX_VIEW, (uint64_t)id, spec->epoch * 8u + spec->view);
    uint32_t word[12];
    for (int k = 0; k < 12; k++)
        word[k] = philox_next(&words);
    out->flip = philox_uniform(word[0]) < spec->flip_probability;
    if (spec->kind == VIEW_RANDOM)
        views_draw_colours(spec, word, out);
    views_draw_crop(spec, &words, word[10], word[11], H, W, out->crop);
}

#endif
