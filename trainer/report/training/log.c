#include "trainer/report/training/log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void keep_early(RunLog *log, const char *stamp, const char *format, va_list args) {
    char line[1200];
    vsnprintf(line, sizeof line, format, args);
    const size_t used = log->early ? strlen(log->early) : 0, more = strlen(stamp) + strlen(line) + 3;
    char *longer = used < EARLY_LOG_BYTES ? realloc(log->early, used + more) : NULL;
    if (!longer)
        return;
    snprintf(longer + used, more, "%s %s\n", stamp, line);
    log->early = longer;
}

void log_line(RunLog *log, const char *format, ...) {
    char stamp[32];
    time_t seconds = time(NULL);
    struct tm parts;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    va_list args;
    va_start(args, format);
    if (!log->file) {
        keep_early(log, stamp, format, args);
        va_end(args);
        return;
    }
    fprintf(log->file, "%s ", stamp);
    vfprintf(log->file, format, args);
    va_end(args);
    fputc('\n', log->file);
    fflush(log->file);
}

void log_note(RunLog *log, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_line(log, "%s", text);
    fprintf(stderr, "excon: %s\n", text);
}

Status log_open(RunLog *log, const char *path, Error *err) {
    log->file = fopen(path, "a");
    if (!log->file)
        return error_set(err, STATUS_CANNOT_CREATE, "cannot write %s; is the run folder on a shared file system?",
                         path);
    if (log->early)
        fputs(log->early, log->file);
    fflush(log->file);
    free(log->early);
    log->early = NULL;
    return STATUS_OK;
}

bool log_close(RunLog *log) {
    bool whole = true;
    if (log->file) {
        const int lost = ferror(log->file);
        whole = fclose(log->file) == 0 && !lost;
    }
    free(log->early);
    *log = (RunLog){0};
    return whole;
}
