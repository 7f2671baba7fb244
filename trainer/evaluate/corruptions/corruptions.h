/* Corruptions of images: 18 kinds in 5 severities, in the manner of Hendrycks and Dietterich, "Benchmarking neural
 * network robustness to common corruptions and perturbations" (ICLR 2019), with the severities published for 64- and
 * 32-pixel images. docs/evaluation.md has formulas, parameters, and what differs from the published sets.
 *
 * A corrupted image is a pure function of (image, sample id, corruption, severity): the same bytes whatever the rank,
 * the number of ranks and threads, the batch, the backend (it is computed on the host), and the instruction set. For
 * that the code relies on what IEEE 754 rounds correctly (double + - * / sqrt, conversions; floor, ceil, frexp and
 * ldexp are exact by nature), takes exp, log, sine and cosine from portable_math.h instead of libm, adds in one order,
 * and is compiled with -ffp-contract=off, so that no product is fused with a sum. jpeg_compression has the bytes that
 * the installed libjpeg-turbo gives: its integer transforms have been the same in all versions, but that is the
 * library's word, not ours. */
#ifndef EXCON_TRAINER_CORRUPTIONS_H
#define EXCON_TRAINER_CORRUPTIONS_H

#include <stdint.h>

#include "kernels/base/status.h"

enum { CORRUPTION_COUNT = 18, CORRUPTION_SEVERITIES = 5, CORRUPTION_PARAMETERS = 7 };

typedef struct CorruptionWork CorruptionWork;

typedef struct Corruption {
    const char *name;   /* lower case with underscores */
    const char *family; /* noise, blur, weather or digital */
    uint32_t number;    /* 1..18, part of the random key; a corruption keeps its number for ever */
    void (*apply)(CorruptionWork *work);
    double at64[CORRUPTION_SEVERITIES][CORRUPTION_PARAMETERS]; /* parameters for 64-pixel images, in the order that */
    double at32[CORRUPTION_SEVERITIES][CORRUPTION_PARAMETERS]; /* the function's comment names; for 32-pixel images */
} Corruption;

extern const Corruption corruptions[CORRUPTION_COUNT];

/* The corruption of that name, or NULL. */
const Corruption *corruption_find(const char *name);

/* STATUS_DATA, naming the sizes there are, when there are no parameters for images of `side` pixels. */
Status corruption_check_side(int side, Error *err);

/* Corrupts n images in [n,side,side,3] into out (same shape; in itself is allowed), on OpenMP's threads. severity 1..5;
 * ids [n], the samples' numbers in their dataset. STATUS_DATA for another side than 64 and 32, STATUS_SYSTEM when
 * memory runs out. */
Status corrupt_images(const Corruption *corruption, int severity, int side, int64_t n, const int64_t *ids,
                      const uint8_t *in, uint8_t *out, Error *err);

#endif
