/* Convolutions of the networks that a configuration can ask for, each against plain loops in double.
 *
 * The geometries are those of the layer lists that the encoders are built from. A case runs the three passes on the CPU
 * device with guard words round every tensor and round every part of the device's scratch. Results are compared
 * through a projection: a pass is linear, so the sum of its outputs over channels with random signs is a convolution
 * with one channel, which a plain loop computes in a fraction of the time; every element of the result takes part. */
#ifndef EXCON_TESTS_CONV_SWEEP_H
#define EXCON_TESTS_CONV_SWEEP_H

#include "kernels/ops.h"

enum { SWEEP_THREADS = 4 };

typedef struct Sweep {
    Device devices[SWEEP_THREADS]; /* of 1, 2, 3, 4 threads, all on the guarded scratch */
    unsigned char *scratch;
    size_t room; /* bytes of it */
} Sweep;

typedef struct SweepCase {
    ConvGeometry geometry;
    DType type;
    int64_t N;
    int threads;
    int bias, add; /* what follows the forward pass */
} SweepCase;

typedef enum SweepResult { SWEEP_AGREES, SWEEP_DIFFERS, SWEEP_REFUSED } SweepResult;

/* Distinct convolutions of all encoders for widths [first_width, last_width] and image sides `sides` (`count` of them),
 * in an order of its own; an array to be freed by the caller, its length in *length. */
ConvGeometry *sweep_geometries(int first_width, int last_width, const int *sides, int count, int *length);

/* Multiplications of one pass. */
double sweep_work(const SweepCase *c);

/* One line that names the case. */
void sweep_name(const SweepCase *c, char *out, size_t size);

/* With scratch memory for what oneDNN takes beside the tensors: a device that needs more than `scratch_bytes` fails. */
void sweep_open(Sweep *sweep, size_t scratch_bytes);
void sweep_close(Sweep *sweep);

/* Runs a case; what differs is printed. SWEEP_REFUSED: the backend says it has no such convolution on this processor.
 */
SweepResult sweep_run(Sweep *sweep, const SweepCase *c);

#endif
