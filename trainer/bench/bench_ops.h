/* The operator benchmark's own parts: buffers of random numbers, one timed case, and the families of cases. */
#ifndef EXCON_TRAINER_BENCH_OPS_H
#define EXCON_TRAINER_BENCH_OPS_H

#include "kernels/ops.h"
#include "trainer/bench/bench.h"

/* What a rate is a share of, measured first on the same device. */
typedef enum Reference {
    REFERENCE_COPY,     /* bytes/s of a device-to-device copy: reads and writes both count */
    REFERENCE_GEMM,     /* FLOP/s of a large product in the bench's precision */
    REFERENCE_GEMM_F32, /* the same in f32, by the dense operator */
    REFERENCE_COUNT
} Reference;

enum { OPS_BUFFERS = 12 };

typedef struct OpsBench {
    BenchContext *b;
    Device *d;
    DType dtype;
    int64_t N;       /* images */
    int side, width; /* of an image; channels of the stem */
    void *tile;      /* device: TILE random f32, the stuff that buffers are filled with */
    void *buffer[OPS_BUFFERS];
    size_t bytes[OPS_BUFFERS];
    int buffers;
    double *seconds; /* [steps] */
    double reference[REFERENCE_COUNT];
    Status status; /* the first failure; everything after it does nothing */
    Error *err;
} OpsBench;

/* Device memory of n elements, freed by ops_release_all: standard normal values (f32, bf16), random bytes (u8), 0 ..
 * limit-1 in turn (i32, i64), zeros (f64). NULL after a failure. */
void *ops_buffer(OpsBench *o, DType type, int64_t n, int limit);
void ops_release_all(OpsBench *o);

/* Median seconds of one call of `run`: as many calls between two marks of the device's own clock as fill a few
 * milliseconds. 0 after a failure. */
double ops_time(OpsBench *o, void (*run)(OpsBench *o, const void *arg), const void *arg);

/* Times and prints one case: `work` bytes (REFERENCE_COPY) or FLOP per call. */
void ops_case(OpsBench *o, const char *name, Reference of, double work, void (*run)(OpsBench *o, const void *arg),
              const void *arg);

/* Everything that is not a convolution, family by family (bench_families.c). */
void ops_families(OpsBench *o);

#endif
