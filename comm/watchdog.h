/* Watchdog: ends a job in which a rank has stopped making progress, and names that rank.
 *
 * A rank makes progress when its main thread enters or leaves a collective, or begins a step. When one has made none
 * for `seconds`, its watchdog says on stderr and in the rank's log what it waits for and which ranks are absent, lets
 * the others say theirs (at most WATCHDOG_LINGER seconds), and ends the process with STATUS_HANG; mpirun then ends the
 * other ranks, stopped ones too, and exits with that code.
 *
 * Two threads per rank, neither of which calls MPI (which is initialised FUNNELED):
 *  - the judge counts silence and raises the alarm. It touches no file, so a run folder that hangs cannot stop it. Time
 *    in which the judge itself did not run is forgiven: a whole job that is suspended and continued raises no alarm.
 *  - the heart writes this rank's heartbeat, one line of text in FOLDER/heartbeat-NNNN, and in a silence reads those of
 *    the others. Files are opened anew each time, which makes network file systems show the others' writes.
 *
 * A rank is absent when its heartbeat has stopped; or when it computes instead of waiting, and either has entered fewer
 * collectives than others or is silent itself. A silence of `seconds` must therefore be longer than every legal one:
 * writing a checkpoint (others wait for rank 0), loading a split into memory, the slowest step. The first step needs no
 * allowance of its own beyond that.
 *
 * Limits: the step and collective of a stopped rank are those of its last heartbeat, at most a second old. A silent
 * wait that only one rank's file system causes looks like a rank that computes. Debuggers that stop one rank raise the
 * alarm.
 *
 * Ownership: main thread alone calls the functions here and writes the marks. */
#ifndef EXCON_COMM_WATCHDOG_H
#define EXCON_COMM_WATCHDOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"

#define WATCHDOG_LINGER 1.5

/* What the main thread does, for the other threads to read. Strings are literals. */
typedef struct WatchdogMarks {
    _Atomic int64_t progress;     /* moves with every mark */
    _Atomic int64_t entered;      /* collectives started; all ranks start the same ones in the same order */
    _Atomic int64_t step;         /* training steps done */
    _Atomic(const char *) phase;  /* of the run */
    _Atomic(const char *) inside; /* collective waited in; NULL: computing */
} WatchdogMarks;

typedef struct Watchdog {
    WatchdogMarks marks;
    struct WatchdogThreads *threads;
} Watchdog;

/* Starts watching and sets comm->watchdog; collective. `folder` holds the heartbeats and is shared by all ranks; the
 * report goes to `log` (duplicated here; -1: none). `seconds` 0 leaves the watchdog off; values below 2 count as 2.
 * All ranks return the same status, and after a failure none watches. */
Status watchdog_start(Comm *comm, const char *folder, int log, double seconds, Error *err);

/* Stops the threads, removes this rank's heartbeat and clears comm->watchdog. Not collective; fine when off. */
void watchdog_stop(Comm *comm);

/* ---- marks; a NULL watchdog is off ------------------------------------------------------------------------------- */

static inline void watchdog_mark(Watchdog *watchdog, const char *inside) {
    atomic_store_explicit(&watchdog->marks.inside, inside, memory_order_relaxed);
    atomic_fetch_add_explicit(&watchdog->marks.progress, 1, memory_order_release);
}

/* Starts a collective that does not wait yet. */
static inline void watchdog_post(Watchdog *watchdog) {
    if (!watchdog)
        return;
    atomic_fetch_add_explicit(&watchdog->marks.entered, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&watchdog->marks.progress, 1, memory_order_release);
}

/* Waits for a collective that was posted. */
static inline void watchdog_wait(Watchdog *watchdog, const char *collective) {
    if (watchdog)
        watchdog_mark(watchdog, collective);
}

/* Starts a collective and waits in it. */
static inline void watchdog_enter(Watchdog *watchdog, const char *collective) {
    watchdog_post(watchdog);
    watchdog_wait(watchdog, collective);
}

/* Has finished waiting. */
static inline void watchdog_leave(Watchdog *watchdog) {
    if (watchdog)
        watchdog_mark(watchdog, NULL);
}

/* Begins `phase`, `step` steps done. */
static inline void watchdog_phase(Watchdog *watchdog, const char *phase, int64_t step) {
    if (!watchdog)
        return;
    atomic_store_explicit(&watchdog->marks.phase, phase, memory_order_relaxed);
    atomic_store_explicit(&watchdog->marks.step, step, memory_order_relaxed);
    watchdog_mark(watchdog, NULL);
}

#endif
