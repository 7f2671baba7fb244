/* What the CUDA backend's library exports, under the name excon_nccl, when it was built with NCCL: comm_attach finds it
 * there. The library calls nothing of comm/ back: MPI stays on this side, failures go through device_fatal. */
#ifndef EXCON_COMM_NCCL_TRANSPORT_H
#define EXCON_COMM_NCCL_TRANSPORT_H

#include "comm/comm.h"

enum { NCCL_ID_BYTES = 128, NCCL_DEVICE_BYTES = 16 };

typedef struct NcclTransport {
    size_t comm_size, collectives_size; /* of the headers it was compiled with */
    /* Which GPU this is, the same in every process and on no other GPU: two ranks on one GPU would hang in NCCL. */
    Status (*identify)(Device *, unsigned char out[NCCL_DEVICE_BYTES], Error *);
    /* What the ranks find each other by; made by rank 0, given to all. */
    Status (*make_id)(Comm *, unsigned char out[NCCL_ID_BYTES], Error *);
    /* Connects comm->device to those of all ranks within `seconds` and sets comm->collectives and comm->impl;
     * collective. After a failure connections may be half made: end the process. */
    Status (*attach)(Comm *, const unsigned char id[NCCL_ID_BYTES], double seconds, Error *);
} NcclTransport;

#endif
