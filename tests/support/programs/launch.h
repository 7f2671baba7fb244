/* Starts the running test program again, as the ranks of an MPI job. */
#ifndef EXCON_TESTS_LAUNCH_H
#define EXCON_TESTS_LAUNCH_H

/* mpirun -n RANKS PROGRAM rank ARGUMENTS, where ARGUMENTS are shell words by `format`; what the job says goes into the
 * file `said` (NULL: where this program's output goes). Returns its exit status, -1 when a signal ended it, and in
 * `seconds` (may be NULL) how long it took. More ranks than cores, and root, are let through; MPIRUN in the environment
 * names another one.
 */
int launch_ranks(int ranks, const char *said, double *seconds, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Skips the running test, saying why; NULL: goes on. */
void launch_skip_for(const char *why);

/* Reads the text file at `path` into `out`, at most size - 1 bytes and a NUL, and removes it; fails the test without
 * it. */
void launch_take(const char *path, char *out, unsigned long size);

#endif
