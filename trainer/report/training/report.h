/* What a person sees of a training run: lines or a bar, a log, metrics.jsonl, TensorBoard. The loop tells it of every
 * step and epoch; it keeps the sums that its lines are made of. Ranks other than 0 keep the sums and write a log.
 *
 * Which of the calls writes what: lines.c to the terminal, metrics_lines.c to metrics.jsonl, tensorboard.c to events/.
 */
#ifndef EXCON_TRAINER_REPORT_H
#define EXCON_TRAINER_REPORT_H

#include <stdbool.h>

#include "io/checkpoint/checkpoint.h"
#include "io/records/records.h"
#include "trainer/evaluate/evaluator.h"
#include "trainer/method/step.h"
#include "trainer/report/training/log.h"

typedef enum RunPhase { RUN_ENCODER = 0, RUN_CLASSIFIER = 1 } RunPhase; /* of CheckpointMeta.phase */

/* Sums since the last progress line or epoch. */
typedef struct Tally {
    CheckpointTally sums; /* of an epoch: also over its steps before a resume or a rollback */
    int64_t images;       /* trained in `seconds` */
    double seconds, phase[PHASE_COUNT];
} Tally;

typedef struct Report {
    /* What the run is, set by who opens it; borrowed. */
    const Config *config;
    const CheckpointMeta *at; /* the position, as it moves */
    const char *selection;    /* split that chooses the best epoch: "holdout" or "val" */
    const char *setup;        /* "2 ranks, bf16, backend cuda": a line for TensorBoard */
    int rank, classes;
    bool bar;                   /* draw a progress bar instead of lines */
    int64_t train_count, batch; /* images of an epoch, and of a whole step over all ranks */
    int64_t batches;            /* steps of a pass */
    double started;             /* clock_seconds */
    int64_t steps_at_start;
    /* Its own. */
    Tally interval, epoch;
    double last_lr;
    double last_loss, last_classifier_loss; /* means of the last interval that had one, else NaN */
    RunLog log;
    /* rank 0 only */
    Metrics *metrics; /* NULL: none */
    Events *events;   /* NULL: none */
    Sheet sheet;      /* of the last evaluation */
    Error lost;       /* the first record that could not be written; its code is 0: none */
} Report;

/* Takes a step in. True when an interval has ended with it, and lines and records of that are written. */
bool report_step(Report *report, const StepReport *step);

/* The end of an epoch; `selection` NULL: it was not evaluated. */
void report_epoch(Report *report, int64_t epoch, const EvalResult *selection);

/* The last line of a run that came to its end. */
void report_end(const Report *report);

/* A record (metrics, events, status) could not be written: said at once, and the run ends with STATUS_IO if nothing
 * worse happens. Rank 0. */
void report_lost(Report *report, const Error *what);

/* Rank 0: opens the event file in run.dir/events and writes the configuration; with `resumed` the steps beyond the
 * position are void. */
Status report_open_events(Report *report, bool resumed, Error *err);

/* Rank 0: what has been recorded is on disk; a failure counts as a lost record. */
void report_flush(Report *report);

/* Closes metrics and events and frees the sheet; the log stays open. Fine when nothing was opened. */
void report_close_records(Report *report);

/* Steps the whole run takes, and seconds that what is left of them will. */
int64_t report_total_steps(const Report *report);
double report_seconds_left(const Report *report);

#endif
