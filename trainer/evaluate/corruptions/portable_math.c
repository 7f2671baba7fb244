/* Argument reduction, then the Taylor polynomial by Horner's rule. */
#include "trainer/evaluate/corruptions/portable_math.h"

#include <math.h>

/* ln 2 in two parts; products of the first with a small integer are exact. */
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#define HALF_PI 0x1.921fb54442d18p+0

double portable_exp(double x) {
    if (x < -700.0)
        return 0.0;
    const double k = floor(x / (LN2_HIGH + LN2_LOW) + 0.5);
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW; /* within ln 2 / 2 of 0 */
    double sum = 1.0;
    for (int n = 14; n > 0; n--)
        sum = 1.0 + sum * r / n;
    return ldexp(sum, (int)k);
}

double portable_log(double x) {
    int exponent;
    double m = frexp(x, &exponent);
    if (m < 0.70710678118654752) {
        m *= 2.0;
        exponent--;
    }
    /* ln m = 2 artanh s, |s| below 0.172 */
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double sum = 0.0;
    for (int n = 23; n > 0; n -= 2)
        sum = sum * z + 1.0 / n;
    return (exponent * LN2_LOW + 2.0 * s * sum) + exponent * LN2_HIGH;
}

void portable_sincos(double turns, double *sine, double *cosine) {
    const double quarters = 4.0 * turns, nearest = floor(quarters + 0.5);
    const double r = (quarters - nearest) * HALF_PI, z = r * r; /* within an eighth of a turn */
    double s = 1.0, c = 1.0;
    for (int n = 18; n > 0; n -= 2) {
        s = 1.0 - s * z / (n * (n + 1));
        c = 1.0 - c * z / (n * (n - 1));
    }
    s *= r;
    const int quadrant = (int)((long)nearest & 3);
    *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}
