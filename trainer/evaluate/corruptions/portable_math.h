/* Elementary functions from correctly rounded operations alone: the same bits on every machine, which libm does not
 * promise. Accurate to some 1e-15, relative. Compile users and portable_math.c with -ffp-contract=off. */
#ifndef EXCON_TRAINER_CORRUPTIONS_PORTABLE_MATH_H
#define EXCON_TRAINER_CORRUPTIONS_PORTABLE_MATH_H

/* e^x for x up to 700; 0 below -700. */
double portable_exp(double x);

/* Natural logarithm of a positive, normal number. */
double portable_log(double x);

/* Sine and cosine of `turns` full turns, |turns| below 2^20. */
void portable_sincos(double turns, double *sine, double *cosine);

#endif
