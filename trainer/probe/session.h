/* A probe run: ranks, device, model, the input file, and rank 0's output file. Every rank reads the input and takes its
 * contiguous share of the samples; results are gathered and rank 0 writes them whole. */
#ifndef EXCON_TRAINER_PROBE_SESSION_H
#define EXCON_TRAINER_PROBE_SESSION_H

#include "io/arrays/arrays.h"
#include "trainer/config/config.h"
#include "trainer/optim/optimiser.h"
#include "trainer/run/runtime.h"

typedef struct ProbeOptions {
    const char *op, *in, *out;
    const char *checkpoint; /* a checkpoint of ours, or NULL */
    const char *weights;    /* plain HDF5 with /model/NAME, or NULL */
    const char *mode;       /* encode: eval | train */
    int64_t epoch, view, steps;
    const char *corruption; /* corrupt: its name, or NULL */
    int64_t severity;       /* corrupt: 1..5 */
    int64_t bins;           /* calibration: of the binned errors */
} ProbeOptions;

typedef struct ProbeSession {
    const ProbeOptions *options;
    const Config *config;
    Runtime runtime;
    ArrayFile *in, *out; /* out: rank 0 only */
    Model model;
    Optimiser optimiser;
    float mean[3], std[3];      /* the checkpoint's, else /mean and /std of IN, else 0 and 1 */
    int64_t total, first, rows; /* samples: all, of lower ranks, own */
    int64_t *counts;            /* [size] samples of every rank */
} ProbeSession;

/* Opens ranks, device and files; `sample_dataset` gives the number of samples by its first dimension. A failed
 * open has closed what it opened, as probe_close does. */
Status probe_open(ProbeSession *p, const ProbeOptions *options, const Config *config, const char *sample_dataset,
                  Error *err);
/* Builds the model for images of `size` pixels: weights from --checkpoint or --weights, else initialised from the seed
 * with `classes` classes. */
Status probe_model(ProbeSession *p, int size, int classes, Error *err);
Status probe_close(ProbeSession *p, Status status, Error *err);

/* This rank's share of /NAME [n,3,size,size] f32 as a fresh device buffer NHWC of the model's dtype (*bytes long),
 * which the caller releases; NULL on failure. STATUS_DATA for another shape. */
Status probe_images(ProbeSession *p, const char *name, int size, void **device, size_t *bytes, Error *err);
/* Side of the square images in /NAME; STATUS_DATA when they are not [n,3,S,S]. */
Status probe_image_size(ProbeSession *p, const char *name, int *size, Error *err);
/* This rank's share of /NAME [n] i32; checked against [0, classes). Caller frees; NULL on failure. */
Status probe_labels(ProbeSession *p, const char *name, int classes, int32_t **host, Error *err);

/* Gathers `columns`-wide rows of every rank and writes [n, shape...]; `host` [rows, columns]. */
Status probe_put_rows(ProbeSession *p, const char *name, const void *host, ArrayType type, int rank,
                      const int64_t *shape, Error *err);
/* The same from device memory of f32 or i32 elements. */
Status probe_put_device(ProbeSession *p, const char *name, const void *device, ArrayType type, int rank,
                        const int64_t *shape, Error *err);
/* Rank 0 writes an array every rank holds alike. */
Status probe_put(ProbeSession *p, const char *name, const float *values, int rank, const int64_t *shape, Error *err);

/* The operations; each leaves p as probe_open made it. */
Status probe_supcon(ProbeSession *p, Error *err);
Status probe_encode(ProbeSession *p, Error *err);
Status probe_explain(ProbeSession *p, Error *err);
Status probe_step(ProbeSession *p, Error *err);
Status probe_augment(ProbeSession *p, Error *err);
Status probe_corrupt(ProbeSession *p, Error *err);
Status probe_calibration(ProbeSession *p, Error *err);

#endif
