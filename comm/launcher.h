/* Launcher: ends this rank when the process that started it (mpirun, or its daemon on another host) is gone.
 *
 * A killed mpirun cannot end its ranks. Open MPI 4 ends them itself within two seconds; Open MPI 5 only when they
 * happen to be inside a call of MPI, so that a rank that computes, reads or writes would go on by itself, holding the
 * run's lock. So a thread of each rank looks for its launcher once a second, and ends the process with STATUS_SYSTEM
 * when it is gone. The parent-death signal of the kernel would not do: it tells of the thread that forked, and of the
 * direct parent, which may be a script between launcher and rank.
 *
 * A process that no launcher started (process_launcher tells) is never ended here, whatever becomes of its parents: a
 * program started from a shell, by nohup, by systemd.
 *
 * Limits: needs /proc. A launcher in an outer PID namespace is not seen; containers end their processes themselves.
 * Under a persistent server of jobs (prte with prun) that server is the launcher. */
#ifndef EXCON_COMM_LAUNCHER_H
#define EXCON_COMM_LAUNCHER_H

#include "kernels/base/status.h"

typedef struct Launcher Launcher;

/* Finds this process's launcher, and watches it until the process ends, which frees *launcher; NULL there: it has none,
 * or none is visible. Call before MPI_Init, when it surely lives. The message goes to stderr, with `host` (copied).
 * STATUS_SYSTEM when the thread cannot be started. */
Status launcher_watch(const char *host, Launcher **launcher, Error *err);

/* Has the message written to `log` (duplicated; -1: no log) too. NULL launcher does nothing. */
void launcher_log(Launcher *launcher, int log);

#endif
