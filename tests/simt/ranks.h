/* The other processes, for the stand-in of NCCL: a communicator of MPI of its own. All calls end the program when MPI
 * fails. */
#ifndef SIMT_RANKS_H
#define SIMT_RANKS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SimtRanks SimtRanks;

/* A communicator of all processes; all call it. */
SimtRanks *simt_ranks_new(void);
/* MPI's communicator ends with MPI: NCCL's close in a thread that must not call it. */
void simt_ranks_free(SimtRanks *ranks);

/* all [size][bytes] = `mine` of each. */
void simt_ranks_gather(SimtRanks *ranks, const void *mine, size_t bytes, void *all);
void simt_ranks_broadcast(SimtRanks *ranks, void *buffer, size_t bytes, int root);

#ifdef __cplusplus
}
#endif
#endif
