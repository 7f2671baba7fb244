/* The views of one step's images, on the device: what the feed makes and the step trains on. */
#ifndef EXCON_TRAINER_STEP_VIEWS_H
#define EXCON_TRAINER_STEP_VIEWS_H

#include "kernels/ops.h"
#include "trainer/config/config.h"

typedef struct StepViews {
    Device *device;
    DType dtype;
    int masks;      /* the method masks images */
    size_t bytes;   /* of one of the buffers */
    void *standard; /* [rows,S,S,3] of dtype: what is explained; NULL for methods that mask no images */
    void *random;   /* the second view; the only one of method ce and of the classifier's own pass */
    void *backup;   /* the first view, of ExCon: where no masked image takes its place */
} StepViews;

/* Room for `rows` images of side `size`, of what the configured method uses. STATUS_SYSTEM without memory, which leaves
 * nothing allocated. */
Status step_views_init(StepViews *views, const Config *config, Device *device, int64_t rows, int size, DType dtype,
                       Error *err);
/* Fine when not initialised. */
void step_views_free(StepViews *views);

#endif
