/* The banner: what runs where, from which position. Rank-ordered, written by rank 0 to stdout, and into every rank's
 * log.
 */
#ifndef EXCON_TRAINER_BANNER_H
#define EXCON_TRAINER_BANNER_H

#include "comm/comm.h"
#include "io/dataset/dataset.h"
#include "trainer/config/config.h"
#include "trainer/model/model.h"
#include "trainer/report/training/log.h"

/* What the banner tells; all borrowed. */
typedef struct Banner {
    const Config *config;
    Comm *comm;
    const Model *model; /* and its device */
    const Dataset *dataset;
    const char *backend, *precision;   /* which, and for the backend why */
    const char *selected_from;         /* "held out of train" or "official val" */
    int64_t train_count, select_count; /* images */
    int64_t batch, batches;            /* images of a step over all ranks, steps of an epoch */
    const char *data_path;             /* a line on the way of the images */
    size_t activation_bytes;
    int64_t resumed_from, epoch; /* step, -1: a fresh run; the epoch it is in */
} Banner;

/* Every rank calls it. */
void banner_show(const Banner *banner, RunLog *log);

#endif
