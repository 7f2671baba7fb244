#include "trainer/report/training/report.h"

#include <math.h>
#include <stdio.h>

#include "kernels/base/clock.h"
#include "trainer/report/training/parts.h"

double ratio(double a, double b) {
    return b > 0 ? a / b : 0.0;
}

double tally_loss(const Tally *tally) {
    return tally->sums.loss_steps > 0 ? tally->sums.loss / tally->sums.loss_steps : NAN;
}

double tally_classifier_loss(const Tally *tally) {
    return tally->sums.classifier_steps > 0 ? tally->sums.classifier_loss / tally->sums.classifier_steps : NAN;
}

int64_t steps_per_epoch(const Report *r) {
    return r->batches * (r->config->classifier.schedule == CLASSIFIER_JOINT || r->config->method == METHOD_CE ? 1 : 2);
}

int64_t report_total_steps(const Report *r) {
    const int64_t steps = r->config->train.epochs * steps_per_epoch(r), limit = r->config->train.max_steps;
    return limit > 0 && limit < steps ? limit : steps;
}

double report_seconds_left(const Report *r) {
    const int64_t done = r->at->step - r->steps_at_start;
    return done > 0 ? (clock_seconds() - r->started) / (double)done * (double)(report_total_steps(r) - r->at->step)
                    : 0.0;
}

/* `counts`: this step's losses enter the means, if they are finite. */
static void add(Tally *tally, const Report *r, const StepReport *report, int64_t images, bool counts) {
    CheckpointTally *sums = &tally->sums;
    sums->steps++;
    sums->accepted += (double)report->accepted;
    sums->masked += (double)report->masked;
    sums->background += (double)report->background;
    sums->skipped += !report->finite;
    if (counts && report->finite && r->at->phase == RUN_ENCODER) {
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
static bool interval_ends(const Report *r) {
    const int64_t every = r->config->train.log_every, left = r->batches - r->at->cursor;
    return left <= 0 || (r->at->cursor % every == 0 && left >= every) || r->at->step == r->steps_at_start + 1 ||
           r->at->step == r->config->train.max_steps;
}

bool report_step(Report *r, const StepReport *step) {
    const int64_t left = r->train_count - (r->at->cursor - 1) * r->batch;
    const int64_t images = left < r->batch ? left : r->batch;
    Tally *i = &r->interval;
    /* A contrastive loss grows with the batch, so a smaller last one would show as a dent at the end of every pass. */
    add(i, r, step, images, images == r->batch || i->sums.loss_steps + i->sums.classifier_steps == 0);
    add(&r->epoch, r, step, images, true);
    if (!interval_ends(r))
        return false;
    if (i->sums.loss_steps > 0)
        r->last_loss = tally_loss(i);
    if (i->sums.classifier_steps > 0)
        r->last_classifier_loss = tally_classifier_loss(i);
    if (r->rank == 0) {
        lines_step(r);
        record_step(r);
        board_step(r);
    }
    r->interval = (Tally){0};
    return true;
}

void report_epoch(Report *r, int64_t epoch, const EvalResult *selection) {
    if (r->rank == 0) {
        record_epoch(r, epoch, selection);
        lines_epoch(r, epoch, selection);
        board_epoch(r, selection, &r->sheet);
    }
    r->epoch = (Tally){0};
}

void report_lost(Report *r, const Error *what) {
    log_line(&r->log, "record lost: %s", what->message);
    if (r->lost.code != STATUS_OK)
        return;
    r->lost = *what;
    fprintf(stderr, "excon: a record is lost: %s. Training goes on, and will end with code %d\n", what->message,
            (int)STATUS_IO);
}

void report_flush(Report *r) {
    Error err = {.code = STATUS_OK};
    if (r->events && events_flush(r->events, &err) != STATUS_OK)
        report_lost(r, &err);
}

void report_close_records(Report *r) {
    metrics_close(r->metrics);
    events_close(r->events);
    sheet_free(&r->sheet);
    r->metrics = NULL;
    r->events = NULL;
}
