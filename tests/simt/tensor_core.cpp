/* Matrix loads and products of a warp, element by element as the PTX manual lays them out over the lanes.
 *
 * Every lane leaves its part where all lanes of the warp find it, the lanes meet, and each makes its own part of the
 * result. Two places take turns, so that one meeting per instruction is enough: who leaves something in a place again
 * has met everyone in between.
 *
 * Products are exact; a product's sum and the old value are added in double and cut off to a float, as the hardware
 * does it, so that a kernel whose long sums would be biased there is biased here. */
#include <stdio.h>
#include <stdlib.h>

#include "include/cuda_bf16.h"
#include "include/cuda_runtime.h"
#include "include/kernels/cuda/threads/instructions.cuh"

namespace {

enum { WARPS = 32, LANES = 32, PLACES = 2 };

struct Place {
    const unsigned char *row[LANES];
    float left[16][16], right[8][16]; /* right by column */
};

Place places[WARPS][PLACES];
unsigned turns[WARPS * LANES];

/* The place of the calling lane's next instruction. */
Place *next_place() {
    const unsigned rank = simt_thread->rank;
    return &places[rank / LANES][turns[rank]++ % PLACES];
}

/* To a float that is not farther from zero. */
float cut_off(double x) {
    const float near = static_cast<float>(x);
    return fabs(static_cast<double>(near)) > fabs(x) ? nextafterf(near, 0.0f) : near;
}

void add_products(float (&c)[4], const Place *place, int K) {
    const unsigned g = simt_thread->lane / 4, t = simt_thread->lane % 4;
    for (unsigned i = 0; i < 4; i++) {
        const float *a = place->left[g + i / 2 * 8], *b = place->right[2 * t + i % 2];
        double sum = static_cast<double>(c[i]);
        for (int k = 0; k < K; k++)
            sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
        c[i] = cut_off(sum);
    }
}

float bf16_of(unsigned pair, unsigned half) {
    return __uint_as_float(half ? pair & 0xFFFF0000u : pair << 16);
}

float tf32_of(unsigned bits) {
    return __uint_as_float(bits & 0xFFFFE000u);
}

} // namespace

void simt_load_matrices(unsigned (&r)[4], const void *row, bool transposed, const char *where) {
    if (reinterpret_cast<uintptr_t>(row) % 16) {
        fprintf(stderr, "simt: ldmatrix from an address that is no multiple of 16, %s\n", where);
        abort();
    }
    Place *place = next_place();
    const unsigned g = simt_thread->lane / 4, t = simt_thread->lane % 4;
    place->row[simt_thread->lane] = static_cast<const unsigned char *>(row);
    simt_sync_warp(where);
    for (unsigned j = 0; j < 4; j++) {
        const unsigned char *const *rows = place->row + 8 * j;
        if (transposed) {
            uint16_t halves[2];
            memcpy(&halves[0], rows[2 * t] + 2 * g, 2);
            memcpy(&halves[1], rows[2 * t + 1] + 2 * g, 2);
            r[j] = halves[0] | static_cast<unsigned>(halves[1]) << 16;
        } else {
            memcpy(&r[j], rows[g] + 4 * t, 4);
        }
    }
}

void simt_multiply_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char *where) {
    Place *place = next_place();
    const unsigned g = simt_thread->lane / 4, t = simt_thread->lane % 4;
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned i = 0; i < 4; i++)
            place->left[g + i % 2 * 8][2 * t + half + i / 2 * 8] = bf16_of(a[i], half);
        for (unsigned i = 0; i < 2; i++)
            place->right[g][2 * t + half + i * 8] = bf16_of(b[i], half);
    }
    simt_sync_warp(where);
    add_products(c, place, 16);
}

void simt_multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char *where) {
    Place *place = next_place();
    const unsigned g = simt_thread->lane / 4, t = simt_thread->lane % 4;
    for (unsigned i = 0; i < 4; i++)
        place->left[g + i % 2 * 8][t + i / 2 * 4] = tf32_of(a[i]);
    for (unsigned i = 0; i < 2; i++)
        place->right[g][t + i * 4] = tf32_of(b[i]);
    simt_sync_warp(where);
    add_products(c, place, 8);
}
