/* What the files of this room that speak MPI share; for them alone. */
#ifndef EXCON_COMM_MPI_H
#define EXCON_COMM_MPI_H

#include <mpi.h>
#include <sched.h>

#include "comm/comm.h"

/* MPI counts are ints: larger transfers go in parts of this size. */
#define COMM_PART_BYTES ((size_t)1 << 30)

extern const Collectives collectives_mpi_host;
extern const Collectives collectives_single; /* for comm->size 1, on any device */

/* MPI through pinned host memory, for devices whose memory MPI cannot see. `name` is a literal. */
Status staged_attach(Comm *comm, const char *name, Error *err);

/* Sets comm->threads, threads_why, and the binding. `node`: the ranks of this host, collective among them. `launcher`:
 * what processors_of_launcher() found, NULL: the present binding is kept. */
void comm_choose_threads(Comm *comm, MPI_Comm node, const cpu_set_t *launcher);

void comm_check(Comm *comm, int code, const char *expression, const char *file, int line);
#define MPI_CHECK(comm, expression) comm_check((comm), (expression), #expression, __FILE__, __LINE__)

#endif
