#include "trainer/run/feed.h"

#include <string.h>

#include "trainer/method/views.h"

static size_t image_bytes(const Feed *feed) {
    return (size_t)feed->size * (size_t)feed->size * 3;
}

Status feed_init(Feed *feed, Device *device, int64_t max_rows, int size, const float mean[3], const float std[3],
                 Error *err) {
    *feed = (Feed){.device = device, .max_rows = max_rows, .size = size};
    memcpy(feed->mean, mean, sizeof feed->mean);
    memcpy(feed->std, std, sizeof feed->std);
    RETURN_IF(device->ops->alloc(device, image_bytes(feed) * (size_t)max_rows, &feed->images, err));
    return device->ops->alloc(device, sizeof(int64_t) * (size_t)max_rows, &feed->ids, err);
}

void feed_free(Feed *feed) {
    if (feed->images)
        feed->device->ops->release(feed->device, feed->images, image_bytes(feed) * (size_t)feed->max_rows);
    if (feed->ids)
        feed->device->ops->release(feed->device, feed->ids, sizeof(int64_t) * (size_t)feed->max_rows);
    *feed = (Feed){0};
}

void feed_load(Feed *feed, const Batch *batch) {
    feed->device->ops->copy_in(feed->device, feed->images, batch->images, image_bytes(feed) * (size_t)batch->rows);
    feed->device->ops->copy_in(feed->device, feed->ids, batch->ids, sizeof(int64_t) * (size_t)batch->rows);
    feed->device->ops->sync(feed->device);
}

void feed_view(Feed *feed, const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, int64_t rows,
               DType dtype, void *out) {
    ViewSpec spec = views_spec(config, kind, epoch, view, feed->mean, feed->std);
    feed->device->ops->views_make(feed->device, &spec, rows, feed->size, feed->size, feed->images, feed->ids, dtype,
                                  out, NULL);
}

void feed_step(Feed *feed, const Config *config, Step *step, uint32_t epoch, int64_t rows, int mask) {
    const DType dtype = step->model->dtype;
    feed_view(feed, config, VIEW_RANDOM, epoch, VIEW_SECOND, rows, dtype, step->random);
    if (config->method != METHOD_CE)
        feed_view(feed, config, VIEW_RANDOM, epoch, VIEW_FIRST, rows, dtype, step->backup);
    if (mask && step->standard)
        feed_view(feed, config, VIEW_STANDARD, epoch, 0, rows, dtype, step->standard);
}

void feed_classifier(Feed *feed, const Config *config, Step *step, uint32_t epoch, int64_t rows) {
    const ViewKind kind = config->classifier.augment == CLASSIFIER_AUGMENT_CROP_FLIP ? VIEW_CROP_FLIP : VIEW_STANDARD;
    feed_view(feed, config, kind, epoch, VIEW_CLASSIFIER, rows, step->model->dtype, step->random);
}
