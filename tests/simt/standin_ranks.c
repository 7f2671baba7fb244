#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/simt/ranks.h"

struct SimtRanks {
    MPI_Comm comm;
};

static void check(int code, const char *what) {
    if (code == MPI_SUCCESS)
        return;
    fprintf(stderr, "simt: %s failed with MPI's code %d\n", what, code);
    abort();
}

static int count_of(size_t bytes) {
    check(bytes <= INT_MAX ? MPI_SUCCESS : MPI_ERR_COUNT, "a transfer of 2 GB");
    return (int)bytes;
}

SimtRanks *simt_ranks_new(void) {
    SimtRanks *ranks = calloc(1, sizeof *ranks);
    if (!ranks)
        abort();
    check(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->comm), "MPI_Comm_dup");
    return ranks;
}

void simt_ranks_free(SimtRanks *ranks) {
    free(ranks);
}

void simt_ranks_gather(SimtRanks *ranks, const void *mine, size_t bytes, void *all) {
    const int n = count_of(bytes);
    check(MPI_Allgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, ranks->comm), "MPI_Allgather");
}

void simt_ranks_broadcast(SimtRanks *ranks, void *buffer, size_t bytes, int root) {
    check(MPI_Bcast(buffer, count_of(bytes), MPI_BYTE, root, ranks->comm), "MPI_Bcast");
}
