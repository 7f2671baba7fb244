/* Stand-in for CUDA's bfloat16 type: the upper half of a float, rounded to nearest even. */
#ifndef SIMT_CUDA_BF16_H
#define SIMT_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

#include "vector_types.h"

struct __nv_bfloat16 {
    uint16_t x;
};

struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 value) {
    uint32_t bits = (uint32_t)value.x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    __nv_bfloat16 out;
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        out.x = 0x7FFF; /* the hardware's NaN */
    else
        out.x = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    return out;
}

static inline __nv_bfloat16 __float2bfloat16(float value) {
    return __float2bfloat16_rn(value);
}

/* x goes to the lower half. */
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    __nv_bfloat162 out;
    out.x = __float2bfloat16_rn(x);
    out.y = __float2bfloat16_rn(y);
    return out;
}

static inline float2 __bfloat1622float2(__nv_bfloat162 value) {
    return make_float2(__bfloat162float(value.x), __bfloat162float(value.y));
}

#endif
