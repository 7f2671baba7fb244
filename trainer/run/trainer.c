#include "trainer/run/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "kernels/base/clock.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/signals.h"

/* ---- opening ----------------------------------------------------------------------------------------------------- */

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
    RETURN_IF(evaluator_init(&t->evaluator, c, &t->model, t->select_count, mean, std, err));
    if (t->runtime.comm.rank != 0)
        return STATUS_OK;
    t->evaluator.sheet = &t->sheet;
    return sheet_init(&t->sheet, t->dataset.height, err);
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

static int max_steps_reached(const Trainer *t) {
    return t->config.train.max_steps > 0 && t->at.step >= t->config.train.max_steps;
}

/* A complete run that is called again. */
static int nothing_left(const Trainer *t, int found) {
    return found && (t->at.epoch > t->config.train.epochs || max_steps_reached(t));
}

static void say_setting(void *ctx, const char *text) {
    trainer_note(ctx, "%s", text);
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
        trainer_note(
            t,
            "warning: in %lld epochs%s the learning rate gets to %.3g at most, optim.lr is %.3g; train longer, "
            "or set optim.warmup: off or optim.schedule: constant",
            (long long)c->train.epochs, schedule_warms_up(c) ? " with this warm-up" : "", peak, c->optim.lr);
}

Status trainer_open(Trainer *t, const Config *config, int bar, int trial, Error *err) {
    *t = (Trainer){.config = *config,
                   .bar = bar,
                   .trial = trial,
                   .lock = -1,
                   .resumed_from = -1,
                   .last_saved = -1,
                   .last_loss = NAN,
                   .last_classifier_loss = NAN};
    RETURN_IF(runtime_open(&t->runtime, config, t->backend_choice, sizeof t->backend_choice, err));
    RETURN_IF(open_data(t, err));
    RETURN_IF(schedule_settle(&t->config, t->train_count, err));
    RETURN_IF(comm_agree(&t->runtime.comm, open_model(t, err), err));
    start_position(t);
    RETURN_IF(trial ? trainer_look(t, err) : open_folder(t, err));
    RETURN_IF(comm_agree(&t->runtime.comm, trainer_open_loader(t, err), err));
    if (!trial && !t->idle)
        RETURN_IF(trainer_open_records(t, err));
    trainer_banner(t);
    if (t->runtime.comm.rank == 0)
        config_idle(&t->config, say_setting, t);
    warn_of_rate(t);
    trainer_report_status(t, "training");
    t->started = clock_seconds();
    t->steps_at_start = t->at.step;
    return STATUS_OK;
}

/* What a run that went well says of records that it could not write. */
static Status report_lost(Trainer *t, Status status, Error *err) {
    Error own = {.code = STATUS_OK};
    if (t->events && events_flush(t->events, &own) != STATUS_OK)
        trainer_lost(t, &own);
    if (status != STATUS_OK || t->lost.code == STATUS_OK)
        return status;
    return error_set(err, STATUS_IO, "trained to the end and saved, but records of it are lost: %.800s",
                     t->lost.message);
}

/* Only a rank's own log tells of that rank. */
static Status close_log(Trainer *t, Status status, Error *err) {
    const int lost = ferror(t->log), failed = fclose(t->log) != 0;
    if (status != STATUS_OK || (!lost && !failed))
        return status;
    return error_set(err, STATUS_IO, "%s/logs/rank-%04d.log could not be written: it is not complete",
                     t->config.run.dir, t->runtime.comm.rank);
}

Status trainer_close(Trainer *t, Status status, Error *err) {
    status = report_lost(t, status, err);
    const char *state = status == STATUS_OK ? "done" : status == STATUS_RERUN ? "saved" : "failed";
    trainer_report_status(t, state);
    trainer_log(t, "%s%s%s", state, status == STATUS_OK ? "" : ": ", status == STATUS_OK ? "" : err->message);
    metrics_close(t->metrics);
    events_close(t->events);
    feed_drop(&t->feed, t->loader);
    if (t->loader)
        loader_close(t->loader);
    evaluator_free(&t->evaluator);
    sheet_free(&t->sheet);
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
    free(t->early);
    status = runtime_close(&t->runtime, status, err);
    watchdog_stop(&t->runtime.comm);
    return t->log ? close_log(t, status, err) : status;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Every rank gives the same answer at the same step. */
static int stop_requested(Trainer *t) {
    int64_t signal = signals_pending();
    comm_host_max_i64(&t->runtime.comm, &signal, 1);
    return (int)signal;
}

static Status saved_for_signal(Trainer *t, int signal, Error *err) {
    if (t->last_saved != t->at.step)
        RETURN_IF(trainer_save(t, 0, err));
    return error_set(err, STATUS_RERUN, "signal %d: state saved at step %lld; start the same command again to continue",
                     signal, (long long)t->at.step);
}

/* Back to the newest checkpoint, as if the steps since had never been. */
static Status roll_back(Trainer *t, Error *err) {
    const int64_t from = t->at.step;
    int found = 0;
    loader_pause(t->loader);
    Status status = trainer_restore(t, &found, err);
    loader_resume(t->loader);
    RETURN_IF(status);
    if (!found)
        return error_set(err, STATUS_DIVERGED,
                         "training diverged at step %lld before its first checkpoint; lower optim.lr", (long long)from);
    t->last_saved = t->at.step;
    t->interval = (Tally){0};
    t->rollbacks++;
    t->skipped_in_row = 0;
    trainer_log(t, "rolled back from step %lld to step %lld", (long long)from, (long long)t->at.step);
    if (t->runtime.comm.rank == 0) {
        fprintf(stderr, "excon: rolled back from step %lld to step %lld\n", (long long)from, (long long)t->at.step);
        status = trainer_open_metrics(t, err);
    }
    return comm_agree(&t->runtime.comm, status, err);
}

/* A skipped step leaves the model as it was. Too many in a row: back to the newest checkpoint, then give up. No
 * checkpoint is made within such a row: it would be the one to return to, and push out those from before the trouble.
 */
static Status handle_nonfinite(Trainer *t, int *rolled_back, Error *err) {
    *rolled_back = 0;
    t->skipped_in_row++;
    trainer_log(t, "step %lld skipped: loss or gradient not finite (%lld in a row)", (long long)t->at.step,
                (long long)t->skipped_in_row);
    if (t->runtime.comm.rank == 0)
        fprintf(stderr, "excon: step %lld skipped: loss or gradient is not finite\n", (long long)t->at.step);
    if (t->skipped_in_row <= t->config.guard.skip_max)
        return STATUS_OK;
    if (t->rollbacks >= t->config.guard.rollback_max)
        return error_set(err, STATUS_DIVERGED,
                         "training diverged: %lld steps in a row without a finite gradient at step %lld, after %lld "
                         "rollbacks; lower optim.lr or raise loss.temperature",
                         (long long)t->skipped_in_row, (long long)t->at.step, (long long)t->rollbacks);
    *rolled_back = 1;
    return roll_back(t, err);
}

static Status next_batch(Trainer *t, Batch *batch, int *done, Error *err) {
    Status status = feed_next(&t->feed, t->loader, batch, done, err);
    return comm_agree(&t->runtime.comm, status, err);
}

static int masking_on(const Trainer *t) {
    return config_masks(&t->config) && t->at.epoch >= t->config.start_epoch;
}

/* Moments before a step, beside those of step.c, which are numbered from 0. */
enum { STAMP_FED = DEVICE_STAMPS - 3, STAMP_LOADED, STAMP_VIEWED };

/* Views and step of one batch, in the phase the run is in. */
static void train_batch(Trainer *t, const Batch *batch, double waited, StepReport *report) {
    Step *step = &t->step;
    Device *device = &t->runtime.device;
    const Ops *ops = device->ops;
    StepInput input = {.rows = batch->rows,
                       .first = batch->first,
                       .global_rows = batch->global_rows,
                       .labels = batch->labels,
                       .mask = masking_on(t),
                       .lr = t->last_lr};
    watchdog_phase(t->runtime.comm.watchdog, "training", t->at.step);
    ops->stream->stamp(device, STAMP_FED);
    feed_load(&t->feed, batch);
    ops->stream->stamp(device, STAMP_LOADED);
    if (t->at.phase == RUN_ENCODER)
        feed_step(&t->feed, &t->config, &t->views, (uint32_t)t->at.epoch, batch->rows, input.mask);
    else
        feed_classifier(&t->feed, &t->config, &t->views, (uint32_t)t->at.epoch, batch->rows);
    ops->stream->stamp(device, STAMP_VIEWED);
    feed_prefetch(&t->feed, t->loader);
    if (t->at.phase == RUN_ENCODER)
        step_run(step, &input, &t->views, 1, report);
    else
        step_classifier(step, &input, &t->views, report);
    report->seconds[PHASE_DATA] += waited + ops->stream->seconds(device, STAMP_FED, STAMP_LOADED);
    report->seconds[PHASE_VIEWS] += ops->stream->seconds(device, STAMP_LOADED, STAMP_VIEWED);
}

/* The classifier's pass has an order of its own: epochs far beyond any encoder epoch. */
static uint32_t order_epoch(const Trainer *t) {
    return (uint32_t)t->at.epoch + (t->at.phase == RUN_CLASSIFIER ? 0x40000000u : 0u);
}

/* Trains what is left of the current pass. Sets *ended when the pass is complete. */
static Status run_pass(Trainer *t, int *ended, Error *err) {
    *ended = 0;
    feed_drop(&t->feed, t->loader); /* of a position that a rollback left */
    RETURN_IF(comm_agree(&t->runtime.comm, loader_start_epoch(t->loader, order_epoch(t), t->at.cursor, err), err));
    if (t->at.phase == RUN_CLASSIFIER)
        walk_prepare_running(&t->model, 1);
    while (!max_steps_reached(t)) {
        const int signal = stop_requested(t);
        if (signal)
            return saved_for_signal(t, signal, err);
        Batch batch;
        int done = 0;
        double mark = clock_seconds();
        RETURN_IF(next_batch(t, &batch, &done, err));
        if (done) {
            *ended = 1;
            return STATUS_OK;
        }
        double waited = clock_seconds() - mark;
        StepReport report;
        t->last_lr = schedule_lr(&t->config, t->at.epoch, t->at.cursor, t->batches);
        train_batch(t, &batch, waited, &report);
        feed_done(&t->feed, t->loader, &batch);
        t->at.cursor++;
        t->at.step++;
        trainer_report_step(t, &report);
        if (report.finite) {
            t->skipped_in_row = 0;
        } else {
            int rolled_back;
            RETURN_IF(handle_nonfinite(t, &rolled_back, err));
            if (rolled_back)
                return STATUS_OK;
        }
        const int64_t every = t->config.checkpoint.every_steps;
        if (every > 0 && t->at.step % every == 0 && t->at.cursor < t->batches && t->skipped_in_row == 0)
            RETURN_IF(trainer_save(t, 0, err));
    }
    return STATUS_OK;
}

static int has_classifier_pass(const Trainer *t) {
    return t->config.classifier.schedule == CLASSIFIER_ALTERNATE && t->config.method != METHOD_CE;
}

static Status finish_epoch(Trainer *t, Error *err) {
    EvalResult result;
    int evaluated = 0, is_best = 0;
    const int64_t epoch = t->at.epoch, every = t->config.eval.every_epochs;
    if (t->select_count > 0 && every > 0 && (epoch % every == 0 || epoch == t->config.train.epochs)) {
        watchdog_phase(t->runtime.comm.watchdog, "validation", t->at.step);
        loader_pause(t->loader);
        Status status =
            evaluator_run(&t->evaluator, &t->dataset, t->select_split, t->select_ids, t->select_count, 0, &result, err);
        loader_resume(t->loader);
        RETURN_IF(status);
        evaluated = 1;
        if (result.top1 > t->at.best) {
            t->at.best = result.top1;
            t->at.best_step = t->at.step;
            is_best = 1;
        }
    }
    watchdog_phase(t->runtime.comm.watchdog, "end of epoch", t->at.step);
    trainer_report_epoch(t, epoch, evaluated ? &result : NULL);
    t->at.epoch++;
    t->at.cursor = 0;
    t->at.phase = RUN_ENCODER;
    t->at.finished = t->at.epoch > t->config.train.epochs;
    if (t->skipped_in_row > 0 && !is_best && !t->at.finished)
        return STATUS_OK;
    return trainer_save(t, is_best, err);
}

/* Says why a complete run that is called again does nothing. */
static void say_idle(const Trainer *t) {
    char best[64] = "";
    if (t->runtime.comm.rank != 0)
        return;
    if (t->at.best >= 0)
        snprintf(best, sizeof best, ", best top-1 %.2f %%", 100 * t->at.best);
    if (t->at.epoch > t->config.train.epochs)
        printf("nothing to do: %s is finished (%lld epochs, step %lld%s); another run needs another run.dir\n",
               t->config.run.dir, (long long)t->config.train.epochs, (long long)t->at.step, best);
    else
        printf("nothing to do: %s is at step %lld, train.max_steps is %lld%s\n", t->config.run.dir,
               (long long)t->at.step, (long long)t->config.train.max_steps, best);
    fflush(stdout);
}

Status trainer_run(Trainer *t, Error *err) {
    if (t->idle) {
        say_idle(t);
        return STATUS_OK;
    }
    if (t->resumed_from < 0 || t->config.train.epochs == 0)
        if (t->last_saved != t->at.step)
            RETURN_IF(trainer_save(t, 0, err));
    while (t->at.epoch <= t->config.train.epochs && !max_steps_reached(t)) {
        int ended;
        RETURN_IF(run_pass(t, &ended, err));
        if (!ended)
            continue; /* the step limit, or a rollback moved the position */
        if (t->at.phase == RUN_ENCODER && has_classifier_pass(t)) {
            t->at.phase = RUN_CLASSIFIER;
            t->at.cursor = 0;
        } else {
            RETURN_IF(finish_epoch(t, err));
        }
    }
    if (t->last_saved != t->at.step)
        RETURN_IF(trainer_save(t, 0, err));
    if (!t->trial)
        trainer_report_end(t);
    return STATUS_OK;
}
