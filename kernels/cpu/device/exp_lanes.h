/* exp for vectorised loops: branch-free float32, relative error below 1e-7 where the result is a normal number.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) is its Taylor polynomial of degree 7 (truncation below 6e-9), and 2^n is
 * made in the exponent bits. Results below the normal range are 0, so exp(-inf) is exactly 0; arguments above 88 give
 * exp(88); NaN stays NaN. */
#ifndef EXCON_KERNELS_CPU_EXP_LANES_H
#define EXCON_KERNELS_CPU_EXP_LANES_H

#include "kernels/cpu/device/lanes.h"

static inline __attribute__((always_inline)) float lane_exp(float x) {
    const float lowest = -87.3f, highest = 88.0f;
    const float round_shift = 12582912.0f;   /* 1.5 * 2^23: adding it rounds to an integer */
    float bounded = x > lowest ? x : lowest; /* NaN becomes a number here, so that n is defined */
    bounded = bounded < highest ? bounded : highest;
    float n = (bounded * 1.44269504f + round_shift) - round_shift;
    float r = bounded - n * 0.693145752f; /* ln 2 in two parts; the first has few bits, n times it is exact */
    r = r - n * 1.42860677e-6f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    float scale = float_of_bits((uint32_t)(((int32_t)n + 127) << 23));
    float value = p * scale;
    value = x < lowest ? 0.0f : value;
    return x == x ? value : x;
}

#endif
