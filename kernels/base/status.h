/* Status codes and the error record every fallible function fills.
 *
 * A Status is also the exit code of the program (README lists them: they are a contract), so a failure deep in a
 * library reaches the shell unchanged. Only main() exits; everything else returns.
 *
 * An X_init or X_open that fails leaves nothing to free or close: it has undone its own part, and the object may be
 * forgotten. X_free and X_close do nothing to an object of zeros, nor the second time. A close that takes a Status, as
 * the last step of a program does, is called with how things ended by the failed open itself. */
#ifndef EXCON_BASE_STATUS_H
#define EXCON_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define STATUS_TABLE(X)                                                                                                \
    X(STATUS_OK, 0, "done")                                                                                            \
    X(STATUS_USAGE, 64, "wrong usage")                                                                                 \
    X(STATUS_DATA, 65, "bad data or checkpoint")                                                                       \
    X(STATUS_NO_INPUT, 66, "input missing")                                                                            \
    X(STATUS_INTERNAL, 70, "internal error")                                                                           \
    X(STATUS_SYSTEM, 71, "operating system, GPU or communication failure")                                             \
    X(STATUS_CANNOT_CREATE, 73, "cannot create, or locked by another run")                                             \
    X(STATUS_IO, 74, "input/output error")                                                                             \
    X(STATUS_RERUN, 75, "state saved, run me again")                                                                   \
    X(STATUS_CONFIG, 78, "configuration error")                                                                        \
    X(STATUS_DIVERGED, 80, "training diverged")                                                                        \
    X(STATUS_HANG, 81, "a rank stopped responding")

typedef enum Status {
#define X(name, code, text) name = code,
    STATUS_TABLE(X)
#undef X
} Status;

/* Short English text of a status; "unknown status" for values outside the table. */
const char *status_text(Status status);

/* First failure of a call chain: what happened, where, and what to do next, in one line. */
typedef struct Error {
    Status code;
    int silent; /* another process reports it: main() prints nothing */
    char message[1024];
} Error;

/* Records a failure (printf style) and returns `code`, so that `return error_set(err, ...)` reads naturally.
 * A NULL `err` is allowed: only the code travels then. */
Status error_set(Error *err, Status code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the recorded message, for callers that know the file or step it happened in. */
void error_prefix(Error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define RETURN_IF(expression)                                                                                          \
    do {                                                                                                               \
        Status return_if_status_ = (expression);                                                                       \
        if (return_if_status_ != STATUS_OK)                                                                            \
            return return_if_status_;                                                                                  \
    } while (0)

/* Like RETURN_IF for functions that undo step by step on failure (goto): needs a local `Status status`. */
#define GOTO_IF(expression, label)                                                                                     \
    do {                                                                                                               \
        status = (expression);                                                                                         \
        if (status != STATUS_OK)                                                                                       \
            goto label;                                                                                                \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
