/* What a person and a program see of a run: progress, metrics.jsonl, status.json, logs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/files/files.h"
#include "kernels/base/clock.h"
#include "trainer/run/signals.h"
#include "trainer/run/terminal.h"
#include "trainer/run/trainer.h"

/* Lines said before there is a log, kept until there is one. */
static void keep_early(Trainer *t, const char *stamp, const char *format, va_list args) {
    char line[1200];
    vsnprintf(line, sizeof line, format, args);
    const size_t used = t->early ? strlen(t->early) : 0, more = strlen(stamp) + strlen(line) + 3;
    char *longer = used < EARLY_LOG_BYTES ? realloc(t->early, used + more) : NULL;
    if (!longer)
        return;
    snprintf(longer + used, more, "%s %s\n", stamp, line);
    t->early = longer;
}

void trainer_log(Trainer *t, const char *format, ...) {
    char stamp[32];
    time_t seconds = time(NULL);
    struct tm parts;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    va_list args;
    va_start(args, format);
    if (!t->log) {
        keep_early(t, stamp, format, args);
        va_end(args);
        return;
    }
    fprintf(t->log, "%s ", stamp);
    vfprintf(t->log, format, args);
    va_end(args);
    fputc('\n', t->log);
    fflush(t->log);
}

void trainer_lost(Trainer *t, const Error *what) {
    trainer_log(t, "record lost: %s", what->message);
    if (t->lost.code != STATUS_OK)
        return;
    t->lost = *what;
    fprintf(stderr, "excon: a record is lost: %s. Training goes on, and will end with code %d\n", what->message,
            (int)STATUS_IO);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0.0;
}

double tally_loss(const Tally *tally) {
    return tally->sums.loss_steps > 0 ? tally->sums.loss / tally->sums.loss_steps : NAN;
}

double tally_classifier_loss(const Tally *tally) {
    return tally->sums.classifier_steps > 0 ? tally->sums.classifier_loss / tally->sums.classifier_steps : NAN;
}

static void text_duration(double seconds, char *out, size_t size) {
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%ldm%02lds", s / 60, s % 60);
}

static int64_t steps_per_epoch(const Trainer *t) {
    return t->batches * (t->config.classifier.schedule == CLASSIFIER_JOINT || t->config.method == METHOD_CE ? 1 : 2);
}

/* Steps the whole run takes, for the estimate of what is left. */
static int64_t total_steps(const Trainer *t) {
    const int64_t steps = t->config.train.epochs * steps_per_epoch(t), limit = t->config.train.max_steps;
    return limit > 0 && limit < steps ? limit : steps;
}

/* Rows of background belong to a method and a mode; elsewhere a count of them would only puzzle. */
static int has_background(const Trainer *t) {
    return t->config.method == METHOD_EXCONB && t->config.background.mode != BACKGROUND_NONE;
}

static const char *selection_name(const Trainer *t) {
    return t->select_split == SPLIT_TRAIN ? "holdout" : "val";
}

static double seconds_left(const Trainer *t) {
    const int64_t done = t->at.step - t->steps_at_start;
    return done > 0 ? (clock_seconds() - t->started) / (double)done * (double)(total_steps(t) - t->at.step) : 0.0;
}

/* "3.2 img/s", "317 img/s" */
static void rate_text(const Tally *tally, char *out, size_t size) {
    const double rate = ratio((double)tally->images, tally->seconds);
    snprintf(out, size, rate < 10 ? "%.1f img/s" : "%.0f img/s", rate);
}

static void print_progress(Trainer *t) {
    const Tally *i = &t->interval;
    char left[32], rate[32], explain[64] = "";
    int used = 0;
    text_duration(seconds_left(t), left, sizeof left);
    if (i->sums.masked > 0)
        used = snprintf(explain, sizeof explain, "  accept %.2f", ratio(i->sums.accepted, i->sums.masked));
    if (has_background(t) && t->at.phase == RUN_ENCODER)
        snprintf(explain + used, sizeof explain - (size_t)used, "  background %lld", (long long)i->sums.background);
    const char *kind = t->at.phase == RUN_CLASSIFIER ? "classifier" : "loss";
    const double loss = t->at.phase == RUN_CLASSIFIER ? tally_classifier_loss(i) : tally_loss(i);
    if (t->bar) {
        char head[64], text[160];
        snprintf(head, sizeof head, "epoch %lld/%lld", (long long)t->at.epoch, (long long)t->config.train.epochs);
        snprintf(text, sizeof text, "%s %.4f  %.1f img/s  ETA %s", kind, loss, ratio((double)i->images, i->seconds),
                 left);
        terminal_progress(stdout, ratio((double)t->at.cursor, (double)t->batches), head, text, explain);
        if (t->at.cursor >= t->batches)
            putchar('\n');
    } else {
        rate_text(i, rate, sizeof rate);
        printf("epoch %lld/%lld step %lld  %s %.4g  lr %.2g  %s%s  ETA %s\n", (long long)t->at.epoch,
               (long long)t->config.train.epochs, (long long)t->at.step, kind, loss, t->last_lr, rate, explain, left);
    }
    fflush(stdout);
}

static void write_metrics(Trainer *t, const Json *json) {
    Error err = {.code = STATUS_OK};
    if (t->metrics && metrics_write(t->metrics, json, &err) != STATUS_OK)
        trainer_lost(t, &err);
}

static void record_step(Trainer *t) {
    const Tally *i = &t->interval;
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", "step");
    json_integer(&json, "schema", RECORDS_SCHEMA);
    json_integer(&json, "step", t->at.step);
    json_integer(&json, "epoch", t->at.epoch);
    json_string(&json, "phase", t->at.phase == RUN_CLASSIFIER ? "classifier" : "encoder");
    if (t->at.phase == RUN_ENCODER)
        json_number(&json, "loss", tally_loss(i));
    if (i->sums.classifier_steps > 0)
        json_number(&json, "classifier_loss", tally_classifier_loss(i));
    json_number(&json, "lr", t->last_lr);
    json_number(&json, "images_per_s", ratio((double)i->images, i->seconds));
    if (i->sums.masked > 0)
        json_number(&json, "accept_rate", ratio(i->sums.accepted, i->sums.masked));
    json_integer(&json, "background", (int64_t)i->sums.background);
    json_integer(&json, "skipped", (int64_t)i->sums.skipped);
    json_begin_object(&json, "seconds");
    for (int p = 0; p < PHASE_COUNT; p++)
        json_number(&json, PHASE_NAMES[p], i->phase[p]);
    json_end_object(&json);
    json_end_object(&json);
    write_metrics(t, &json);
    json_free(&json);
}

/* `counts`: this step's losses enter the means, if they are finite. */
static void add(Tally *tally, const Trainer *t, const StepReport *report, int64_t images, int counts) {
    CheckpointTally *sums = &tally->sums;
    sums->steps++;
    sums->accepted += (double)report->accepted;
    sums->masked += (double)report->masked;
    sums->background += (double)report->background;
    sums->skipped += !report->finite;
    if (counts && report->finite && t->at.phase == RUN_ENCODER) {
        sums->loss_steps++;
        sums->loss += report->loss;
    }
    if (counts && report->finite && !isnan(report->classifier_loss)) {
        sums->classifier_steps++;
        sums->classifier_loss += report->classifier_loss;
    }
    tally->images += images;
    for (int p = 0; p < PHASE_COUNT; p++) {
        tally->phase[p] += report->seconds[p];
        tally->seconds += report->seconds[p];
    }
}

/* An interval ends after every log_every steps of a pass, and with it: a rest of fewer steps belongs to the interval
 * before. The first step of a process is an interval of its own, so that a person soon sees that it works. */
static int interval_ends(const Trainer *t) {
    const int64_t every = t->config.train.log_every, left = t->batches - t->at.cursor;
    return left <= 0 || (t->at.cursor % every == 0 && left >= every) || t->at.step == t->steps_at_start + 1 ||
           t->at.step == t->config.train.max_steps;
}

void trainer_report_step(Trainer *t, const StepReport *report) {
    const int64_t batch = trainer_batch(t), left = t->train_count - (t->at.cursor - 1) * batch;
    const int64_t images = left < batch ? left : batch;
    Tally *i = &t->interval;
    /* A contrastive loss grows with the batch, so a smaller last one would show as a dent at the end of every pass. */
    add(i, t, report, images, images == batch || i->sums.loss_steps + i->sums.classifier_steps == 0);
    add(&t->epoch, t, report, images, 1);
    if (!interval_ends(t))
        return;
    if (i->sums.loss_steps > 0)
        t->last_loss = tally_loss(i);
    if (i->sums.classifier_steps > 0)
        t->last_classifier_loss = tally_classifier_loss(i);
    if (t->runtime.comm.rank == 0) {
        print_progress(t);
        record_step(t);
        trainer_board_step(t);
        trainer_report_status(t, "training");
    }
    t->interval = (Tally){0};
}

/* Epoch of the best checkpoint, 0: cannot be told, since the length of an epoch has changed along the way. */
static int64_t best_epoch(const Trainer *t) {
    const int64_t steps = steps_per_epoch(t), pass = t->at.phase == RUN_CLASSIFIER ? t->batches : 0;
    const int constant = t->at.step == (t->at.epoch - 1) * steps + pass + t->at.cursor;
    return constant && steps > 0 && t->at.best_step % steps == 0 ? t->at.best_step / steps : 0;
}

/* "82.0 % (epoch 13)" */
static void best_text(const Trainer *t, char *out, size_t size) {
    char when[32] = "";
    if (best_epoch(t) > 0)
        snprintf(when, sizeof when, " (epoch %lld)", (long long)best_epoch(t));
    snprintf(out, size, "%.1f %%%s", 100 * t->at.best, when);
}

static void print_epoch(const Trainer *t, int64_t epoch, const EvalResult *selection) {
    const Tally *e = &t->epoch;
    char best[80], rate[32];
    printf("epoch %lld/%lld done", (long long)epoch, (long long)t->config.train.epochs);
    if (selection) {
        printf(": %s top-1 %.1f %%", selection_name(t), 100 * selection->top1);
        if (t->model.shape.classes > 5)
            printf(" top-5 %.1f %%", 100 * selection->top5);
        best_text(t, best, sizeof best);
        printf(" nll %.3f; best %s", selection->nll, best);
    }
    rate_text(e, rate, sizeof rate);
    printf("\n  %s", rate);
    if (e->sums.masked > 0)
        printf(", accept %.3f", ratio(e->sums.accepted, e->sums.masked));
    putchar(';');
    for (int p = 0; p < PHASE_COUNT; p++)
        if (e->phase[p] >= 0.045 * e->seconds)
            printf(" %s %.0f%%", PHASE_NAMES[p], 100 * ratio(e->phase[p], e->seconds));
    putchar('\n');
    fflush(stdout);
}

void trainer_report_epoch(Trainer *t, int64_t epoch, const EvalResult *selection) {
    const Tally *e = &t->epoch;
    if (t->runtime.comm.rank == 0) {
        Json json;
        json_init(&json);
        json_begin_object(&json, NULL);
        json_string(&json, "event", "epoch");
        json_integer(&json, "schema", RECORDS_SCHEMA);
        json_integer(&json, "epoch", epoch);
        json_integer(&json, "step", t->at.step);
        json_integer(&json, "steps", (int64_t)e->sums.steps);
        json_number(&json, "loss", tally_loss(e));
        if (e->sums.classifier_steps > 0)
            json_number(&json, "classifier_loss", tally_classifier_loss(e));
        json_number(&json, "images_per_s", ratio((double)e->images, e->seconds));
        if (e->sums.masked > 0)
            json_number(&json, "accept_rate", ratio(e->sums.accepted, e->sums.masked));
        json_integer(&json, "background", (int64_t)e->sums.background);
        json_integer(&json, "skipped", (int64_t)e->sums.skipped);
        if (selection) {
            json_string(&json, "selection", selection_name(t));
            json_number(&json, "top1", selection->top1);
            json_number(&json, "top5", selection->top5);
            json_number(&json, "nll", selection->nll);
            json_number(&json, "best", t->at.best);
        }
        json_end_object(&json);
        write_metrics(t, &json);
        json_free(&json);
        print_epoch(t, epoch, selection);
        trainer_board_epoch(t, selection_name(t), selection, &t->sheet);
    }
    t->epoch = (Tally){0};
}

static void status_json(const Trainer *t, const char *state, Json *to) {
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "state", state);
    json_integer(&json, "schema", RECORDS_SCHEMA);
    json_integer(&json, "pid", getpid());
    json_string(&json, "host", t->runtime.comm.host);
    json_integer(&json, "ranks", t->runtime.comm.size);
    json_integer(&json, "step", t->at.step);
    json_integer(&json, "total_steps", total_steps(t));
    json_integer(&json, "epoch", checkpoint_epoch(&t->at));
    json_integer(&json, "epochs", t->config.train.epochs);
    json_number(&json, "loss", t->last_loss);
    json_number(&json, "classifier_loss", t->last_classifier_loss);
    json_number(&json, "best_top1", t->at.best < 0 ? NAN : t->at.best);
    json_number(&json, "eta_seconds", seconds_left(t));
    json_integer(&json, "updated", (int64_t)time(NULL));
    json_end_object(&json);
    json_end_line(&json);
    *to = json;
}

void trainer_report_status(Trainer *t, const char *state) {
    if (t->runtime.comm.rank != 0 || !t->recording)
        return;
    char path[1200];
    Json json, stopping;
    Error err = {.code = STATUS_OK};
    snprintf(path, sizeof path, "%s/status.json", t->config.run.dir);
    const int training = strcmp(state, "training") == 0;
    status_json(t, state, &json);
    status_json(t, "stopping", &stopping);
    signals_status(training && stopping.text ? path : NULL, stopping.text, stopping.size);
    Status status = files_write_atomic(path, json.text, json.size, 0, &err);
    if (training && signals_pending()) /* its notice may have been overwritten just now */
        status = files_write_atomic(path, stopping.text, stopping.size, 0, &err);
    if (status != STATUS_OK)
        trainer_lost(t, &err);
    json_free(&json);
    json_free(&stopping);
}

void trainer_report_end(const Trainer *t) {
    char took[32], best[80], from[48] = "";
    if (t->runtime.comm.rank != 0)
        return;
    text_duration(clock_seconds() - t->started, took, sizeof took);
    if (t->steps_at_start > 0)
        snprintf(from, sizeof from, " (resumed at step %lld)", (long long)t->steps_at_start);
    if (t->at.finished)
        printf("done: %lld epochs in %s%s", (long long)t->config.train.epochs, took, from);
    else
        printf("done: stopped by train.max_steps at step %lld in %s%s", (long long)t->at.step, took, from);
    best_text(t, best, sizeof best);
    if (t->at.best >= 0)
        printf(", best %s top-1 %s", selection_name(t), best);
    printf("; next: excon eval %s\n", t->config.run.dir);
    fflush(stdout);
}
