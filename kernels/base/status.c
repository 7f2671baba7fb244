#include "kernels/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *status_text(Status status) {
    switch (status) {
#define X(name, code, text)                                                                                            \
    case name:                                                                                                         \
        return text;
        STATUS_TABLE(X)
#undef X
    }
    return "unknown status";
}

Status error_set(Error *err, Status code, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

void error_prefix(Error *err, const char *format, ...) {
    if (!err)
        return;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0 || (size_t)n + 3 >= sizeof err->message)
        return;
    size_t room = sizeof err->message - (size_t)n - 3, length = strlen(old);
    length = length < room ? length : room;
    memcpy(err->message + n, ": ", 2);
    memcpy(err->message + n + 2, old, length);
    err->message[(size_t)n + 2 + length] = '\0';
}
