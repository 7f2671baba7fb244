/* The parts of a report, each its own file; for them alone. */
#ifndef EXCON_TRAINER_REPORT_PARTS_H
#define EXCON_TRAINER_REPORT_PARTS_H

#include "trainer/report/training/report.h"

/* lines.c: to the terminal. */
void lines_step(const Report *report);
void lines_epoch(const Report *report, int64_t epoch, const EvalResult *selection);

/* metrics_lines.c: to metrics.jsonl. */
void record_step(Report *report);
void record_epoch(Report *report, int64_t epoch, const EvalResult *selection);

/* tensorboard.c: to the event file; `sheet` may be NULL or empty. */
void board_step(const Report *report);
void board_epoch(Report *report, const EvalResult *selection, const Sheet *sheet);

/* Means over the steps that had such a loss and were not skipped; NaN when there was none. */
double tally_loss(const Tally *tally);
double tally_classifier_loss(const Tally *tally);

/* a/b, 0 where b is not positive. */
double ratio(double a, double b);

/* Steps of an epoch with all its passes. */
int64_t steps_per_epoch(const Report *report);

#endif
