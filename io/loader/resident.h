/* The images of a selection in device memory, for loaders in ids mode: a step then sends indices instead of pixels. */
#ifndef EXCON_IO_RESIDENT_H
#define EXCON_IO_RESIDENT_H

#include "io/dataset/dataset.h"
#include "kernels/device.h"

typedef struct Resident {
    Device *device; /* borrowed; NULL: not open */
    const Dataset *dataset;
    Split split;
    const int64_t *ids; /* [n] borrowed */
    int64_t n;
    uint8_t *images; /* device [n,H,W,3], in the order of ids */
    size_t bytes;
} Resident;

/* Images read so far, of n. */
typedef void (*ResidentProgress)(void *ctx, int64_t images, int64_t n);

/* Takes the device memory for `ids` [n] ascending of a split. STATUS_SYSTEM when it is not there, or when n exceeds
 * 2^31 - 1; nothing is held then, and resident_free() does nothing. */
Status resident_open(Resident *resident, Device *device, const Dataset *dataset, Split split, const int64_t *ids,
                     int64_t n, Error *err);

/* Reads the images once, through pinned memory, and returns when they are on the device. Calls HDF5: no other loader
 * may be at work. `progress` may be NULL. */
Status resident_fill(Resident *resident, ResidentProgress progress, void *ctx, Error *err);

/* Fine when not open. */
void resident_free(Resident *resident);

#endif
