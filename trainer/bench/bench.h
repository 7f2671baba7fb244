/* Benchmarks of the running program: the same code paths as training, on synthetic data. */
#ifndef EXCON_TRAINER_BENCH_H
#define EXCON_TRAINER_BENCH_H

#include <stdint.h>

#include "io/records/records.h"
#include "trainer/config/config.h"
#include "trainer/run/runtime.h"

typedef struct BenchOptions {
    const char *model, *method, *precision, *profile, *backend, *data;
    int64_t width, size, batch, rows, dim, steps, gemm;
    char *const *sets; /* "key=value": further keys of the configuration, after those above */
    int set_count;
    int mark_last; /* step: cudaProfilerStart and Stop around the last step, for profilers that wait for them */
    int json;
} BenchOptions;

/* One timed thing. */
typedef struct BenchContext {
    const BenchOptions *options;
    Config config;
    Runtime runtime;
    Json json; /* fields of the answer, an open object */
} BenchContext;

/* `what`: step, loss, loader, ops. Prints a line, or JSON: {"bench", ..., "seconds" (median), "images_per_s",
 * "peak_mb"}. */
Status bench_run(const char *what, const BenchOptions *options, Error *err);

Status bench_step(BenchContext *b, Error *err);
Status bench_loss(BenchContext *b, Error *err);
Status bench_loader(BenchContext *b, Error *err);
Status bench_ops(BenchContext *b, Error *err);

double bench_median(double *seconds, int64_t n);
/* Largest resident size of this process so far, and its resident size now, in megabytes (1e6). */
double bench_peak_mb(void);
double bench_resident_mb(void);
/* Standard normal values from a fixed seed. */
void bench_fill(float *values, int64_t n, uint64_t stream);

#endif
