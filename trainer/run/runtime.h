/* What every distributed subcommand starts with: ranks, a device, and the way out. */
#ifndef EXCON_TRAINER_RUNTIME_H
#define EXCON_TRAINER_RUNTIME_H

#include <stdbool.h>

#include "comm/comm.h"
#include "trainer/config/config.h"

typedef struct Runtime {
    Comm comm;
    Device device;
    DType dtype; /* of activations and products: DTYPE_F32 or DTYPE_BF16 */
    bool open;
} Runtime;

/* MPI, then the device `config` asks for (backend, cuda.conv): backend auto takes CUDA when a device is there, else the
 * CPU, at the instruction set level that all ranks have; `why` (may be NULL) gets one line on the choice. Ranks of a
 * host take its CUDA devices in turn. Then the precision (auto: bf16 where it is the faster one on every rank's device)
 * and the collectives (comm.transport). All ranks return the same status; a failed open has
 * closed the runtime, as runtime_close does. */
Status runtime_open(Runtime *runtime, const Config *config, char *why, size_t why_size, Error *err);

/* "f32" or "bf16": what `dtype` is. */
const char *runtime_precision(const Runtime *runtime);

/* Ends the collectives, closes the device and ends MPI. A failure all ranks share (after comm_agree, or decided alike)
 * is reported by rank 0 alone: others get err->silent. Returns `status`. */
Status runtime_close(Runtime *runtime, Status status, Error *err);

/* For a failure of this rank alone: prints it and ends all ranks with its code. Never returns. */
void runtime_abort(Runtime *runtime, Status status, const Error *err) __attribute__((noreturn));

#endif
