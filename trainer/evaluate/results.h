/* The numbers of an evaluation by name: the one list behind eval.json, metrics.jsonl and TensorBoard. */
#ifndef EXCON_TRAINER_RESULTS_H
#define EXCON_TRAINER_RESULTS_H

#include "io/records/records.h"
#include "trainer/evaluate/evaluator.h"

/* Adds what was measured: top1, top5, nll; drop ... of EVAL_TOP; soft_drop ... of EVAL_SOFT. */
void results_json(const EvalResult *result, Json *json);

/* Adds what was not measured now but stands in `earlier`, the text of a flat JSON object written by results_json. */
void results_json_kept(const EvalResult *result, const char *earlier, Json *json);

/* The same as scalars SPLIT/NAME; top5 only for more than five classes. */
void results_events(const EvalResult *result, int classes, const char *split, int64_t step, Events *events);

#endif
