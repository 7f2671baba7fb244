/* Rank agreement: do two measures order the same things alike? */
#ifndef EXCON_TRAINER_KENDALL_H
#define EXCON_TRAINER_KENDALL_H

#include <stdint.h>

/* Kendall's tau-b (Kendall 1945) of a and b [n]: (concordant - discordant pairs) / sqrt(pairs not tied in a * pairs not
 * tied in b), -1..1. NaN when either is constant, n < 2, or a value is NaN. Takes time in n^2. */
double kendall_tau_b(int64_t n, const double *a, const double *b);

#endif
