#include "trainer/evaluate/statistics/kendall.h"

#include <math.h>

static int order(double x, double y) {
    return (x > y) - (x < y);
}

double kendall_tau_b(int64_t n, const double *a, const double *b) {
    double agreement = 0, untied_a = 0, untied_b = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(a[i]) || isnan(b[i]))
            return NAN;
        for (int64_t j = 0; j < i; j++) {
            const int in_a = order(a[i], a[j]), in_b = order(b[i], b[j]);
            agreement += in_a * in_b;
            untied_a += in_a != 0;
            untied_b += in_b != 0;
        }
    }
    return untied_a > 0 && untied_b > 0 ? agreement / sqrt(untied_a * untied_b) : NAN;
}
