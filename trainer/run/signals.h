/* Preemption: SIGUSR2 (mpirun forwards it to every rank) and SIGTERM ask a run to save and exit 75. The handler only
 * sets a flag; ranks agree on it at a step boundary. */
#ifndef EXCON_TRAINER_SIGNALS_H
#define EXCON_TRAINER_SIGNALS_H

/* First thing in main, before MPI_Init. */
void signals_install(void);
/* Number of the signal that asked this process to stop; 0 when none did. */
int signals_pending(void);

#endif
