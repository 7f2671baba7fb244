/* How many CPU threads a rank uses: its share of what the ranks of this host may use together. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/comm_mpi.h"
#include "kernels/base/processors.h"

/* Ranks of this host that may run on each processor; returns this rank's share: a processor that is allowed to n ranks
 * counts as 1 / n to each of them. */
static double share_of(Comm *comm, MPI_Comm node, const cpu_set_t *mask) {
    int users[CPU_SETSIZE];
    double share = 0;
    for (int i = 0; i < CPU_SETSIZE; i++)
        users[i] = CPU_ISSET((size_t)i, mask) ? 1 : 0;
    MPI_CHECK(comm, MPI_Allreduce(MPI_IN_PLACE, users, CPU_SETSIZE, MPI_INT, MPI_SUM, node));
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, mask))
            share += 1.0 / users[i];
    return share;
}

/* Binds this process to `wanted` of the allowed processors, other ones for each rank of the host as far as they reach.
 */
static int bind_slice(const Comm *comm, const cpu_set_t *allowed, int wanted) {
    const int all = CPU_COUNT(allowed), first = (int)((int64_t)comm->local_rank * wanted % all);
    cpu_set_t slice;
    CPU_ZERO(&slice);
    for (int cpu = 0, place = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, allowed)) {
            if ((place - first + all) % all < wanted)
                CPU_SET((size_t)cpu, &slice);
            place++;
        }
    return sched_setaffinity(0, sizeof slice, &slice) == 0;
}

void comm_choose_threads(Comm *comm, MPI_Comm node, const cpu_set_t *launcher) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int all = online > 0 ? (int)online : 1;
    cpu_set_t mask, both;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) { /* more processors than a cpu_set_t has */
        CPU_ZERO(&mask);
        for (int i = 0; i < all && i < CPU_SETSIZE; i++)
            CPU_SET((size_t)i, &mask);
        launcher = NULL;
    }
    /* Widened when it is narrower than an even share, and moved when mpirun went beyond its own binding. */
    if (launcher) {
        CPU_AND(&both, &mask, launcher);
        if (CPU_COUNT(&both) == CPU_COUNT(&mask) && CPU_COUNT(&mask) * comm->local_size >= CPU_COUNT(launcher))
            launcher = NULL;
    }
    const cpu_set_t *allowed = launcher ? launcher : &mask;
    const double share = share_of(comm, node, allowed);
    char counted[80];
    int used = snprintf(counted, sizeof counted, "%d of %d processors", CPU_COUNT(allowed), all);
    if (comm->local_size > 1)
        snprintf(counted + used, sizeof counted - (size_t)used, ", %d ranks", comm->local_size);
    char why[THREADS_WHY_BYTES];
    comm->threads = processors_threads(share, processors_quota("") / comm->local_size, counted, why);
    const int even = share >= 1 ? (int)(share + 1e-6) : 1;
    const int places = comm->threads > even ? CPU_COUNT(allowed) : even;
    const int rebound = launcher && bind_slice(comm, allowed, places);
    snprintf(comm->threads_why, sizeof comm->threads_why, "%s%s", why, rebound ? ", mpirun's binding replaced" : "");
}
