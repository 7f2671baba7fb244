/* From a loader's batches to the views of a step: uint8 images and ids to the device, then the random transform.
 *
 *     feed_next(feed, loader, &batch, ...)     the batch of this step
 *     feed_load(feed, &batch)                  its images and ids are where feed_view reads them
 *     feed_view, feed_step, feed_classifier    queue the views
 *     feed_prefetch(feed, loader)              the next batch, when the loader has it, is copied while the step runs
 *     ...the step...
 *     feed_done(feed, loader, &batch)          the batch goes back to the loader
 *
 * Two sets of device buffers take turns, each an upload slot (kernels/contract/upload.h): one is read while the other
 * is filled. Batches must lie in the device's host_alloc memory (LoaderConfig.device); their labels stay as they are
 * until feed_done. With a Resident the batches come from a loader in ids mode, only indices and ids are copied, and the
 * images are gathered on the device. */
#ifndef EXCON_TRAINER_FEED_H
#define EXCON_TRAINER_FEED_H

#include "io/loader/loader.h"
#include "io/loader/resident.h"
#include "trainer/config/config.h"
#include "trainer/data/step_views.h"

enum { FEED_SETS = 2 };

typedef struct Feed {
    Device *device;
    const Resident *resident; /* borrowed; NULL: batches bring their images */
    int64_t max_rows;
    int size;
    /* The loaded batch. */
    const void *images; /* [rows,size,size,3] u8 */
    const void *ids;    /* [rows] i64 */
    struct {
        void *images; /* [max_rows,size,size,3] u8; NULL with a resident */
        void *ids;    /* [max_rows] i64 */
        void *index;  /* [max_rows] i32; NULL without a resident */
    } sets[FEED_SETS];
    void *gathered; /* [max_rows,size,size,3] u8 from the resident */
    int filling;    /* the set that the next feed_load reads */
    int started;    /* copies into it are under way */
    int has_ahead;  /* for this batch, which feed_next gives next */
    Batch ahead;
    float mean[3], std[3];
} Feed;

/* `resident` (may be NULL) holds images of the side `size`. */
Status feed_init(Feed *feed, Device *device, const Resident *resident, int64_t max_rows, int size, const float mean[3],
                 const float std[3], Error *err);
/* Fine when not initialised; feed_drop first when a batch was prefetched. */
void feed_free(Feed *feed);

/* Device memory it takes. */
size_t feed_bytes(const Feed *feed);

/* The batch that was prefetched, else loader_next(). */
Status feed_next(Feed *feed, Loader *loader, Batch *batch, int *done, Error *err);

/* Copies the batch in, unless that began with feed_prefetch, and orders the work issued from now on after it. */
void feed_load(Feed *feed, const Batch *batch);

/* Takes the next batch and starts to copy it, when the loader has one ready; waits for nothing. */
void feed_prefetch(Feed *feed, Loader *loader);

/* Gives the loaded batch back. Its labels must be out of use. */
void feed_done(Feed *feed, Loader *loader, const Batch *batch);

/* Gives a prefetched batch back that will not be trained on: before another epoch is started, and before the loader is
 * closed. */
void feed_drop(Feed *feed, Loader *loader);

/* One view of the loaded batch into out [rows,size,size,3] of dtype. */
void feed_view(Feed *feed, const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, int64_t rows,
               DType dtype, void *out);

/* The views the configured method needs in its encoder pass: random, and as needed backup and standard (`mask`: images
 * are explained in this epoch). */
void feed_step(Feed *feed, const Config *config, StepViews *views, uint32_t epoch, int64_t rows, int mask);

/* The classifier pass's view, into views->random. */
void feed_classifier(Feed *feed, const Config *config, StepViews *views, uint32_t epoch, int64_t rows);

#endif
