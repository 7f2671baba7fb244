/* The synthetic dataset as an import source: sample i of a split has class i mod classes, and is painted from draws
 * keyed by (seed, split, i), so it does not depend on threads or shard sizes. */
#include <stdio.h>
#include <string.h>

#include <math.h>

#include "io/files/files.h"
#include "io/import/import_job.h"
#include "io/import/synthetic.h"

enum { MIN_SIZE = 16, MAX_SIZE = 256, STATISTICS_SAMPLES = 512 };

/* Train: the class's own family with probability `correlation`, else one of the others. Val: any family. */
static int draw_background_family(const SyntheticOptions *options, Split split, int label, PhiloxReader *draws) {
    const float u = philox_next_uniform(draws);
    const uint32_t classes = (uint32_t)options->classes;
    if (split == SPLIT_VAL)
        return (int)philox_next_below(draws, classes);
    const int other = (label + 1 + (int)philox_next_below(draws, classes - 1)) % options->classes;
    return (double)u < options->correlation ? label : other;
}

static void paint_sample(const SyntheticOptions *options, Split split, int64_t index, const ImportSample *out) {
    PhiloxReader draws = philox_reader(options->seed, PHILOX_SYNTHETIC, (uint64_t)index, (uint32_t)split);
    const int label = (int)(index % options->classes);
    SyntheticScene scene = {label, draw_background_family(options, split, label, &draws)};
    *out->label = label;
    synthetic_paint(scene, options->size, &draws, out->image, out->mask, out->box);
}

static Status sample(void *ctx, Split split, int64_t index, const ImportSample *out, Error *err) {
    (void)err;
    paint_sample(ctx, split, index, out);
    return STATUS_OK;
}

/* Channel mean and standard deviation over the first train samples. */
static void measure(const SyntheticOptions *options, int64_t train, float mean[3], float std[3]) {
    uint8_t image[MAX_SIZE * MAX_SIZE * 3], mask[MAX_SIZE * MAX_SIZE];
    int16_t box[4];
    int32_t label;
    const ImportSample out = {.image = image, .label = &label, .box = box, .mask = mask};
    const int64_t pixels = (int64_t)options->size * options->size;
    const int64_t images = train < STATISTICS_SAMPLES ? train : STATISTICS_SAMPLES;
    double sum[3] = {0}, square[3] = {0};
    for (int64_t i = 0; i < images; i++) {
        paint_sample(options, SPLIT_TRAIN, i, &out);
        for (int64_t p = 0; p < pixels * 3; p++) {
            sum[p % 3] += image[p] / 255.0;
            square[p % 3] += image[p] / 255.0 * (image[p] / 255.0);
        }
    }
    for (int c = 0; c < 3; c++) {
        const double count = (double)(images * pixels), average = sum[c] / count;
        mean[c] = (float)average;
        std[c] = (float)sqrt(fmax(square[c] / count - average * average, 1e-4));
    }
}

static Status check_options(const SyntheticOptions *options, Error *err) {
    if (options->classes < 2 || options->classes > SYNTHETIC_MAX_CLASSES)
        return error_set(err, STATUS_USAGE, "synthetic: %d classes; 2 to %d are possible", options->classes,
                         SYNTHETIC_MAX_CLASSES);
    if (options->size < MIN_SIZE || options->size > MAX_SIZE)
        return error_set(err, STATUS_USAGE, "synthetic: image side %d; %d to %d are possible", options->size, MIN_SIZE,
                         MAX_SIZE);
    if (options->train_per_class < 1 || options->val_per_class < 0 || options->train_per_class > 1000000 ||
        options->val_per_class > 1000000)
        return error_set(err, STATUS_USAGE,
                         "synthetic: images per class: 1 to 1000000 for train, 0 to 1000000 for val");
    if (!(options->correlation >= 0 && options->correlation <= 1))
        return error_set(err, STATUS_USAGE, "synthetic: correlation %g is outside 0..1", options->correlation);
    return STATUS_OK;
}

Status import_synthetic(const char *dst, const SyntheticOptions *synthetic, const ImportOptions *options, Error *err) {
    SyntheticOptions own = *synthetic;
    char names[SYNTHETIC_MAX_CLASSES][64], *name_list[SYNTHETIC_MAX_CLASSES], text[256];
    RETURN_IF(check_options(synthetic, err));
    for (int c = 0; c < own.classes; c++) {
        synthetic_class_name(c, names[c]);
        name_list[c] = names[c];
    }
    ImportSource source = {.kind = "synthetic",
                           .classes = own.classes,
                           .height = own.size,
                           .width = own.size,
                           .class_names = name_list,
                           .has_boxes = 1,
                           .has_masks = 1,
                           .count = {own.train_per_class * own.classes, own.val_per_class * own.classes},
                           .sample = sample,
                           .ctx = &own};
    measure(&own, source.count[SPLIT_TRAIN], source.mean, source.std);
    int n = snprintf(text, sizeof text, "synthetic 1 seed %llu classes %d size %d train %lld val %lld correlation %.9g",
                     (unsigned long long)own.seed, own.classes, own.size, (long long)own.train_per_class,
                     (long long)own.val_per_class, own.correlation);
    sha256_of(text, (size_t)n, source.plan);
    return import_run(&source, dst, options, err);
}

static Status run(const char *src, const char *dst, const ImportOptions *options, Error *err) {
    (void)src;
    SyntheticOptions synthetic = {
        .seed = 1, .classes = 10, .size = 32, .train_per_class = 200, .val_per_class = 50, .correlation = 0.5};
    if (options && options->synthetic)
        synthetic = *options->synthetic;
    if (options && options->classes > 0)
        synthetic.classes = options->classes;
    return import_synthetic(dst, &synthetic, options, err);
}

const Importer importer_synthetic = {
    .name = "synthetic",
    .help = "drawn objects on textured backgrounds, with boxes and true masks",
    .run = run,
};
