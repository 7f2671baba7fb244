/* The global contrastive loss: groups of the rows, the two all-gathers, the two tiled passes.
 *
 * Every rank contributes a block [view 1 | view 2 | background | background]; the gathered order is rank by rank. Who
 * is a positive of whom is decided by group ids alone (docs/design.md, section 3): SupCon: class; SimCLR: sample index;
 * background as a class: `classes`; background in denominators only: -1. */
#ifndef EXCON_TRAINER_CONTRASTIVE_H
#define EXCON_TRAINER_CONTRASTIVE_H

#include "comm/comm.h"
#include "kernels/ops.h"
#include "trainer/config/config.h"

typedef struct Contrastive {
    Device *device;
    Comm *comm;
    int64_t max_own, max_rows; /* rows of one rank, of all */
    int dim, max_groups;
    float temperature, base_temperature;
    DType products;     /* precision of products of rows; see ContrastShape */
    float *z_all;       /* [max_rows, D] */
    int32_t *group_all; /* [max_rows] */
    float *lse_own;     /* [max_own] as computed, for probes */
    float *lse_masked;  /* [max_own] +inf for rows that are no anchors */
    float *lse_all;     /* [max_rows] */
    float *sums;        /* [max_groups, D] */
    int32_t *counts;    /* [max_groups] */
    void *scratch;
    size_t scratch_bytes;
} Contrastive;

/* Which rows one rank brings, and where they stand among all ranks' rows. */
typedef struct ContrastRows {
    int64_t real, background;             /* samples of this rank: 2 rows each */
    int64_t first_real, first_background; /* samples of lower ranks */
    int64_t total_real, total_background; /* samples of all ranks */
} ContrastRows;

Status contrastive_init(Contrastive *c, Device *device, Comm *comm, int64_t max_own, int64_t max_rows, int dim,
                        int max_groups, double temperature, double base_temperature, DType products, Error *err);
void contrastive_free(Contrastive *c);

/* Group ids of one rank's block into group [2*(real+background)] (host) from labels [real] (host). Returns G. */
int contrastive_groups(const ContrastRows *rows, int method, int background_mode, int classes, const int32_t *labels,
                       int32_t *group);

/* Loss share of the own rows into `loss` [1] f64 on the device (the sum over ranks is the loss); dz [own, D] of the
 * global loss. `group` [own] on the host, in host_alloc's memory where the call may be recorded; `own_rows` [size] rows
 * of every rank, `anchors` A. Nothing waits for the device. */
void contrastive_run(Contrastive *c, const float *z, const int32_t *group, int groups, const int64_t *own_rows,
                     int64_t anchors, double *loss, float *dz);

/* Anchors A for the mean: 2 * total_real, plus the background rows when they are a class of their own. */
int64_t contrastive_anchors(const ContrastRows *rows, int background_mode);

#endif
