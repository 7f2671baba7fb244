/* From a loader batch to the views of a step: uint8 images and ids to the device, then the random transform. */
#ifndef EXCON_TRAINER_FEED_H
#define EXCON_TRAINER_FEED_H

#include "io/loader/loader.h"
#include "trainer/config/config.h"
#include "trainer/method/step.h"

typedef struct Feed {
    Device *device;
    int64_t max_rows;
    int size;
    void *images; /* [max_rows,size,size,3] u8 */
    void *ids;    /* [max_rows] i64 */
    float mean[3], std[3];
} Feed;

Status feed_init(Feed *feed, Device *device, int64_t max_rows, int size, const float mean[3], const float std[3],
                 Error *err);
void feed_free(Feed *feed);

/* Copies a batch in. */
void feed_load(Feed *feed, const Batch *batch);

/* One view of the loaded batch into out [rows,size,size,3] of dtype. */
void feed_view(Feed *feed, const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, int64_t rows,
               DType dtype, void *out);

/* The views the configured method needs in its encoder pass: random, and as needed backup and standard. */
void feed_step(Feed *feed, const Config *config, Step *step, uint32_t epoch, int64_t rows, int mask);

/* The classifier pass's view, into step->random. */
void feed_classifier(Feed *feed, const Config *config, Step *step, uint32_t epoch, int64_t rows);

#endif
