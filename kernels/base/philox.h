/* Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 *
 * A draw is a pure function of (key, counter): no state, so the same numbers come out whatever the rank, thread or
 * backend. Header-only because the CUDA kernels inline the same source. */
#ifndef EXCON_BASE_PHILOX_H
#define EXCON_BASE_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define PHILOX_FN static __host__ __device__ inline
#else
#define PHILOX_FN static inline
#endif

typedef struct Philox4 {
    uint32_t v[4];
} Philox4;

PHILOX_FN Philox4 philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    Philox4 c;
    c.v[0] = (uint32_t)counter_low;
    c.v[1] = (uint32_t)(counter_low >> 32);
    c.v[2] = (uint32_t)counter_high;
    c.v[3] = (uint32_t)(counter_high >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c.v[2];
        Philox4 n;
        n.v[0] = (uint32_t)(p1 >> 32) ^ c.v[1] ^ k0;
        n.v[1] = (uint32_t)p1;
        n.v[2] = (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1;
        n.v[3] = (uint32_t)p0;
        c = n;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Uniform in [0, 1): 24 bits, exact in float32. */
PHILOX_FN float philox_uniform(uint32_t bits) {
    return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

/* Who draws: keeps the streams of different purposes apart under one user seed (upper counter word). */
typedef enum PhiloxStream {
    PHILOX_VIEW = 1,       /* augmentation: (epoch, view, sample id) */
    PHILOX_ORDER = 2,      /* sample order of an epoch */
    PHILOX_SPLIT = 3,      /* validation hold-out */
    PHILOX_INIT = 4,       /* parameter initialisation */
    PHILOX_SYNTHETIC = 5,  /* procedural dataset */
    PHILOX_IMPORT = 6,     /* storage order of imported samples */
    PHILOX_CORRUPTION = 7, /* evaluation: (sample id, corruption, severity) */
    PHILOX_BOOTSTRAP = 8   /* draws of a bootstrap: (draw) */
} PhiloxStream;

/* Sequential reader over one counter block; at most 2^32 blocks of four words. */
typedef struct PhiloxReader {
    uint64_t key, low, high;
    Philox4 block;
    uint32_t index, used;
} PhiloxReader;

/* `low` and `high & 0xFFFFFFFF` are the caller's coordinates; the block index takes the upper half of `high`. */
PHILOX_FN PhiloxReader philox_reader(uint64_t seed, PhiloxStream stream, uint64_t low, uint32_t high) {
    PhiloxReader r;
    r.key = seed + 0x9E3779B97F4A7C15ull * (uint64_t)stream;
    r.low = low;
    r.high = high;
    r.index = 0;
    r.used = 4;
    for (int i = 0; i < 4; i++)
        r.block.v[i] = 0;
    return r;
}

PHILOX_FN uint32_t philox_next(PhiloxReader *r) {
    if (r->used == 4) {
        r->block = philox4x32(r->key, r->low, r->high | ((uint64_t)r->index << 32));
        r->index++;
        r->used = 0;
    }
    return r->block.v[r->used++];
}

PHILOX_FN float philox_next_uniform(PhiloxReader *r) {
    return philox_uniform(philox_next(r));
}

/* Uniform integer in [0, n), n > 0, by multiplication (bias below n / 2^32). */
PHILOX_FN uint32_t philox_next_below(PhiloxReader *r, uint32_t n) {
    return (uint32_t)(((uint64_t)philox_next(r) * n) >> 32);
}

#endif
