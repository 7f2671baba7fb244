/* Sums over the D values of a row, in eight partial sums that compilers keep in vector registers; always in the same
 * order. */
#ifndef EXCON_TRAINER_VECTORS_H
#define EXCON_TRAINER_VECTORS_H

enum { VECTOR_LANES = 8 };

static inline double vector_total(const double part[VECTOR_LANES]) {
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

static inline double vector_dot(int D, const float *a, const float *b) {
    double part[VECTOR_LANES] = {0};
    int d = 0;
    for (; d + VECTOR_LANES <= D; d += VECTOR_LANES)
        for (int lane = 0; lane < VECTOR_LANES; lane++)
            part[lane] += (double)a[d + lane] * (double)b[d + lane];
    for (int lane = 0; d < D; d++, lane++)
        part[lane] += (double)a[d] * (double)b[d];
    return vector_total(part);
}

static inline double vector_dot_f64(int D, const float *a, const double *b) {
    double part[VECTOR_LANES] = {0};
    int d = 0;
    for (; d + VECTOR_LANES <= D; d += VECTOR_LANES)
        for (int lane = 0; lane < VECTOR_LANES; lane++)
            part[lane] += (double)a[d + lane] * b[d + lane];
    for (int lane = 0; d < D; d++, lane++)
        part[lane] += (double)a[d] * b[d];
    return vector_total(part);
}

static inline double vector_squared_distance(int D, const float *a, const float *b) {
    double part[VECTOR_LANES] = {0};
    int d = 0;
    for (; d + VECTOR_LANES <= D; d += VECTOR_LANES)
        for (int lane = 0; lane < VECTOR_LANES; lane++) {
            const double off = (double)a[d + lane] - (double)b[d + lane];
            part[lane] += off * off;
        }
    for (int lane = 0; d < D; d++, lane++) {
        const double off = (double)a[d] - (double)b[d];
        part[lane] += off * off;
    }
    return vector_total(part);
}

#endif
