#include "tests/support/compare.h"

#include <math.h>
#include <stdio.h>

static const Tolerance tolerances[] = {
    [TOLERANCE_EXACT] = {"exact", 0.0, "nothing is rounded"},
    [TOLERANCE_F32] = {"f32", 1e-5, "2^-24 per operation, growing with the root of at most some thousand terms"},
    [TOLERANCE_BF16] = {"bf16", 1e-2, "2^-9 per stored value, a few roundings deep"},
    [TOLERANCE_DIFFERENCE] = {"difference", 1e-4, "f32 operator against differences with a step of 1e-5 in double"},
};

const Tolerance *tolerance_of(ToleranceKind kind) {
    return &tolerances[kind];
}

int compare_vectors(const char *what, int64_t n, const double *got, const double *want, ToleranceKind kind) {
    if (n == 0)
        return 1;
    const Tolerance *tolerance = tolerance_of(kind);
    double difference = 0, norm = 0, worst_share = -1;
    int64_t worst = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    double rms = sqrt(norm / (double)n);
    for (int64_t i = 0; i < n; i++) {
        double allowed = ELEMENT_FACTOR * tolerance->relative_l2 * fmax(fabs(want[i]), rms);
        double off = fabs(got[i] - want[i]);
        double share = off == 0 ? 0 : off / allowed;
        if (!(share <= worst_share)) {
            worst_share = share;
            worst = i;
            if (isnan(share))
                break;
        }
    }
    double relative = difference == 0 ? 0 : sqrt(difference) / sqrt(norm);
    if (relative <= tolerance->relative_l2 && worst_share <= 1)
        return 1;
    printf("%s: relative L2 %.3g, %s allows %.3g (%s); worst element %lld of %lld: got %.9g, want %.9g, %.3g of its "
           "allowance\n",
           what, relative, tolerance->name, tolerance->relative_l2, tolerance->reason, (long long)worst, (long long)n,
           got[worst], want[worst], worst_share);
    return 0;
}
