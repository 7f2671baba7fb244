/* Choosing rows by a decision per row: masked image or backup, and the list of rejected ones. */
#include <string.h>

#include "kernels/contract/select.h"
#include "kernels/cpu/device/cpu_device.h"

static void select_rows_cpu(Device *device, int64_t N, size_t row_bytes, const int32_t *accept, const void *a,
                            const void *b, void *out) {
    int parts = threads_for(device, N * (int64_t)(row_bytes / sizeof(float)));
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t n = 0; n < N; n++) {
        size_t at = (size_t)n * row_bytes;
        const char *from = (const char *)(accept[n] ? a : b) + at;
        if (from != (char *)out + at)
            memcpy((char *)out + at, from, row_bytes);
    }
}

static void select_rejected_cpu(Device *device, int64_t N, const int32_t *accept, int64_t max, int32_t *index,
                                int32_t *count) {
    (void)device;
    int64_t rejected = 0, kept = 0;
    for (int64_t n = 0; n < N; n++) {
        if (accept[n])
            continue;
        if (kept < max)
            index[kept++] = (int32_t)n;
        rejected++;
    }
    for (int64_t n = kept; n < N; n++)
        index[n] = -1;
    *count = (int32_t)rejected;
}

const SelectOps select_ops_cpu = {
    .rows = select_rows_cpu,
    .rejected = select_rejected_cpu,
};
