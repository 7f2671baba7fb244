/* The one clock of the program. */
#ifndef EXCON_BASE_CLOCK_H
#define EXCON_BASE_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

/* Seconds since some moment; goes on evenly whatever happens to the time of day. */
double clock_seconds(void);

#ifdef __cplusplus
}
#endif
#endif
