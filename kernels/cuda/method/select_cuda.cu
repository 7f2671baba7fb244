/* Choosing rows by a decision per row: masked image or backup, and the list of rejected ones. */
#include "kernels/contract/select.h"
#include "kernels/cuda/threads/launch.cuh"
#include "kernels/cuda/threads/rank.cuh"

static const int UNITS_PER_THREAD = 4;

/* Unit: what a thread moves at once; a row is `units` of them. blockIdx.x is the row, blockIdx.y its part. out may be a
 * or b: every unit is read and written by one thread, and rows that are there already are left alone. */
template <typename Unit>
static __global__ void select_rows_kernel(int64_t units, const int32_t *__restrict__ accept, const Unit *a,
                                          const Unit *b, Unit *out) {
    const int64_t row = blockIdx.x;
    const Unit *from = (accept[row] ? a : b) + row * units;
    out += row * units;
    if (from == out)
        return;
    const int64_t first = (int64_t)blockIdx.y * BLOCK * UNITS_PER_THREAD + threadIdx.x;
    Unit moved[UNITS_PER_THREAD];
    for (int k = 0; k < UNITS_PER_THREAD; k++)
        if (first + k * BLOCK < units)
            moved[k] = from[first + k * BLOCK];
    for (int k = 0; k < UNITS_PER_THREAD; k++)
        if (first + k * BLOCK < units)
            out[first + k * BLOCK] = moved[k];
}

static void select_rows_cuda(Device *device, int64_t N, size_t row_bytes, const int32_t *accept, const void *a,
                             const void *b, void *out) {
    if (N == 0 || row_bytes == 0)
        return;
    const bool wide = row_bytes % 16 == 0 && ((uintptr_t)a | (uintptr_t)b | (uintptr_t)out) % 16 == 0;
    const int64_t units = (int64_t)(wide ? row_bytes / 16 : row_bytes);
    const dim3 grid((unsigned)N, (unsigned)ceil_div(units, BLOCK * UNITS_PER_THREAD));
    if (wide)
        CUDA_LAUNCH(device, select_rows_kernel<uint4>, grid, BLOCK, 0, units, accept, (const uint4 *)a,
                    (const uint4 *)b, (uint4 *)out);
    else
        CUDA_LAUNCH(device, select_rows_kernel<uint8_t>, grid, BLOCK, 0, units, accept, (const uint8_t *)a,
                    (const uint8_t *)b, (uint8_t *)out);
}

/* One block: there is one decision per image of a batch. */
static __global__ void select_rejected_kernel(int64_t N, const int32_t *__restrict__ accept, int64_t max,
                                              int32_t *__restrict__ index, int32_t *__restrict__ count) {
    int64_t rejected = 0;
    for (int64_t first = 0; first < N; first += BLOCK) {
        const int64_t n = first + threadIdx.x;
        const bool mine = n < N && accept[n] == 0;
        int found;
        const int64_t place = rejected + block_rank(mine, &found);
        if (mine && place < max)
            index[place] = (int32_t)n;
        rejected += found;
    }
    for (int64_t n = (rejected < max ? rejected : max) + threadIdx.x; n < N; n += BLOCK)
        index[n] = -1;
    if (threadIdx.x == 0)
        *count = (int32_t)rejected;
}

static void select_rejected_cuda(Device *device, int64_t N, const int32_t *accept, int64_t max, int32_t *index,
                                 int32_t *count) {
    CUDA_LAUNCH(device, select_rejected_kernel, 1, BLOCK, 0, N, accept, max, index, count);
}

extern "C" const SelectOps select_ops_cuda = {
    .rows = select_rows_cuda,
    .rejected = select_rejected_cuda,
};
