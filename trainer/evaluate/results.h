/* The numbers of an evaluation by name: what eval.json, metrics.jsonl, TensorBoard and people are given of them. */
#ifndef EXCON_TRAINER_RESULTS_H
#define EXCON_TRAINER_RESULTS_H

#include <stdio.h>

#include "io/records/records.h"
#include "trainer/evaluate/evaluator.h"

/* One number ("top1"), as its unit says, fractions as such; NaN when it was not measured, or there is none of that
 * name. */
double results_value(const EvalResult *result, const char *name);

/* Adds what was measured: top1, top5, nll; brier, ece ... of the suite calibration; drop ... of faithfulness; soft_drop
 * ... of soft. */
void results_json(const EvalResult *result, Json *json);

/* Adds what was not measured now but stands in `earlier`, the text of a flat JSON object written by results_json. */
void results_json_kept(const EvalResult *result, const char *earlier, Json *json);

/* The same as scalars SPLIT/NAME; top5 only for more than five classes. */
void results_events(const EvalResult *result, int classes, const char *split, int64_t step, Events *events);

/* A line for each, with percents for fractions; top5 only for more than five classes. */
void results_table(const EvalResult *result, int classes, const char *split, FILE *out);

#endif
