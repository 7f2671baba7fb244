/* The loop of a training run: passes, steps, ends of epochs; what it does when a step is not finite, and when it is
 * told to stop. */
#include <stdio.h>

#include "comm/watchdog.h"
#include "kernels/base/clock.h"
#include "trainer/evaluate/results.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/signals.h"
#include "trainer/run/trainer.h"

bool trainer_at_limit(const Trainer *t) {
    return t->config.train.max_steps > 0 && t->at.step >= t->config.train.max_steps;
}

/* Every rank gives the same answer at the same step. */
static int stop_requested(Trainer *t) {
    int64_t signal = signals_pending();
    comm_host_max_i64(&t->runtime.comm, &signal, 1);
    return (int)signal;
}

static Status saved_for_signal(Trainer *t, int signal, Error *err) {
    if (t->last_saved != t->at.step)
        RETURN_IF(trainer_save(t, false, err));
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
    t->report.interval = (Tally){0};
    t->rollbacks++;
    t->skipped_in_row = 0;
    log_line(&t->report.log, "rolled back from step %lld to step %lld", (long long)from, (long long)t->at.step);
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
    log_line(&t->report.log, "step %lld skipped: loss or gradient not finite (%lld in a row)", (long long)t->at.step,
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

static bool masking_on(const Trainer *t) {
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
                       .lr = t->report.last_lr};
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
        step_run(step, &input, &t->views, true, report);
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
        walk_prepare_running(&t->model, true);
    while (!trainer_at_limit(t)) {
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
        t->report.last_lr = schedule_lr(&t->config, t->at.epoch, t->at.cursor, t->batches);
        train_batch(t, &batch, waited, &report);
        feed_done(&t->feed, t->loader, &batch);
        t->at.cursor++;
        t->at.step++;
        if (report_step(&t->report, &report))
            trainer_write_status(t, "training");
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
            RETURN_IF(trainer_save(t, false, err));
    }
    return STATUS_OK;
}

static bool has_classifier_pass(const Trainer *t) {
    return t->config.classifier.schedule == CLASSIFIER_ALTERNATE && t->config.method != METHOD_CE;
}

static Status finish_epoch(Trainer *t, Error *err) {
    EvalResult result;
    bool evaluated = false, is_best = false;
    const int64_t epoch = t->at.epoch, every = t->config.eval.every_epochs;
    if (t->select_count > 0 && every > 0 && (epoch % every == 0 || epoch == t->config.train.epochs)) {
        watchdog_phase(t->runtime.comm.watchdog, "validation", t->at.step);
        loader_pause(t->loader);
        Status status =
            evaluator_run(&t->evaluator, &t->dataset, t->select_split, t->select_ids, t->select_count, &result, err);
        loader_resume(t->loader);
        RETURN_IF(status);
        evaluated = true;
        const double top1 = results_value(&result, "top1");
        if (top1 > t->at.best) {
            t->at.best = top1;
            t->at.best_step = t->at.step;
            is_best = true;
        }
    }
    watchdog_phase(t->runtime.comm.watchdog, "end of epoch", t->at.step);
    report_epoch(&t->report, epoch, evaluated ? &result : NULL);
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
            RETURN_IF(trainer_save(t, false, err));
    while (t->at.epoch <= t->config.train.epochs && !trainer_at_limit(t)) {
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
        RETURN_IF(trainer_save(t, false, err));
    if (!t->trial)
        report_end(&t->report);
    return STATUS_OK;
}
