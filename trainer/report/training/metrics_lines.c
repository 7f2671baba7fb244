/* A run's lines of metrics.jsonl (docs/formats.md). */
#include "trainer/evaluate/results.h"
#include "trainer/report/training/parts.h"

static void write_metrics(Report *r, const Json *json) {
    Error err = {.code = STATUS_OK};
    if (r->metrics && metrics_write(r->metrics, json, &err) != STATUS_OK)
        report_lost(r, &err);
}

void record_step(Report *r) {
    const Tally *i = &r->interval;
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", "step");
    json_integer(&json, "schema", RECORDS_SCHEMA);
    json_integer(&json, "step", r->at->step);
    json_integer(&json, "epoch", r->at->epoch);
    json_string(&json, "phase", r->at->phase == RUN_CLASSIFIER ? "classifier" : "encoder");
    if (r->at->phase == RUN_ENCODER)
        json_number(&json, "loss", tally_loss(i));
    if (i->sums.classifier_steps > 0)
        json_number(&json, "classifier_loss", tally_classifier_loss(i));
    json_number(&json, "lr", r->last_lr);
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
    write_metrics(r, &json);
    json_free(&json);
}

void record_epoch(Report *r, int64_t epoch, const EvalResult *selection) {
    const Tally *e = &r->epoch;
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", "epoch");
    json_integer(&json, "schema", RECORDS_SCHEMA);
    json_integer(&json, "epoch", epoch);
    json_integer(&json, "step", r->at->step);
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
        json_string(&json, "selection", r->selection);
        results_json(selection, &json);
        json_number(&json, "best", r->at->best);
    }
    json_end_object(&json);
    write_metrics(r, &json);
    json_free(&json);
}
