/* The watchdog's threads, heartbeats and report. Layout of a heartbeat: one line of HEARTBEAT_BYTES, blank-padded, its
 * first word a checksum of the rest, so that a line read while it is written counts as not read. Times are seconds the
 * judge was awake. */
#include "comm/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_mpi.h"
#include "kernels/base/clock.h"

#define TICK 0.25 /* between the judge's looks */
#define LATE 1.0  /* a look this late means the process was suspended */
#define HEARTBEAT_BYTES 256
#define NAMED_MAX 16 /* absent ranks described in a report */

typedef struct Heartbeat {
    unsigned long long run; /* the job that wrote it */
    long long tick;         /* moves as long as the heart runs */
    long long entered, step, silent_ms;
    int waiting, alarmed;
    char phase[48], inside[48];
} Heartbeat;

typedef struct Peer {
    Heartbeat last;
    int seen;
    double moved; /* when its tick last moved, or this rank began to look */
} Peer;

typedef struct WatchdogThreads {
    const Comm *comm;
    WatchdogMarks *marks;
    char folder[1100];
    int log;
    unsigned long long run;
    double limit, beat; /* seconds of silence that raise the alarm; between heartbeats */
    _Atomic int64_t awake_ms, silent_ms;
    _Atomic int64_t heart_ms; /* awake_ms when the heart last came round, its heartbeat written */
    _Atomic int alarmed;
    pthread_t judge, heart;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t wake;
    int stop, logged;
    Peer *peers;       /* [size] */
    char report[4096]; /* for the heart to write to the log; empty: none */
} WatchdogThreads;

static double awake(const WatchdogThreads *w) {
    return 1e-3 * (double)atomic_load(&w->awake_ms);
}

static double silent(const WatchdogThreads *w) {
    return 1e-3 * (double)atomic_load(&w->silent_ms);
}

/* A heartbeat that stands still for so long has stopped. */
static double stall(const WatchdogThreads *w) {
    return 3 * w->beat;
}

/* Waits until `seconds` are over or somebody wakes all threads; call with the mutex held. */
static void rest(WatchdogThreads *w, double seconds) {
    const double until = clock_seconds() + seconds;
    const struct timespec end = {.tv_sec = (time_t)until, .tv_nsec = (long)(1e9 * (until - (double)(time_t)until))};
    pthread_cond_timedwait(&w->wake, &w->mutex, &end);
}

/* ---- heartbeats -------------------------------------------------------------------------------------------------- */

static unsigned checksum(const char *text, size_t n) {
    unsigned sum = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ (unsigned char)text[i]) * 16777619u;
    return sum;
}

static void heartbeat_path(const WatchdogThreads *w, int rank, char *out, size_t size) {
    snprintf(out, size, "%s/heartbeat-%04d", w->folder, rank);
}

static Heartbeat heartbeat_now(const WatchdogThreads *w, long long tick) {
    const char *phase = atomic_load(&w->marks->phase), *inside = atomic_load(&w->marks->inside);
    Heartbeat h = {.run = w->run,
                   .tick = tick,
                   .entered = atomic_load(&w->marks->entered),
                   .step = atomic_load(&w->marks->step),
                   .silent_ms = atomic_load(&w->silent_ms),
                   .waiting = inside != NULL,
                   .alarmed = atomic_load(&w->alarmed)};
    snprintf(h.phase, sizeof h.phase, "%s", phase);
    snprintf(h.inside, sizeof h.inside, "%s", inside ? inside : "computing");
    return h;
}

static int heartbeat_write(const WatchdogThreads *w, const Heartbeat *h) {
    char path[1200], line[HEARTBEAT_BYTES + 1];
    const int used =
        snprintf(line, sizeof line,
                 "00000000 run %llx tick %lld collectives %lld step %lld silent-ms %lld waiting %d alarm %d "
                 "phase %s; in %s;",
                 h->run, h->tick, h->entered, h->step, h->silent_ms, h->waiting, h->alarmed, h->phase, h->inside);
    memset(line + used, ' ', (size_t)(HEARTBEAT_BYTES - used));
    line[HEARTBEAT_BYTES - 1] = '\n';
    char sum[9];
    snprintf(sum, sizeof sum, "%08x", checksum(line + 8, HEARTBEAT_BYTES - 8));
    memcpy(line, sum, 8);
    heartbeat_path(w, w->comm->rank, path, sizeof path);
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return -1;
    const ssize_t written = pwrite(file, line, HEARTBEAT_BYTES, 0);
    return close(file) == 0 && written == HEARTBEAT_BYTES ? 0 : -1;
}

/* 0 when `rank` has a whole heartbeat of this job. */
static int heartbeat_read(const WatchdogThreads *w, int rank, Heartbeat *h) {
    char path[1200], line[HEARTBEAT_BYTES + 1];
    heartbeat_path(w, rank, path, sizeof path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    const ssize_t got = pread(file, line, HEARTBEAT_BYTES, 0);
    close(file);
    if (got != HEARTBEAT_BYTES)
        return -1;
    line[HEARTBEAT_BYTES] = '\0';
    unsigned sum = 0;
    const int fields = sscanf(
        line,
        "%8x run %llx tick %lld collectives %lld step %lld silent-ms %lld waiting %d alarm %d phase %47[^;]; in "
        "%47[^;];",
        &sum, &h->run, &h->tick, &h->entered, &h->step, &h->silent_ms, &h->waiting, &h->alarmed, h->phase, h->inside);
    return fields == 10 && sum == checksum(line + 8, HEARTBEAT_BYTES - 8) && h->run == w->run ? 0 : -1;
}

static void read_peers(WatchdogThreads *w, int first) {
    for (int r = 0; r < w->comm->size; r++) {
        Heartbeat h;
        const int got = r != w->comm->rank && heartbeat_read(w, r, &h) == 0;
        pthread_mutex_lock(&w->mutex);
        Peer *peer = &w->peers[r];
        if (first || (got && (!peer->seen || h.tick != peer->last.tick)))
            peer->moved = awake(w);
        if (got) {
            peer->last = h;
            peer->seen = 1;
        }
        pthread_mutex_unlock(&w->mutex);
    }
}

static void write_log(WatchdogThreads *w) {
    char stamp[32], line[sizeof w->report + sizeof stamp];
    const time_t seconds = time(NULL);
    struct tm parts;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    const int n = snprintf(line, sizeof line, "%s %s", stamp, w->report);
    if (w->log >= 0 && write(w->log, line, (size_t)n) != n)
        fprintf(stderr, "excon: rank %d: log not written: %s\n", w->comm->rank, strerror(errno));
}

static void *heart_main(void *argument) {
    WatchdogThreads *w = argument;
    int looking = 0, stop = 0, write_report = 0;
    for (long long tick = 1; !stop; tick++) {
        const Heartbeat mine = heartbeat_now(w, tick);
        const int written = heartbeat_write(w, &mine) == 0;
        if (write_report)
            write_log(w);
        const int silence = silent(w) >= w->limit / 8;
        if (silence)
            read_peers(w, !looking);
        looking = silence;
        if (written)
            atomic_store(&w->heart_ms, atomic_load(&w->awake_ms));
        pthread_mutex_lock(&w->mutex);
        if (write_report)
            w->logged = 1;
        if (!w->stop && !(w->report[0] && !w->logged))
            rest(w, w->report[0] ? TICK : w->beat);
        stop = w->stop;
        write_report = w->report[0] && !w->logged;
        pthread_mutex_unlock(&w->mutex);
    }
    return NULL;
}

/* ---- report ------------------------------------------------------------------------------------------------------ */

typedef struct Text {
    char *at;
    size_t size, used;
} Text;

static void say(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(Text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text->at + text->used, text->size - text->used, format, args);
    va_end(args);
    text->used += n > 0 ? (size_t)n : 0;
    if (text->used >= text->size)
        text->used = text->size - 1;
}

typedef enum Presence { PRESENT, BEHIND, COMPUTING, STOPPED, NEVER_SEEN } Presence;

static Presence presence(const WatchdogThreads *w, int rank, const Heartbeat *mine, long long furthest) {
    const Peer *peer = &w->peers[rank];
    const Heartbeat *h = rank == w->comm->rank ? mine : &peer->last;
    const int ended_by_alarm = peer->seen && peer->last.alarmed; /* its heart stands still because it has reported */
    if (rank != w->comm->rank && !ended_by_alarm && awake(w) - peer->moved >= stall(w))
        return peer->seen ? STOPPED : NEVER_SEEN;
    if (rank != w->comm->rank && !peer->seen)
        return PRESENT; /* looked for too short a time to say */
    if (!h->waiting && (h->entered < furthest || 1e-3 * (double)h->silent_ms >= w->limit / 2))
        return COMPUTING;
    return h->entered < furthest ? BEHIND : PRESENT;
}

static void say_absent(Text *text, const WatchdogThreads *w, int rank, Presence how, const Heartbeat *mine) {
    const Heartbeat *h = rank == w->comm->rank ? mine : &w->peers[rank].last;
    say(text, " rank %d", rank);
    if (how == NEVER_SEEN) {
        say(text, " (no heartbeat found)");
        return;
    }
    say(text, " (%s step %lld, %s, collective %lld, %s)",
        how == STOPPED     ? "its process has stopped running; last heard of at"
        : how == COMPUTING ? "it runs, but does not get to the collective;"
                           : "it waits in an earlier collective;",
        h->step, h->phase, h->entered, h->waiting ? h->inside : "computing");
}

/* Ranks that keep the others waiting: those that have stopped or compute; where there are none, those that wait in an
 * earlier collective. */
static void say_all_absent(Text *text, const WatchdogThreads *w, const Heartbeat *mine) {
    long long furthest = mine->entered;
    for (int r = 0; r < w->comm->size; r++)
        if (r != w->comm->rank && w->peers[r].seen && w->peers[r].last.entered > furthest)
            furthest = w->peers[r].last.entered;
    int counts[NEVER_SEEN + 1] = {0};
    for (int r = 0; r < w->comm->size; r++)
        counts[presence(w, r, mine, furthest)]++;
    const Presence least = counts[COMPUTING] + counts[STOPPED] + counts[NEVER_SEEN] ? COMPUTING : BEHIND;
    int named = 0, absent = 0;
    for (int r = 0; r < w->comm->size; r++) {
        const Presence how = presence(w, r, mine, furthest);
        if (how < least)
            continue;
        if (absent++ == 0)
            say(text, "; absent:");
        if (named < NAMED_MAX) {
            say(text, "%s", named++ ? "," : "");
            say_absent(text, w, r, how, mine);
        }
    }
    if (absent > named)
        say(text, " and %d more", absent - named);
    if (absent == 0)
        say(text, "; no rank is absent: all wait in the same collective; check the network between the hosts");
}

/* Call with the mutex held. */
static void compose(WatchdogThreads *w) {
    const Heartbeat mine = heartbeat_now(w, 0);
    Text text = {.at = w->report, .size = sizeof w->report - 1};
    say(&text, "excon: rank %d on %s: no progress for %.1f s (watchdog.step_seconds %g): ", w->comm->rank,
        w->comm->host, silent(w), w->limit);
    if (mine.waiting)
        say(&text, "waits in %s, collective %lld, step %lld, %s", mine.inside, mine.entered, mine.step, mine.phase);
    else
        say(&text, "computes after collective %lld, step %lld, %s", mine.entered, mine.step, mine.phase);
    const double looked = awake(w) - 1e-3 * (double)atomic_load(&w->heart_ms);
    if (looked >= stall(w))
        say(&text, "; %s cannot be written, so absent ranks are unknown", w->folder);
    else
        say_all_absent(&text, w, &mine);
    memcpy(w->report + text.used, "\n", 2);
}

/* ---- judge ------------------------------------------------------------------------------------------------------- */

/* Whether another rank has raised the alarm; with `all`, whether every rank whose heart beats has. */
static int others_alarmed(WatchdogThreads *w, int all) {
    int any = 0, every = 1;
    for (int r = 0; r < w->comm->size; r++) {
        const Peer *peer = &w->peers[r];
        if (r == w->comm->rank || !peer->seen)
            continue;
        any |= peer->last.alarmed;
        every &= peer->last.alarmed || awake(w) - peer->moved >= stall(w);
    }
    return all ? every : any;
}

static void __attribute__((noreturn)) raise_alarm(WatchdogThreads *w) {
    atomic_store(&w->alarmed, 1);
    pthread_mutex_lock(&w->mutex);
    compose(w);
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    const ssize_t written = write(STDERR_FILENO, w->report, strlen(w->report));
    (void)written;
    const double until = clock_seconds() + WATCHDOG_LINGER;
    pthread_mutex_lock(&w->mutex);
    while (clock_seconds() < until && !(w->logged && others_alarmed(w, 1)))
        rest(w, TICK / 5);
    _exit(STATUS_HANG);
}

static void *judge_main(void *argument) {
    WatchdogThreads *w = argument;
    int64_t progress = atomic_load(&w->marks->progress);
    double looked = clock_seconds(), now = 0, moved = 0;
    int join = 0;
    for (;;) {
        pthread_mutex_lock(&w->mutex);
        if (!w->stop)
            rest(w, TICK);
        const int stop = w->stop;
        join = others_alarmed(w, 0);
        pthread_mutex_unlock(&w->mutex);
        if (stop)
            return NULL;
        const double elapsed = clock_seconds() - looked;
        looked += elapsed;
        now += elapsed > LATE ? TICK : elapsed;
        const int64_t seen = atomic_load_explicit(&w->marks->progress, memory_order_acquire);
        if (seen != progress) {
            progress = seen;
            moved = now;
        }
        atomic_store(&w->awake_ms, (int64_t)(1e3 * now));
        atomic_store(&w->silent_ms, (int64_t)(1e3 * (now - moved)));
        if (now - moved >= w->limit || (join && now - moved >= w->limit / 2))
            raise_alarm(w);
    }
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* Signals are the main thread's. */
static int start_threads(WatchdogThreads *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->judge, NULL, judge_main, w);
    if (!failed) {
        failed = pthread_create(&w->heart, NULL, heart_main, w);
        if (failed) {
            pthread_mutex_lock(&w->mutex);
            w->stop = 1;
            pthread_cond_broadcast(&w->wake);
            pthread_mutex_unlock(&w->mutex);
            pthread_join(w->judge, NULL);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void release(Watchdog *watchdog) {
    WatchdogThreads *w = watchdog->threads;
    if (w) {
        if (w->log >= 0)
            close(w->log);
        pthread_mutex_destroy(&w->mutex);
        pthread_cond_destroy(&w->wake);
        free(w->peers);
    }
    free(w);
    free(watchdog);
}

static void unlink_heartbeat(const WatchdogThreads *w) {
    char path[1200];
    heartbeat_path(w, w->comm->rank, path, sizeof path);
    unlink(path);
}

static Status start(Comm *comm, const char *folder, int log, double seconds, unsigned long long run, Error *err) {
    Watchdog *watchdog = calloc(1, sizeof *watchdog);
    WatchdogThreads *w = calloc(1, sizeof *w);
    Peer *peers = calloc((size_t)comm->size, sizeof *peers);
    if (!watchdog || !w || !peers) {
        free(watchdog);
        free(w);
        free(peers);
        return error_set(err, STATUS_SYSTEM, "out of memory for the watchdog of %d ranks", comm->size);
    }
    watchdog->threads = w;
    atomic_init(&watchdog->marks.phase, "opening");
    const double limit = seconds < 2 ? 2 : seconds, beat = limit / 12;
    w->comm = comm;
    w->marks = &watchdog->marks;
    w->log = log >= 0 ? fcntl(log, F_DUPFD_CLOEXEC, 0) : -1;
    w->run = run;
    w->limit = limit;
    w->beat = beat < TICK ? TICK : beat > 1 ? 1 : beat;
    w->peers = peers;
    snprintf(w->folder, sizeof w->folder, "%s", folder);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, &clock);
    pthread_condattr_destroy(&clock);
    const Heartbeat mine = heartbeat_now(w, 0);
    Status status = STATUS_OK;
    if (heartbeat_write(w, &mine) != 0)
        status = error_set(err, STATUS_CANNOT_CREATE, "cannot write %s/heartbeat-%04d: %s", folder, comm->rank,
                           strerror(errno));
    else if (start_threads(w) != 0) {
        unlink_heartbeat(w);
        status = error_set(err, STATUS_SYSTEM, "cannot start the watchdog's threads; check the limit on processes");
    }
    if (status != STATUS_OK) {
        release(watchdog);
        return status;
    }
    comm->watchdog = watchdog;
    return STATUS_OK;
}

Status watchdog_start(Comm *comm, const char *folder, int log, double seconds, Error *err) {
    if (!(seconds > 0))
        return STATUS_OK;
    unsigned long long run = (unsigned long long)time(NULL) << 24 ^ (unsigned long long)getpid();
    comm_host_broadcast(comm, &run, sizeof run, 0);
    const Status status = comm_agree(comm, start(comm, folder, log, seconds, run, err), err);
    if (status != STATUS_OK)
        watchdog_stop(comm);
    return status;
}

void watchdog_stop(Comm *comm) {
    Watchdog *watchdog = comm->watchdog;
    if (!watchdog)
        return;
    WatchdogThreads *w = watchdog->threads;
    pthread_mutex_lock(&w->mutex);
    w->stop = 1;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->judge, NULL);
    pthread_join(w->heart, NULL);
    unlink_heartbeat(w);
    comm->watchdog = NULL;
    release(watchdog);
}
