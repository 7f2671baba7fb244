/* A rank's log, RUN/logs/rank-NNNN.log. What is said before the run folder is known to be this run's is kept, and
 * stands in the log once there is one. */
#ifndef EXCON_TRAINER_LOG_H
#define EXCON_TRAINER_LOG_H

#include <stdbool.h>
#include <stdio.h>

#include "kernels/base/status.h"

typedef struct RunLog {
    FILE *file;  /* NULL: none yet */
    char *early; /* lines for it until then; malloc'ed */
} RunLog;

enum { EARLY_LOG_BYTES = 1 << 16 };

/* Appends a line "TIME TEXT". */
void log_line(RunLog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, and "excon: TEXT" to stderr. */
void log_note(RunLog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Opens the log and writes what was kept; STATUS_CANNOT_CREATE. */
Status log_open(RunLog *log, const char *path, Error *err);

/* Closes it, if it is open, and frees what was kept. False when not all of it could be written. */
bool log_close(RunLog *log);

#endif
