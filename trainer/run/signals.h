/* Being told to stop: SIGUSR2 (mpirun forwards it to every rank), SIGTERM, SIGINT (Ctrl-C) and SIGHUP (the terminal is
 * gone) ask a run to save and exit 75. The handler sets a flag, on which ranks agree at a step boundary, and leaves
 * status.json saying "stopping", so that it does not say "training" should the process be killed before it has saved.
 *
 * SIGINT says so on stderr, and a second one ends the process at once. A SIGINT or SIGHUP that is ignored when the
 * program starts (nohup, a background job of a script) stays ignored. */
#ifndef EXCON_TRAINER_SIGNALS_H
#define EXCON_TRAINER_SIGNALS_H

#include <stddef.h>

/* First thing in main, before MPI_Init. */
void signals_install(void);
/* Number of the signal that asked this process to stop; 0 when none did. */
int signals_pending(void);

/* What the handler puts at `path`, by way of a file beside it, when a signal comes; `text` is copied. NULL: nothing any
 * more. At most SIGNALS_TEXT bytes, else nothing. */
enum { SIGNALS_TEXT = 1024 };
void signals_status(const char *path, const char *text, size_t size);

#endif
