/* Gathering and scattering of strided pixels; see pixels.h. */
#include <string.h>

#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/products/pixels.h"

int pixels_strided(const ConvGeometry *g) {
    return g->R == 1 && g->pad == 0 && g->stride > 1;
}

void pixels_gather(Device *device, const ConvGeometry *g, DType type, int64_t N, const void *x, void *packed) {
    const int P = conv_out(g->H, 1, g->stride, 0), Q = conv_out(g->W, 1, g->stride, 0);
    const size_t pixel = (size_t)g->C * dtype_size(type), line = (size_t)g->W * pixel;
    const int parts = threads_for(device, N * P * Q * g->C);
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        const Part lines = part_of(N * P, parts, i, 1);
        char *to = (char *)packed + (size_t)lines.first * (size_t)Q * pixel;
        for (int64_t l = lines.first; l < lines.last; l++) {
            const char *from = (const char *)x + (size_t)(l / P * g->H + l % P * g->stride) * line;
            for (int q = 0; q < Q; q++, to += pixel, from += (size_t)g->stride * pixel)
                memcpy(to, from, pixel);
        }
    }
}

void pixels_scatter(Device *device, const ConvGeometry *g, DType type, int64_t N, const void *packed, void *dx) {
    const int P = conv_out(g->H, 1, g->stride, 0), Q = conv_out(g->W, 1, g->stride, 0);
    const size_t pixel = (size_t)g->C * dtype_size(type), line = (size_t)g->W * pixel;
    const int parts = threads_for(device, N * g->H * g->W * g->C);
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++) {
        const Part lines = part_of(N * g->H, parts, i, 1);
        for (int64_t l = lines.first; l < lines.last; l++) {
            char *to = (char *)dx + (size_t)l * line;
            const int64_t h = l % g->H;
            memset(to, 0, line);
            if (h % g->stride != 0)
                continue;
            const char *from = (const char *)packed + (size_t)((l / g->H * P + h / g->stride) * Q) * pixel;
            for (int q = 0; q < Q; q++, from += pixel)
                memcpy(to + (size_t)(q * g->stride) * pixel, from, pixel);
        }
    }
}
