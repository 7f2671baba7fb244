#include "tests/support/programs/launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/clock.h"

int launch_ranks(int ranks, const char *said, double *seconds, const char *format, ...) {
    char self[1024], arguments[2048], into[1100] = "", command[4400];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    va_list values;
    va_start(values, format);
    vsnprintf(arguments, sizeof arguments, format, values);
    va_end(values);
    if (said)
        snprintf(into, sizeof into, ">'%s' 2>&1", said);
    const char *mpirun = getenv("MPIRUN");
    snprintf(command, sizeof command,
             "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
             "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe "
             "%s -n %d '%s' rank %s %s </dev/null",
             mpirun ? mpirun : "mpirun", ranks, self, arguments, into);
    const double begin = clock_seconds();
    const int code = system(command);
    if (seconds)
        *seconds = clock_seconds() - begin;
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

void launch_skip_for(const char *why) {
    if (!why)
        return;
    print_message("skipped: %s\n", why);
    skip();
}

void launch_take(const char *path, char *out, unsigned long size) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    out[fread(out, 1, size - 1, file)] = '\0';
    fclose(file);
    unlink(path);
}
