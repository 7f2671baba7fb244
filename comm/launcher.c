#include "comm/launcher.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/process.h"

enum { LOOK_SECONDS = 1 };

struct Launcher {
    Process process;
    char rank[16], host[64];
    _Atomic int log; /* -1: none */
};

static int is_gone(const Launcher *launcher) {
    Process now;
    const int found = process_look(launcher->process.id, &now);
    return found == 0 || (found == 1 && (now.started != launcher->process.started || strchr("ZX", now.state)));
}

static void *watch(void *argument) {
    Launcher *launcher = argument;
    while (!is_gone(launcher))
        nanosleep(&(struct timespec){.tv_sec = LOOK_SECONDS}, NULL);
    char message[512], stamp[32];
    const int n =
        snprintf(message, sizeof message,
                 "excon: rank %s on %s: the launcher (%s, process %d) is gone, so this rank ends too; run the "
                 "same command again (training continues from the newest checkpoint)\n",
                 launcher->rank, launcher->host, launcher->process.name, launcher->process.id);
    const time_t seconds = time(NULL);
    struct tm parts;
    const size_t stamped = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&seconds, &parts));
    const int log = atomic_load(&launcher->log);
    if (log < 0 || write(log, stamp, stamped) < 0 || write(log, message, (size_t)n) < 0) {
        /* nobody is left to be told of that */
    }
    if (write(STDERR_FILENO, message, (size_t)n) < 0) {
        /* as is usual here: the launcher read it */
    }
    _exit(STATUS_SYSTEM);
}

Status launcher_watch(const char *host, Launcher **found, Error *err) {
    Process process;
    *found = NULL;
    if (!process_launcher(&process))
        return STATUS_OK;
    Launcher *launcher = *found = calloc(1, sizeof *launcher);
    if (!launcher)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    launcher->process = process;
    atomic_init(&launcher->log, -1);
    const char *rank = getenv("PMIX_RANK");
    snprintf(launcher->rank, sizeof launcher->rank, "%s", rank ? rank : "?");
    snprintf(launcher->host, sizeof launcher->host, "%s", host);
    pthread_t thread;
    sigset_t all, before; /* signals are the main thread's, and SIGPIPE must not end this one in the middle */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, NULL, watch, launcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return error_set(err, STATUS_SYSTEM, "cannot start a thread; check the limit on processes");
    pthread_detach(thread);
    return STATUS_OK;
}

void launcher_log(Launcher *launcher, int log) {
    if (launcher && log >= 0)
        atomic_store(&launcher->log, fcntl(log, F_DUPFD_CLOEXEC, 0));
}
