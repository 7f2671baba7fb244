/* The one comparator of numeric tests.
 *
 * Two vectors agree when the relative L2 distance is within the tolerance and no element is off by more than
 * `element_factor` times that much of max(|want|, rms of want). NaN and Inf anywhere fail. A failure prints the worst
 * element, both values and the share of the allowance used. */
#ifndef EXCON_TESTS_COMPARE_H
#define EXCON_TESTS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum ToleranceKind {
    TOLERANCE_EXACT,      /* copies, selections, integer results */
    TOLERANCE_F32,        /* f32 arithmetic with f32 or wider accumulation */
    TOLERANCE_BF16,       /* results stored as bf16, or made of bf16 inputs that were rounded on the way */
    TOLERANCE_DIFFERENCE, /* against central differences of a double reference */
} ToleranceKind;

typedef struct Tolerance {
    const char *name;
    double relative_l2;
    double element_factor; /* INFINITY: the whole vector alone is judged */
    const char *reason;
    bool nan_is_open;  /* where `want` is NaN, anything is right */
    double least_norm; /* distances are relative to no less than this; for vectors that cancel to nothing */
} Tolerance;

const Tolerance *tolerance_of(ToleranceKind kind);

/* true when `got` agrees with `want` (n values each), else false after printing what differs. n = 0 agrees. */
bool compare_within(const char *what, int64_t n, const double *got, const double *want, const Tolerance *tolerance);
bool compare_vectors(const char *what, int64_t n, const double *got, const double *want, ToleranceKind kind);

#endif
