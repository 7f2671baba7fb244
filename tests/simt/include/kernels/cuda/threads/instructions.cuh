/* Stand-in for kernels/cuda/threads/instructions.cuh, which says what each of these does and what a lane holds. */
#ifndef SIMT_KERNELS_CUDA_INSTRUCTIONS_CUH
#define SIMT_KERNELS_CUDA_INSTRUCTIONS_CUH

#include <cuda_runtime.h>

void simt_load_matrices(unsigned (&r)[4], const void *row, bool transposed, const char *where);
void simt_multiply_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char *where);
void simt_multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char *where);

#define load_matrices(r, row) simt_load_matrices((r), (row), false, SIMT_HERE)
#define load_matrices_transposed(r, row) simt_load_matrices((r), (row), true, SIMT_HERE)
#define multiply_bf16(c, a, b) simt_multiply_bf16((c), (a), (b), SIMT_HERE)
#define multiply_tf32(c, a, b) simt_multiply_tf32((c), (a), (b), SIMT_HERE)

static inline float fast_exp2(float x) {
    const float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y; /* NaN stays */
}

#endif
