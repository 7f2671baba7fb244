/* The device of a test program's rank, on the backend that EXCON_TEST_BACKEND says (device_fixture.h), attached to the
 * job's collectives. */
#ifndef EXCON_TESTS_RANK_DEVICE_H
#define EXCON_TESTS_RANK_DEVICE_H

#include "comm/comm.h"

/* Whether tests are on the CUDA backend, and whether that is the one on the stand-in GPU (tests/simt), which has as
 * many devices as a test asks for. */
int rank_on_cuda(void);
int rank_on_standin(void);

/* Opens `comm` and its device; `transport` is auto, mpi or nccl, as in a configuration. What fails on the device ends
 * the job. On success comm_detach, device_close and comm_finalize undo it, in this order. */
Status rank_open(Comm *comm, Device *device, const char *transport, int connect_seconds, Error *err);

#endif
