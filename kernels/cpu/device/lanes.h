/* Loads and stores of f32 and bf16 elements for loops the compiler vectorises.
 *
 * A kernel body is written once as an always-inline function taking `DType`; callers branch on the type outside the
 * loop with a constant, so each copy has straight-line conversions. bf16 is the upper half of f32; rounding is to
 * nearest even by integer arithmetic, NaNs stay NaN. Everything compiles for plain x86-64 too. */
#ifndef EXCON_KERNELS_CPU_LANES_H
#define EXCON_KERNELS_CPU_LANES_H

#include <string.h>

#include "kernels/device.h"

#define BODY static inline __attribute__((always_inline)) void

static inline __attribute__((always_inline)) float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline __attribute__((always_inline)) uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) float float_of_bf16(uint16_t value) {
    return float_of_bits((uint32_t)value << 16);
}

static inline __attribute__((always_inline)) uint16_t bf16_of_float(float value) {
    uint32_t bits = bits_of_float(value);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

static inline __attribute__((always_inline)) float lane_load(DType type, const void *base, int64_t i) {
    return type == DTYPE_BF16 ? float_of_bf16(((const uint16_t *)base)[i]) : ((const float *)base)[i];
}

static inline __attribute__((always_inline)) void lane_store(DType type, void *base, int64_t i, float value) {
    if (type == DTYPE_BF16)
        ((uint16_t *)base)[i] = bf16_of_float(value);
    else
        ((float *)base)[i] = value;
}

/* Address of element i of an array of `type`; NULL stays NULL. */
static inline const void *lane_at(DType type, const void *base, int64_t i) {
    return base ? (const char *)base + (size_t)i * dtype_size(type) : NULL;
}

static inline void *lane_at_out(DType type, void *base, int64_t i) {
    return (char *)base + (size_t)i * dtype_size(type);
}

#endif
