/* How many threads this process may run: what the user asks OpenMP for, which processors it may be scheduled on, and
 * how much processor time its control groups grant. Linux only. */
#ifndef EXCON_BASE_PROCESSORS_H
#define EXCON_BASE_PROCESSORS_H

#include <sched.h>
#include <stddef.h>

enum { THREADS_WHY_BYTES = 112 };

/* Processor time granted by the control groups of this process and all groups above them that it can see, in processors
 * (1.5: three seconds of every two); the smallest of v1's cpu.cfs_quota_us and v2's cpu.max. 0: no limit is set.
 * `root` stands before /proc/self and before the mount points found there: "" for the running system. */
double processors_quota(const char *root);

/* The processors that an MPI launcher above this process may use (Open MPI's mpirun and its daemons), when its own rule
 * of binding each rank to one of them is in force, and not a choice of the user's (--bind-to, PE=n, OMP_PROC_BIND,
 * OMP_PLACES). Returns 1 then, and 0 otherwise: the present binding is to be kept. To be asked before MPI_Init, which
 * sets some of the same variables in any process. */
int processors_of_launcher(cpu_set_t *allowed);

/* Threads for a process whose part of the processors is `share` (at least 1 thread; fractions are cut off) and whose
 * part of the quota is `quota` (0: none). OMP_NUM_THREADS decides when it is set. `why` says what decided, for a
 * person; `counted` names the processors in it: "2 of 64 processors". */
int processors_threads(double share, double quota, const char *counted, char why[THREADS_WHY_BYTES]);

/* processors_threads() for a program that runs alone: its affinity and quota. */
int processors_threads_alone(char why[THREADS_WHY_BYTES]);

/* Threads that OpenMP really gives to a region that asks for `wanted`; from then on the calling thread's regions always
 * get as many: OMP_DYNAMIC is read as "choose at the start". OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS also make it
 * fewer. oneDNN waits for ever for threads it asked for and did not get. */
int processors_team(int wanted);

#endif
