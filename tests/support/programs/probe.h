/* Runs `excon probe` on a golden file and compares what it writes, tensor by tensor.
 *
 * A golden file (written by scripts/golden/make_golden.py) holds the operation's inputs and the initial model, the
 * attributes `probe` (operation) and `set` (one --set value per line), and /expect/RUN groups of expected outputs, each
 * with an attribute `args`, and `ranks` when the expectation holds for that many ranks only. A dataset there may carry
 * a `tolerance` of its own (bf16). The program is $EXCON or build/excon, its backend $EXCON_BACKEND or cpu, its
 * comm.transport $EXCON_TRANSPORT or auto, the launcher $MPIRUN or mpirun. */
#ifndef EXCON_TESTS_PROBE_H
#define EXCON_TESTS_PROBE_H

#include <stddef.h>

enum { PROBE_PATH = 512, PROBE_TEXT = 1024 };

typedef struct ProbeTolerance {
    double loss;  /* relative L2 of `loss` */
    double other; /* relative L2 of every other float tensor; integers and `mask` are exact */
                  /* a dataset's own attribute `tolerance` goes before either */
} ProbeTolerance;

typedef struct ProbeCase {
    char file[PROBE_PATH];
    char operation[64];
    char sets[PROBE_TEXT]; /* one --set value per line */
    char run[64];
    char args[PROBE_TEXT]; /* separated by spaces */
    int ranks;             /* what is expected holds for so many; 0: for any number */
} ProbeCase;

/* Why no probe can be run here, or NULL. */
const char *probe_missing(void);

/* Every run of every file tests/golden/PREFIX*.h5 (folder: $GOLDEN) that has the attribute `probe`, in name order;
 * malloc'ed. Ends the program when a
 * file cannot be read. */
ProbeCase *probe_cases(const char *prefix, size_t *count);

/* Runs `excon ARGUMENT...` (the list ends in NULL) on so many ranks (1: without launcher), all it says in the file
 * `log`. Returns the exit status after printing that file if it is not 0. */
int probe_program(const char *const *list, int ranks, const char *log);

/* Runs a case on so many ranks (1: without launcher), writing `out`. Returns the exit status after printing what the
 * program said if that is not 0. */
int probe_run(const ProbeCase *test, int ranks, const char *out);

/* Compares every dataset below group `want_group` of `want_file` with the one of that name in `got_file`; expected NaN
 * means not specified. Prints a line per tensor at fault under `what`; returns their number. */
int probe_compare(const char *what, const char *want_file, const char *want_group, const char *got_file,
                  const ProbeTolerance *tolerance);

#endif
