/* Whether a checkpoint belongs to the run that is asked for: the same dataset, the same settings where they make a run
 * what it is. What may change is said. */
#include <stdio.h>
#include <string.h>

#include "io/files/files.h"
#include "trainer/run/trainer.h"

typedef struct Comparison {
    const CheckpointMeta *was;
    char refused[600], free[1024]; /* what differs, as text */
    int order;                     /* a difference that only matters within an epoch */
} Comparison;

static void append(char *text, size_t size, const char *separator, const char *key, const char *was, const char *link,
                   const char *is) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s %.80s%s%.80s", used ? separator : "", key, was, link, is);
}

static void take_difference(void *ctx, ConfigChange change, const char *key, const char *was, const char *is) {
    Comparison *c = ctx;
    if (change == CHANGE_IDENTITY || (change == CHANGE_ORDER && c->was->cursor > 0)) {
        c->order |= change == CHANGE_ORDER;
        append(c->refused, sizeof c->refused, "; ", key, was, ", you ask for ", is);
    } else {
        append(c->free, sizeof c->free, ", ", key, was, " -> ", is);
    }
}

/* Settings of a checkpoint that does not hold them: those of the folder's config.yaml, if it is the checkpoint's. */
static void older_settings(const Trainer *t, const CheckpointMeta *was, char out[CONFIG_SETTINGS]) {
    char path[1200], hash[65];
    Config config;
    snprintf(path, sizeof path, "%s/config.yaml", t->config.run.dir);
    out[0] = '\0';
    if (config_load_loose(&config, path, NULL, 0, NULL) != STATUS_OK)
        return;
    config_hash(&config, hash);
    if (strcmp(hash, was->config_hash) == 0)
        config_settings(&config, out);
}

/* What every checkpoint says about its model. */
static void compare_model(Comparison *c, const CheckpointMeta *is) {
    const struct {
        const char *key;
        int64_t was, is;
    } numbers[] = {{"model.width", c->was->width, is->width}, {"model.projection", c->was->projection, is->projection}};
    char was[32], now[32];
    if (strcmp(c->was->method, is->method) != 0)
        take_difference(c, CHANGE_IDENTITY, "method", c->was->method, is->method);
    if (strcmp(c->was->encoder, is->encoder) != 0)
        take_difference(c, CHANGE_IDENTITY, "model.encoder", c->was->encoder, is->encoder);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(was, sizeof was, "%lld", (long long)numbers[i].was);
        snprintf(now, sizeof now, "%lld", (long long)numbers[i].is);
        if (strcmp(was, now) != 0)
            take_difference(c, CHANGE_IDENTITY, numbers[i].key, was, now);
    }
}

static Status refuse(const Trainer *t, const Comparison *c, Error *err) {
    const CheckpointMeta *was = c->was;
    if (c->order)
        return error_set(
            err, STATUS_CONFIG,
            "%s stopped within epoch %lld, after batch %lld, and was trained with %s; then images would be "
            "seen twice or never: go on as before until the epoch ends, or choose another run.dir",
            t->config.run.dir, (long long)was->epoch, (long long)was->cursor, c->refused);
    return error_set(err, STATUS_CONFIG, "%s was trained with %s: choose another run.dir", t->config.run.dir,
                     c->refused);
}

Status identity_classes(const char *who, const CheckpointFile *file, const Dataset *dataset, Error *err) {
    const int64_t n = file->meta.classes;
    if (n > dataset->classes)
        return error_set(err, STATUS_DATA, "%s has %d classes, %s was trained on %lld", dataset->dir, dataset->classes,
                         who, (long long)n);
    for (int64_t c = 0; file->class_names && c < n; c++)
        if (strcmp(file->class_names[c], dataset->class_names[c]) != 0)
            return error_set(err, STATUS_DATA,
                             "%s has other classes than %s was trained on: class %lld is '%.80s', was '%.80s'",
                             dataset->dir, who, (long long)c, dataset->class_names[c], file->class_names[c]);
    return STATUS_OK;
}

static Status check_data(const Trainer *t, const CheckpointFile *file, Error *err) {
    const CheckpointMeta *was = &file->meta, *is = &t->at;
    const char *dir = t->config.run.dir;
    if (was->classes != is->classes || was->image_size != is->image_size)
        return error_set(
            err, STATUS_DATA,
            "%s was trained on %lld classes of %lldx%lld, %s has %lld of %lldx%lld: choose another run.dir", dir,
            (long long)was->classes, (long long)was->image_size, (long long)was->image_size, t->dataset.dir,
            (long long)is->classes, (long long)is->image_size, (long long)is->image_size);
    RETURN_IF(identity_classes(dir, file, &t->dataset, err));
    const int same = was->data_hash[0] ? strcmp(was->data_hash, is->data_hash) == 0
                                       : memcmp(was->mean, is->mean, sizeof was->mean) == 0 &&
                                             memcmp(was->std, is->std, sizeof was->std) == 0;
    return same ? STATUS_OK
                : error_set(
                      err, STATUS_DATA,
                      "%s was trained on another dataset than %s is now: give it that one, or choose another run.dir",
                      dir, t->dataset.dir);
}

Status trainer_accept(void *ctx, const CheckpointFile *file, Error *err) {
    Trainer *t = ctx;
    Comparison c = {.was = &file->meta};
    char older[CONFIG_SETTINGS];
    const char *settings = file->meta.settings;
    if (!settings[0]) {
        older_settings(t, &file->meta, older);
        settings = older;
    }
    config_compare(&t->config, settings, take_difference, &c);
    if (!settings[0])
        compare_model(&c, &t->at);
    if (c.refused[0])
        return refuse(t, &c, err);
    RETURN_IF(check_data(t, file, err));
    if (c.free[0])
        log_note(&t->report.log, "going on with other settings: %s", c.free);
    else if (strcmp(file->meta.config_hash, t->at.config_hash) != 0)
        log_note(&t->report.log,
                 "the configuration differs from the one this run was started with; going on with the new one");
    return STATUS_OK;
}
