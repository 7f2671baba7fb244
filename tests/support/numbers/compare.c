#include "tests/support/numbers/compare.h"

#include <math.h>
#include <stdio.h>

/* clang-format off */
static const Tolerance tolerances[] = {
    [TOLERANCE_EXACT]      = {"exact",      0.0,  10, "nothing is rounded", false, 0},
    [TOLERANCE_F32]        = {"f32",        1e-5, 10, "2^-24 per operation, growing with the root of at most some thousand terms", false, 0},
    [TOLERANCE_BF16]       = {"bf16",       1e-2, 10, "2^-9 per stored value, a few roundings deep", false, 0},
    [TOLERANCE_DIFFERENCE] = {"difference", 1e-4, 10, "f32 operator against differences with a step of 1e-5 in double", false, 0},
};
/* clang-format on */

const Tolerance *tolerance_of(ToleranceKind kind) {
    return &tolerances[kind];
}

typedef struct Distance {
    double difference, norm; /* L2, over what is specified */
    int64_t specified;
} Distance;

static Distance distance(int64_t n, const double *got, const double *want, const Tolerance *tolerance) {
    Distance d = {0};
    for (int64_t i = 0; i < n; i++) {
        if (tolerance->nan_is_open && isnan(want[i]))
            continue;
        d.difference += (got[i] - want[i]) * (got[i] - want[i]);
        d.norm += want[i] * want[i];
        d.specified++;
    }
    d.difference = sqrt(d.difference);
    d.norm = fmax(sqrt(d.norm), tolerance->least_norm);
    return d;
}

bool compare_within(const char *what, int64_t n, const double *got, const double *want, const Tolerance *tolerance) {
    const Distance d = distance(n, got, want, tolerance);
    if (d.specified == 0)
        return true;
    const bool each = isfinite(tolerance->element_factor);
    const double rms = d.norm / sqrt((double)d.specified);
    double worst_share = -1;
    int64_t worst = 0;
    for (int64_t i = 0; i < n && !isnan(worst_share); i++) {
        if (tolerance->nan_is_open && isnan(want[i]))
            continue;
        const double least = each ? tolerance->element_factor * fmax(fabs(want[i]), rms) : d.norm;
        const double off = fabs(got[i] - want[i]);
        const double share = off == 0 ? 0 : off / (tolerance->relative_l2 * least);
        if (!(share <= worst_share)) {
            worst_share = share;
            worst = i;
        }
    }
    const double relative = d.difference == 0 ? 0 : d.difference / d.norm;
    if (relative <= tolerance->relative_l2 && worst_share <= 1)
        return true;
    printf("%s: relative L2 %.3g, %s allows %.3g (%s); worst element %lld of %lld: got %.9g, want %.9g, %.3g of its "
           "allowance\n",
           what, relative, tolerance->name, tolerance->relative_l2, tolerance->reason, (long long)worst, (long long)n,
           got[worst], want[worst], worst_share);
    return false;
}

bool compare_vectors(const char *what, int64_t n, const double *got, const double *want, ToleranceKind kind) {
    return compare_within(what, n, got, want, tolerance_of(kind));
}
