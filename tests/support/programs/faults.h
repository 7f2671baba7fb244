/* Runs this very test program again, with build/tests/faults/fail_io.so preloaded (see there for the meaning of a
 * fault). */
#ifndef EXCON_TESTS_FAULTS_H
#define EXCON_TESTS_FAULTS_H

#include <stddef.h>

typedef struct Fault {
    const char *path;  /* calls on paths with this text are counted */
    const char *calls; /* NULL: all kinds */
    int at;            /* from 1; 0: none fails */
    int code;          /* errno; 0: the child is killed there */
    int sticky, short_writes, corrupt;
} Fault;

/* Exit code of the child, 128 + signal when one ended it. `arguments` end in NULL and stand behind argv[0]; standard
 * output goes to `output` (cut to `size`, 0-terminated) unless that is NULL. */
int run_self(const char *const *arguments, const Fault *fault, char *output, size_t size);

#endif
