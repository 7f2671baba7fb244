/* Captures of launches that are recorded once and replayed.
 *
 * A capture is the same every time: same calls, same addresses, same numbers. `key` says which. Inside it nothing waits
 * for the device, nothing is allocated, and copies to and from the host use host_alloc's memory. A capture is recorded
 * when its key is met the second time; a few recordings are kept. */
#ifndef EXCON_CONTRACT_GRAPH_H
#define EXCON_CONTRACT_GRAPH_H

#include "kernels/device.h"

typedef struct GraphOps {
    /* 0: a recording of `key` was started instead, and the caller issues nothing. 1: the caller issues the capture and
     * calls end. CPU: always 1. */
    int (*begin)(Device *, uint64_t key);
    /* Ends the capture. Where it was recorded, the recording is kept, and started. */
    void (*end)(Device *);
} GraphOps;

#endif
