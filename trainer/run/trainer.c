#include "trainer/run/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "kernels/base/clock.h"
#include "trainer/optim/schedule.h"
#include "trainer/report/training/banner.h"

/* There must be something to tell apart, and something to choose the best epoch by. */
static Status check_samples(const Trainer *t, Error *err) {
    const Config *c = &t->config;
    const int32_t *labels = t->dataset.labels[SPLIT_TRAIN];
    int64_t i = 1;
    while (i < t->train_count && labels[t->train_ids[i]] == labels[t->train_ids[0]])
        i++;
    if (i >= t->train_count)
        return error_set(
            err, STATUS_DATA,
            "%s: all training images are of one class, which cannot be told from anything; import at least "
            "two classes",
            t->dataset.dir);
    if (t->select_count > 0 || c->eval.every_epochs == 0)
        return STATUS_OK;
    if (t->select_split == SPLIT_TRAIN)
        return error_set(err, STATUS_CONFIG,
                         "data.holdout %g leaves no image of %s to choose the best epoch by, as no class has two; set "
                         "eval.selection: val, or eval.every_epochs: 0",
                         c->data.holdout, t->dataset.dir);
    return error_set(
        err, STATUS_CONFIG,
        "eval.selection: val, but %s has no val images; set data.holdout > 0 and eval.selection: holdout, or "
        "eval.every_epochs: 0",
        t->dataset.dir);
}

static Status choose_samples(Trainer *t, Error *err) {
    const Config *c = &t->config;
    int64_t *all = NULL, n = 0;
    RETURN_IF(dataset_select_classes(&t->dataset, SPLIT_TRAIN, (int)c->data.classes, &all, &n, err));
    Status status;
    if (c->eval.selection == SELECTION_HOLDOUT) {
        t->select_split = SPLIT_TRAIN;
        status = dataset_hold_out(&t->dataset, SPLIT_TRAIN, all, n, c->data.holdout, (uint64_t)c->seed, &t->train_ids,
                                  &t->train_count, &t->select_ids, &t->select_count, err);
        free(all);
    } else {
        t->select_split = SPLIT_VAL;
        t->train_ids = all;
        t->train_count = n;
        status =
            dataset_select_classes(&t->dataset, SPLIT_VAL, (int)c->data.classes, &t->select_ids, &t->select_count, err);
    }
    if (status == STATUS_OK && t->train_count == 0)
        status = error_set(err, STATUS_DATA, "%s has no training images for data.classes %lld", t->dataset.dir,
                           (long long)c->data.classes);
    return status == STATUS_OK ? check_samples(t, err) : status;
}

static Status open_data(Trainer *t, Error *err) {
    Status status = dataset_open(&t->dataset, t->config.data.dir, 0, err);
    if (status == STATUS_OK && t->config.data.classes > t->dataset.classes)
        status = error_set(err, STATUS_CONFIG, "data.classes is %lld, %s has %d classes",
                           (long long)t->config.data.classes, t->dataset.dir, t->dataset.classes);
    if (status == STATUS_OK && t->dataset.height != t->dataset.width)
        status = error_set(err, STATUS_DATA, "%s holds %dx%d images; square ones are needed", t->dataset.dir,
                           t->dataset.height, t->dataset.width);
    if (status == STATUS_OK)
        status = choose_samples(t, err);
    return comm_agree(&t->runtime.comm, status, err);
}

static Status open_model(Trainer *t, Error *err) {
    const Config *c = &t->config;
    ModelShape shape = {.width = (int)c->model.width,
                        .classes = c->data.classes > 0 ? (int)c->data.classes : t->dataset.classes,
                        .projection = (int)c->model.projection,
                        .size = t->dataset.height};
    snprintf(shape.encoder, sizeof shape.encoder, "%s", c->model.encoder);
    RETURN_IF(
        model_init(&t->model, &t->runtime.device, &t->runtime.comm, &shape, t->runtime.dtype, (uint64_t)c->seed, err));
    t->model.bn_global = c->bn.scope == BN_GLOBAL;
    t->model.bn_eps = (float)c->bn.eps;
    t->model.bn_momentum = (float)c->bn.momentum;
    const float *mean = t->dataset.mean, *std = t->dataset.std;
    RETURN_IF(optimiser_init(&t->optimiser, c, &t->model, err));
    RETURN_IF(step_init(&t->step, c, &t->model, &t->optimiser, trainer_batch(t), mean, std, err));
    RETURN_IF(step_views_init(&t->views, c, &t->runtime.device, t->step.max_samples, shape.size, t->model.dtype, err));
    const ExplainOptions explanation = evaluator_explanation(c, mean, std);
    RETURN_IF(evaluator_init(&t->evaluator, c, &t->model, t->select_count, metrics_of_suite("accuracy"), &explanation,
                             mean, std, err));
    if (t->runtime.comm.rank != 0)
        return STATUS_OK;
    t->evaluator.sheet = &t->report.sheet;
    return sheet_init(&t->report.sheet, t->dataset.height, err);
}

static void start_position(Trainer *t) {
    t->at = (CheckpointMeta){.epoch = 1,
                             .best = -1,
                             .best_step = -1,
                             .world_size = t->runtime.comm.size,
                             .width = t->model.shape.width,
                             .classes = t->model.shape.classes,
                             .image_size = t->model.shape.size,
                             .projection = t->model.shape.projection};
    config_hash(&t->config, t->at.config_hash);
    config_settings(&t->config, t->at.settings);
    dataset_identity(&t->dataset, t->at.data_hash);
    snprintf(t->at.method, sizeof t->at.method, "%s", config_name("method", t->config.method));
    snprintf(t->at.encoder, sizeof t->at.encoder, "%s", t->model.shape.encoder);
    memcpy(t->at.mean, t->dataset.mean, sizeof t->at.mean);
    memcpy(t->at.std, t->dataset.std, sizeof t->at.std);
}

/* A complete run that is called again. */
static int nothing_left(const Trainer *t, int found) {
    return found && (t->at.epoch > t->config.train.epochs || trainer_at_limit(t));
}

static void say_setting(void *ctx, const char *text) {
    log_note(ctx, "%s", text);
}

static Status open_folder(Trainer *t, Error *err) {
    int found = 0;
    RETURN_IF(trainer_claim_folder(t, err));
    RETURN_IF(trainer_restore(t, &found, err));
    if (found)
        t->resumed_from = t->last_saved = t->at.step;
    t->idle = nothing_left(t, found);
    return t->idle ? STATUS_OK : trainer_furnish_folder(t, err);
}

/* A schedule so short that optim.lr is not what it says. */
static void warn_of_rate(Trainer *t) {
    const Config *c = &t->config;
    const double peak = schedule_peak(c);
    if (t->runtime.comm.rank == 0 && !t->idle && c->train.epochs > 0 && peak < 0.5 * c->optim.lr)
        log_note(&t->report.log,
                 "warning: in %lld epochs%s the learning rate gets to %.3g at most, optim.lr is %.3g; train longer, "
                 "or set optim.warmup: off or optim.schedule: constant",
                 (long long)c->train.epochs, schedule_warms_up(c) ? " with this warm-up" : "", peak, c->optim.lr);
}

/* What the report says of the run, as it does not change any more. */
static void describe(Trainer *t) {
    Report *r = &t->report;
    snprintf(t->setup, sizeof t->setup, "%d ranks, %s, backend %s", t->runtime.comm.size,
             runtime_precision(&t->runtime), t->backend_choice);
    r->rank = t->runtime.comm.rank;
    r->classes = t->model.shape.classes;
    r->selection = t->select_split == SPLIT_TRAIN ? "holdout" : "val";
    r->train_count = t->train_count;
    r->batch = trainer_batch(t);
    r->batches = t->batches;
}

static void show_banner(Trainer *t) {
    char data_path[256];
    trainer_data_line(t, data_path, sizeof data_path);
    const Banner banner = {.config = &t->config,
                           .comm = &t->runtime.comm,
                           .model = &t->model,
                           .dataset = &t->dataset,
                           .backend = t->backend_choice,
                           .precision = runtime_precision(&t->runtime),
                           .selected_from = t->select_split == SPLIT_TRAIN ? "held out of train" : "official val",
                           .train_count = t->train_count,
                           .select_count = t->select_count,
                           .batch = trainer_batch(t),
                           .batches = t->batches,
                           .data_path = data_path,
                           .activation_bytes = t->step.arena_bytes,
                           .resumed_from = t->resumed_from,
                           .epoch = checkpoint_epoch(&t->at)};
    banner_show(&banner, &t->report.log);
}

static Status open_parts(Trainer *t, Error *err) {
    RETURN_IF(runtime_open(&t->runtime, &t->config, t->backend_choice, sizeof t->backend_choice, err));
    RETURN_IF(open_data(t, err));
    RETURN_IF(schedule_settle(&t->config, t->train_count, err));
    RETURN_IF(comm_agree(&t->runtime.comm, open_model(t, err), err));
    start_position(t);
    RETURN_IF(t->trial ? trainer_look(t, err) : open_folder(t, err));
    RETURN_IF(comm_agree(&t->runtime.comm, trainer_open_loader(t, err), err));
    describe(t);
    return t->trial || t->idle ? STATUS_OK : trainer_open_records(t, err);
}

Status trainer_open(Trainer *t, const Config *config, const TrainerOptions *options, Error *err) {
    *t = (Trainer){.config = *config,
                   .trial = options->trial,
                   .lock = -1,
                   .resumed_from = -1,
                   .last_saved = -1,
                   .report = {.config = &t->config,
                              .at = &t->at,
                              .setup = t->setup,
                              .bar = options->bar,
                              .last_loss = NAN,
                              .last_classifier_loss = NAN}};
    const Status status = open_parts(t, err);
    if (status != STATUS_OK)
        return trainer_close(t, status, err);
    show_banner(t);
    trainer_warn_of_cache(t);
    if (t->runtime.comm.rank == 0)
        config_idle(&t->config, say_setting, &t->report.log);
    warn_of_rate(t);
    t->report.started = clock_seconds();
    t->report.steps_at_start = t->at.step; /* before the status, which estimates from it */
    trainer_write_status(t, "training");
    return STATUS_OK;
}

/* What a run that went well says of records that it could not write. */
static Status tell_lost_records(Trainer *t, Status status, Error *err) {
    report_flush(&t->report);
    if (status != STATUS_OK || t->report.lost.code == STATUS_OK)
        return status;
    return error_set(err, STATUS_IO, "trained to the end and saved, but records of it are lost: %.800s",
                     t->report.lost.message);
}

/* Only a rank's own log tells of that rank. */
static Status close_log(Trainer *t, Status status, Error *err) {
    if (log_close(&t->report.log) || status != STATUS_OK)
        return status;
    return error_set(err, STATUS_IO, "%s/logs/rank-%04d.log could not be written: it is not complete",
                     t->config.run.dir, t->runtime.comm.rank);
}

Status trainer_close(Trainer *t, Status status, Error *err) {
    status = tell_lost_records(t, status, err);
    const char *state = status == STATUS_OK ? "done" : status == STATUS_RERUN ? "saved" : "failed";
    trainer_write_status(t, state);
    log_line(&t->report.log, "%s%s%s", state, status == STATUS_OK ? "" : ": ", status == STATUS_OK ? "" : err->message);
    report_close_records(&t->report);
    feed_drop(&t->feed, t->loader);
    if (t->loader)
        loader_close(t->loader);
    evaluator_free(&t->evaluator);
    feed_free(&t->feed);
    resident_free(&t->resident);
    step_views_free(&t->views);
    step_free(&t->step);
    optimiser_free(&t->optimiser);
    model_free(&t->model);
    dataset_close(&t->dataset);
    free(t->train_ids);
    free(t->select_ids);
    trainer_release_folder(t);
    status = runtime_close(&t->runtime, status, err);
    watchdog_stop(&t->runtime.comm);
    return close_log(t, status, err);
}
