/* What a run says on the terminal: a line or a bar for an interval, two lines for an epoch, one at the end. */
#include <stdio.h>

#include "kernels/base/clock.h"
#include "trainer/evaluate/results.h"
#include "trainer/report/terminal.h"
#include "trainer/report/training/parts.h"

static void text_duration(double seconds, char *out, size_t size) {
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%ldm%02lds", s / 60, s % 60);
}

/* Rows of background belong to a method and a mode; elsewhere a count of them means nothing. */
static int has_background(const Report *r) {
    return r->config->method == METHOD_EXCONB && r->config->background.mode != BACKGROUND_NONE;
}

/* "3.2 img/s", "317 img/s" */
static void rate_text(const Tally *tally, char *out, size_t size) {
    const double rate = ratio((double)tally->images, tally->seconds);
    snprintf(out, size, rate < 10 ? "%.1f img/s" : "%.0f img/s", rate);
}

void lines_step(const Report *r) {
    const Tally *i = &r->interval;
    char left[32], rate[32], explain[64] = "";
    int used = 0;
    text_duration(report_seconds_left(r), left, sizeof left);
    if (i->sums.masked > 0)
        used = snprintf(explain, sizeof explain, "  accept %.2f", ratio(i->sums.accepted, i->sums.masked));
    if (has_background(r) && r->at->phase == RUN_ENCODER)
        snprintf(explain + used, sizeof explain - (size_t)used, "  background %lld", (long long)i->sums.background);
    const char *kind = r->at->phase == RUN_CLASSIFIER ? "classifier" : "loss";
    const double loss = r->at->phase == RUN_CLASSIFIER ? tally_classifier_loss(i) : tally_loss(i);
    if (r->bar) {
        char head[64], text[160];
        snprintf(head, sizeof head, "epoch %lld/%lld", (long long)r->at->epoch, (long long)r->config->train.epochs);
        snprintf(text, sizeof text, "%s %.4f  %.1f img/s  ETA %s", kind, loss, ratio((double)i->images, i->seconds),
                 left);
        terminal_progress(stdout, ratio((double)r->at->cursor, (double)r->batches), head, text, explain);
        if (r->at->cursor >= r->batches)
            putchar('\n');
    } else {
        rate_text(i, rate, sizeof rate);
        printf("epoch %lld/%lld step %lld  %s %.4g  lr %.2g  %s%s  ETA %s\n", (long long)r->at->epoch,
               (long long)r->config->train.epochs, (long long)r->at->step, kind, loss, r->last_lr, rate, explain, left);
    }
    fflush(stdout);
}

/* Epoch of the best checkpoint, 0: cannot be told, since the length of an epoch has changed along the way. */
static int64_t best_epoch(const Report *r) {
    const int64_t steps = steps_per_epoch(r), pass = r->at->phase == RUN_CLASSIFIER ? r->batches : 0;
    const int constant = r->at->step == (r->at->epoch - 1) * steps + pass + r->at->cursor;
    return constant && steps > 0 && r->at->best_step % steps == 0 ? r->at->best_step / steps : 0;
}

/* "82.0 % (epoch 13)" */
static void best_text(const Report *r, char *out, size_t size) {
    char when[32] = "";
    if (best_epoch(r) > 0)
        snprintf(when, sizeof when, " (epoch %lld)", (long long)best_epoch(r));
    snprintf(out, size, "%.1f %%%s", 100 * r->at->best, when);
}

void lines_epoch(const Report *r, int64_t epoch, const EvalResult *selection) {
    const Tally *e = &r->epoch;
    char best[80], rate[32];
    printf("epoch %lld/%lld done", (long long)epoch, (long long)r->config->train.epochs);
    if (selection) {
        printf(": %s top-1 %.1f %%", r->selection, 100 * results_value(selection, "top1"));
        if (r->classes > 5)
            printf(" top-5 %.1f %%", 100 * results_value(selection, "top5"));
        best_text(r, best, sizeof best);
        printf(" nll %.3f; best %s", results_value(selection, "nll"), best);
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

void report_end(const Report *r) {
    char took[32], best[80], from[48] = "";
    if (r->rank != 0)
        return;
    text_duration(clock_seconds() - r->started, took, sizeof took);
    if (r->steps_at_start > 0)
        snprintf(from, sizeof from, " (resumed at step %lld)", (long long)r->steps_at_start);
    if (r->at->finished)
        printf("done: %lld epochs in %s%s", (long long)r->config->train.epochs, took, from);
    else
        printf("done: stopped by train.max_steps at step %lld in %s%s", (long long)r->at->step, took, from);
    best_text(r, best, sizeof best);
    if (r->at->best >= 0)
        printf(", best %s top-1 %s", r->selection, best);
    printf("; next: excon eval %s\n", r->config->run.dir);
    fflush(stdout);
}
