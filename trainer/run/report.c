/* What a person and a program see of a run: banner, progress, metrics.jsonl, TensorBoard events, status.json, logs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/files/files.h"
#include "trainer/run/trainer.h"

#ifndef EXCON_REVISION
#define EXCON_REVISION "unknown"
#endif

double trainer_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void trainer_log(Trainer *t, const char *format, ...) {
    if (!t->log)
        return;
    char stamp[32];
    time_t seconds = time(NULL);
    struct tm parts;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    fprintf(t->log, "%s ", stamp);
    va_list args;
    va_start(args, format);
    vfprintf(t->log, format, args);
    va_end(args);
    fputc('\n', t->log);
    fflush(t->log);
}

/* ---- banner: rank-ordered, written by rank 0 alone --------------------------------------------------------------- */

static void run_lines(Trainer *t, FILE *out) {
    const Config *c = &t->config;
    const Model *m = &t->model;
    char mpi[256];
    comm_versions(mpi, sizeof mpi);
    fprintf(out, "excon %s | %s | %d rank%s | %s\n", EXCON_REVISION, mpi, t->runtime.comm.size,
            t->runtime.comm.size == 1 ? "" : "s", t->runtime.device.libraries);
    fprintf(out, "backend %s | precision %s%s | collectives: %s\n", t->backend_choice, runtime_precision(&t->runtime),
            c->precision == PRECISION_AUTO ? ", chosen by auto" : "", t->runtime.comm.collectives->name);
    fprintf(out, "method %s, profile %s | %s width %d, %.2f M parameters | %d classes of %dx%d (%s)\n",
            config_name("method", c->method), config_name("profile", c->profile), m->shape.encoder, m->shape.width,
            (double)m->total * 1e-6, m->shape.classes, m->shape.size, m->shape.size, t->dataset.dir);
    fprintf(out, "%lld training images, %lld for selection (%s) | batch %lld, %lld steps an epoch, %lld epochs\n",
            (long long)t->train_count, (long long)t->select_count,
            t->select_split == SPLIT_TRAIN ? "held out of train" : "official val", (long long)c->train.batch,
            (long long)t->batches, (long long)c->train.epochs);
    trainer_data_line(t, out);
    fprintf(out, "device memory %.0f MB a rank (%.0f MB activations) | run folder %s\n",
            (double)t->runtime.device.bytes_now * 1e-6, (double)t->step.arena_bytes * 1e-6, c->run.dir);
    if (t->resumed_from >= 0)
        fprintf(out, "resumed from step %lld: epoch %lld, batch %lld\n", (long long)t->resumed_from,
                (long long)t->at.epoch, (long long)t->at.cursor);
    else
        fprintf(out, "a fresh run from seed %lld\n", (long long)c->seed);
}

typedef struct RankCard {
    char host[64], device[128], threads_why[144];
} RankCard;

/* Said once at the start: it costs most of the loader's speed, and nothing else shows it. */
static void warn_of_cache(Trainer *t) {
    LoaderCache cache;
    loader_cache(t->loader, &cache);
    if (t->runtime.comm.rank != 0 || cache.cached_chunks >= cache.window_chunks)
        return;
    const int64_t bytes = cache.window_chunks * cache.chunk_bytes * t->runtime.comm.local_size;
    char text[400];
    snprintf(text, sizeof text,
             "warning: data.memory_mb %lld leaves a rank room for %lld of the %lld shard chunks that a shuffle window "
             "draws from, so images are read from disk several times over; set data.memory_mb to %lld, or "
             "data.shuffle_window to %lld (another sample order)",
             (long long)t->config.data.memory_mb, (long long)cache.cached_chunks, (long long)cache.window_chunks,
             (long long)((bytes + 999999) / 1000000), (long long)cache.cached_chunks);
    trainer_log(t, "%s", text);
    fprintf(stderr, "excon: %s\n", text);
}

void trainer_banner(Trainer *t) {
    Comm *comm = &t->runtime.comm;
    RankCard mine = {.host = ""};
    snprintf(mine.host, sizeof mine.host, "%.63s", comm->host);
    snprintf(mine.device, sizeof mine.device, "%.127s", t->runtime.device.name);
    if (t->runtime.device.kind == DEVICE_CPU)
        snprintf(mine.threads_why, sizeof mine.threads_why, " (threads: %.130s)", comm->threads_why);
    RankCard *cards = calloc((size_t)comm->size, sizeof *cards);
    int64_t *counts = calloc((size_t)comm->size, sizeof *counts);
    if (!cards || !counts)
        device_fatal(&t->runtime.device, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++)
        counts[r] = 1;
    comm_host_gather_rows(comm, &mine, counts, sizeof mine, cards);
    FILE *const outs[] = {comm->rank == 0 ? stdout : NULL, t->log};
    for (int o = 0; o < 2; o++) {
        if (!outs[o])
            continue;
        run_lines(t, outs[o]);
        for (int r = 0; r < comm->size; r++)
            fprintf(outs[o], "rank %d: %s, %s%s\n", r, cards[r].host, cards[r].device, cards[r].threads_why);
        fflush(outs[o]);
    }
    warn_of_cache(t);
    free(cards);
    free(counts);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0.0;
}

static void text_duration(double seconds, char *out, size_t size) {
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%ldm%02lds", s / 60, s % 60);
}

/* Steps the whole run takes, for the estimate of what is left. */
static int64_t total_steps(const Trainer *t) {
    int64_t steps = t->config.train.epochs * t->batches *
                    (t->config.classifier.schedule == CLASSIFIER_JOINT || t->config.method == METHOD_CE ? 1 : 2);
    return t->config.train.max_steps > 0 && t->config.train.max_steps < steps ? t->config.train.max_steps : steps;
}

static double seconds_left(const Trainer *t) {
    const int64_t done = t->at.step - t->steps_at_start;
    return done > 0 ? (trainer_now() - t->started) / (double)done * (double)(total_steps(t) - t->at.step) : 0.0;
}

static void print_progress(Trainer *t) {
    const Tally *i = &t->interval;
    char left[32], phases[160] = "", explain[64] = "";
    size_t at = 0;
    text_duration(seconds_left(t), left, sizeof left);
    for (int p = 0; p < PHASE_COUNT && at < sizeof phases; p++)
        if (i->phase[p] >= 0.005 * i->seconds)
            at += (size_t)snprintf(phases + at, sizeof phases - at, " %s %.0f%%", PHASE_NAMES[p],
                                   100 * ratio(i->phase[p], i->seconds));
    if (i->masked > 0)
        snprintf(explain, sizeof explain, " | accept %.2f background %lld",
                 ratio((double)i->accepted, (double)i->masked), (long long)i->background);
    const char *kind = t->at.phase == RUN_CLASSIFIER ? "classifier" : "loss";
    const double loss = t->at.phase == RUN_CLASSIFIER ? i->classifier_loss : i->loss;
    if (t->bar) {
        char cells[25];
        int full = (int)(24.0 * ratio((double)t->at.cursor, (double)t->batches));
        memset(cells, '.', 24);
        memset(cells, '#', (size_t)(full < 24 ? full : 24));
        cells[24] = '\0';
        printf("\r\033[Kepoch %lld [%s] %s %.4f%s | %.1f img/s | ETA %s", (long long)t->at.epoch, cells, kind,
               ratio(loss, (double)i->steps), explain, ratio((double)i->images, i->seconds), left);
        if (t->at.cursor >= t->batches)
            putchar('\n');
    } else {
        printf("epoch %lld step %lld | %s %.4f | lr %.4g | %.1f images/s%s |%s | ETA %s\n", (long long)t->at.epoch,
               (long long)t->at.step, kind, ratio(loss, (double)i->steps), t->last_lr,
               ratio((double)i->images, i->seconds), explain, phases, left);
    }
    fflush(stdout);
}

static void write_metrics(Trainer *t, const Json *json) {
    Error err = {.code = STATUS_OK};
    if (t->metrics && metrics_write(t->metrics, json, &err) != STATUS_OK)
        trainer_log(t, "metrics not written: %s", err.message);
}

static void record_step(Trainer *t) {
    const Tally *i = &t->interval;
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", "step");
    json_integer(&json, "step", t->at.step);
    json_integer(&json, "epoch", t->at.epoch);
    json_string(&json, "phase", t->at.phase == RUN_CLASSIFIER ? "classifier" : "encoder");
    if (t->at.phase == RUN_ENCODER)
        json_number(&json, "loss", ratio(i->loss, (double)i->steps));
    if (!isnan(i->classifier_loss))
        json_number(&json, "classifier_loss", ratio(i->classifier_loss, (double)i->steps));
    json_number(&json, "lr", t->last_lr);
    json_number(&json, "images_per_s", ratio((double)i->images, i->seconds));
    if (i->masked > 0)
        json_number(&json, "accept_rate", ratio((double)i->accepted, (double)i->masked));
    json_integer(&json, "background", i->background);
    json_integer(&json, "skipped", i->skipped);
    json_begin_object(&json, "seconds");
    for (int p = 0; p < PHASE_COUNT; p++)
        json_number(&json, PHASE_NAMES[p], i->phase[p]);
    json_end_object(&json);
    json_end_object(&json);
    write_metrics(t, &json);
    json_free(&json);
    if (!t->events)
        return;
    if (t->at.phase == RUN_ENCODER)
        events_scalar(t->events, "train/loss", t->at.step, (float)ratio(i->loss, (double)i->steps));
    if (!isnan(i->classifier_loss))
        events_scalar(t->events, "train/classifier_loss", t->at.step,
                      (float)ratio(i->classifier_loss, (double)i->steps));
    if (i->masked > 0)
        events_scalar(t->events, "train/accept_rate", t->at.step, (float)ratio((double)i->accepted, (double)i->masked));
    events_scalar(t->events, "train/lr", t->at.step, (float)t->last_lr);
    events_scalar(t->events, "train/images_per_s", t->at.step, (float)ratio((double)i->images, i->seconds));
}

static void add(Tally *tally, const Trainer *t, const StepReport *report, int64_t images) {
    tally->steps++;
    tally->images += images;
    tally->accepted += report->accepted;
    tally->masked += report->masked;
    tally->background += report->background;
    tally->skipped += !report->finite;
    if (t->at.phase == RUN_ENCODER)
        tally->loss += report->loss;
    tally->classifier_loss += report->classifier_loss;
    for (int p = 0; p < PHASE_COUNT; p++) {
        tally->phase[p] += report->seconds[p];
        tally->seconds += report->seconds[p];
    }
}

void trainer_report_step(Trainer *t, const StepReport *report) {
    const int64_t left = t->train_count - (t->at.cursor - 1) * t->config.train.batch;
    const int64_t images = left < t->config.train.batch ? left : t->config.train.batch;
    add(&t->interval, t, report, images);
    add(&t->epoch, t, report, images);
    const int64_t every = t->config.train.log_every;
    if (every <= 0 || (t->interval.steps < every && t->at.cursor < t->batches))
        return;
    if (t->runtime.comm.rank == 0) {
        print_progress(t);
        record_step(t);
        trainer_report_status(t, "training");
    }
    t->interval = (Tally){0};
}

void trainer_report_epoch(Trainer *t, int64_t epoch, const EvalResult *selection) {
    const Tally *e = &t->epoch;
    if (t->runtime.comm.rank == 0) {
        Json json;
        json_init(&json);
        json_begin_object(&json, NULL);
        json_string(&json, "event", "epoch");
        json_integer(&json, "epoch", epoch);
        json_integer(&json, "step", t->at.step);
        json_number(&json, "loss", e->steps > 0 ? e->loss / (double)e->steps : NAN);
        json_number(&json, "images_per_s", ratio((double)e->images, e->seconds));
        if (e->masked > 0)
            json_number(&json, "accept_rate", ratio((double)e->accepted, (double)e->masked));
        json_integer(&json, "background", e->background);
        if (selection) {
            json_string(&json, "selection", t->select_split == SPLIT_TRAIN ? "holdout" : "val");
            json_number(&json, "top1", selection->top1);
            json_number(&json, "top5", selection->top5);
            json_number(&json, "nll", selection->nll);
            json_number(&json, "best", t->at.best);
        }
        json_end_object(&json);
        write_metrics(t, &json);
        json_free(&json);
        char score[96] = "";
        if (selection)
            snprintf(score, sizeof score, " | top-1 %.2f%% top-5 %.2f%% nll %.3f | best %.2f%%", 100 * selection->top1,
                     100 * selection->top5, selection->nll, 100 * t->at.best);
        printf("epoch %lld done | %.1f images/s%s", (long long)epoch, ratio((double)e->images, e->seconds), score);
        if (e->masked > 0)
            printf(" | accept %.3f", ratio((double)e->accepted, (double)e->masked));
        putchar('\n');
        fflush(stdout);
        Error err = {.code = STATUS_OK};
        if (t->events) {
            if (selection)
                events_scalar(t->events, "select/top1", t->at.step, (float)selection->top1);
            if (events_flush(t->events, &err) != STATUS_OK)
                trainer_log(t, "events not written: %s", err.message);
        }
    }
    t->epoch = (Tally){0};
}

void trainer_report_status(Trainer *t, const char *state) {
    if (t->runtime.comm.rank != 0)
        return;
    char path[1200];
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "state", state);
    json_integer(&json, "pid", getpid());
    json_string(&json, "host", t->runtime.comm.host);
    json_integer(&json, "ranks", t->runtime.comm.size);
    json_integer(&json, "step", t->at.step);
    json_integer(&json, "total_steps", total_steps(t));
    json_integer(&json, "epoch", t->at.epoch);
    json_number(&json, "loss", t->interval.steps ? t->interval.loss / (double)t->interval.steps : NAN);
    json_number(&json, "best_top1", t->at.best < 0 ? NAN : t->at.best);
    json_number(&json, "eta_seconds", seconds_left(t));
    json_integer(&json, "updated", (int64_t)time(NULL));
    json_end_object(&json);
    snprintf(path, sizeof path, "%s/status.json", t->config.run.dir);
    Error err = {.code = STATUS_OK};
    if (files_write_atomic(path, json.text, json.size, 0, &err) != STATUS_OK)
        trainer_log(t, "status not written: %s", err.message);
    json_free(&json);
}
