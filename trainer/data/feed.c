#include "trainer/data/feed.h"

#include <string.h>

#include "kernels/buffers.h"
#include "trainer/data/view_specs.h"

static size_t image_bytes(const Feed *feed) {
    return (size_t)feed->size * (size_t)feed->size * 3;
}

enum { FEED_BUFFERS = 3 * FEED_SETS + 1 };

static void list_buffers(Feed *feed, Buffer list[FEED_BUFFERS]) {
    const size_t rows = (size_t)feed->max_rows, images = rows * image_bytes(feed);
    for (int s = 0; s < FEED_SETS; s++) {
        list[3 * s] = (Buffer){&feed->sets[s].images, feed->resident ? 0 : images};
        list[3 * s + 1] = (Buffer){&feed->sets[s].ids, rows * sizeof(int64_t)};
        list[3 * s + 2] = (Buffer){&feed->sets[s].index, feed->resident ? rows * sizeof(int32_t) : 0};
    }
    list[3 * FEED_SETS] = (Buffer){&feed->gathered, feed->resident ? images : 0};
}

Status feed_init(Feed *feed, Device *device, const Resident *resident, int64_t max_rows, int size, const float mean[3],
                 const float std[3], Error *err) {
    *feed = (Feed){.device = device, .resident = resident, .max_rows = max_rows, .size = size};
    memcpy(feed->mean, mean, sizeof feed->mean);
    memcpy(feed->std, std, sizeof feed->std);
    Buffer list[FEED_BUFFERS];
    list_buffers(feed, list);
    RETURN_IF(buffers_alloc(device, list, FEED_BUFFERS, err));
    for (int s = 0; s < FEED_SETS; s++)
        device->ops->upload->release(device, s);
    return STATUS_OK;
}

void feed_free(Feed *feed) {
    if (!feed->device)
        return;
    Buffer list[FEED_BUFFERS];
    list_buffers(feed, list);
    buffers_free(feed->device, list, FEED_BUFFERS);
    *feed = (Feed){0};
}

size_t feed_bytes(const Feed *feed) {
    Feed any = *feed;
    Buffer list[FEED_BUFFERS];
    list_buffers(&any, list);
    return buffers_bytes(list, FEED_BUFFERS);
}

/* Starts the batch's copies into the set that is to be filled. */
static void start(Feed *feed, const Batch *batch) {
    Device *d = feed->device;
    const int set = feed->filling;
    const size_t rows = (size_t)batch->rows;
    d->ops->upload->start(d, set, feed->sets[set].ids, batch->ids, rows * sizeof *batch->ids);
    if (feed->resident)
        d->ops->upload->start(d, set, feed->sets[set].index, batch->index, rows * sizeof *batch->index);
    else
        d->ops->upload->start(d, set, feed->sets[set].images, batch->images, rows * image_bytes(feed));
    feed->started = 1;
}

Status feed_next(Feed *feed, Loader *loader, Batch *batch, int *done, Error *err) {
    if (!feed->has_ahead)
        return loader_next(loader, batch, done, err);
    *batch = feed->ahead;
    *done = 0;
    feed->has_ahead = 0;
    return STATUS_OK;
}

void feed_load(Feed *feed, const Batch *batch) {
    Device *d = feed->device;
    const int set = feed->filling;
    if (!feed->started)
        start(feed, batch);
    feed->started = 0;
    feed->filling = (set + 1) % FEED_SETS;
    d->ops->upload->release(d, feed->filling); /* views of the batch before were the last to read it */
    d->ops->upload->wait(d, set);
    feed->ids = feed->sets[set].ids;
    feed->images = feed->sets[set].images;
    if (feed->resident) {
        d->ops->convert->gather_rows(d, batch->rows, image_bytes(feed), feed->resident->images, feed->sets[set].index,
                                     feed->gathered);
        feed->images = feed->gathered;
    }
}

void feed_prefetch(Feed *feed, Loader *loader) {
    Error err;
    int done;
    if (feed->has_ahead || !loader_ready(loader) || loader_next(loader, &feed->ahead, &done, &err) != STATUS_OK)
        return;
    feed->has_ahead = 1;
    start(feed, &feed->ahead);
}

void feed_done(Feed *feed, Loader *loader, const Batch *batch) {
    const int set = (feed->filling + FEED_SETS - 1) % FEED_SETS;
    feed->device->ops->upload->finish(feed->device, set);
    loader_release(loader, batch);
}

void feed_drop(Feed *feed, Loader *loader) {
    if (feed->started)
        feed->device->ops->upload->finish(feed->device, feed->filling);
    if (feed->has_ahead)
        loader_release(loader, &feed->ahead);
    feed->started = feed->has_ahead = 0;
}

void feed_view(Feed *feed, const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, int64_t rows,
               DType dtype, void *out) {
    ViewSpec spec = view_spec(config, kind, epoch, view, feed->mean, feed->std);
    feed->device->ops->views->make(feed->device, &spec, rows, feed->size, feed->size, feed->images, feed->ids, dtype,
                                   out, NULL);
}

void feed_step(Feed *feed, const Config *config, StepViews *views, uint32_t epoch, int64_t rows, int mask) {
    feed_view(feed, config, VIEW_RANDOM, epoch, VIEW_SECOND, rows, views->dtype, views->random);
    if (config->method != METHOD_CE)
        feed_view(feed, config, VIEW_RANDOM, epoch, VIEW_FIRST, rows, views->dtype, views->backup);
    if (mask && views->standard)
        feed_view(feed, config, VIEW_STANDARD, epoch, 0, rows, views->dtype, views->standard);
}

void feed_classifier(Feed *feed, const Config *config, StepViews *views, uint32_t epoch, int64_t rows) {
    const ViewKind kind = config->classifier.augment == CLASSIFIER_AUGMENT_CROP_FLIP ? VIEW_CROP_FLIP : VIEW_STANDARD;
    feed_view(feed, config, kind, epoch, VIEW_CLASSIFIER, rows, views->dtype, views->random);
}
