/* status.json: where a run stands, for programs (docs/formats.md). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/files/files.h"
#include "trainer/run/signals.h"
#include "trainer/run/trainer.h"

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
    json_integer(&json, "total_steps", report_total_steps(&t->report));
    json_integer(&json, "epoch", checkpoint_epoch(&t->at));
    json_integer(&json, "epochs", t->config.train.epochs);
    json_number(&json, "loss", t->report.last_loss);
    json_number(&json, "classifier_loss", t->report.last_classifier_loss);
    json_number(&json, "best_top1", t->at.best < 0 ? NAN : t->at.best);
    json_number(&json, "eta_seconds", report_seconds_left(&t->report));
    json_integer(&json, "updated", (int64_t)time(NULL));
    json_end_object(&json);
    json_end_line(&json);
    *to = json;
}

void trainer_write_status(Trainer *t, const char *state) {
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
        report_lost(&t->report, &err);
    json_free(&json);
    json_free(&stopping);
}
