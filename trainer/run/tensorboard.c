/* What TensorBoard shows of a run: rank 0's scalars, the configuration as text, sheets of explained images. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/images/encode.h"
#include "trainer/evaluate/results.h"
#include "trainer/run/trainer.h"

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0.0;
}

/* The resolved configuration, indented by four blanks: a block of code in Markdown. */
static void write_config(Trainer *t) {
    char *yaml = config_to_yaml(&t->config), *text = NULL;
    size_t size = 0;
    FILE *out = yaml ? open_memstream(&text, &size) : NULL;
    if (out) {
        fprintf(out, "    # %d ranks, %s, backend %s\n", t->runtime.comm.size, runtime_precision(&t->runtime),
                t->backend_choice);
        char *state = NULL;
        for (char *line = strtok_r(yaml, "\n", &state); line; line = strtok_r(NULL, "\n", &state))
            fprintf(out, "    %s\n", line);
        if (fclose(out) == 0)
            events_text(t->events, "config", t->at.step, text);
    }
    free(text);
    free(yaml);
}

Status trainer_board_open(Trainer *t, Error *err) {
    char path[1200];
    snprintf(path, sizeof path, "%s/events", t->config.run.dir);
    RETURN_IF(events_open(&t->events, path, err));
    if (t->resumed_from >= 0)
        events_restart(t->events, t->at.step + 1);
    write_config(t);
    return STATUS_OK;
}

void trainer_board_step(Trainer *t) {
    const Tally *i = &t->interval;
    const int64_t step = t->at.step;
    Events *events = t->events;
    if (!events)
        return;
    events_scalar(events, "train/images_per_s", step, (float)ratio((double)i->images, i->seconds));
    if (t->at.phase == RUN_ENCODER) {
        events_scalar(events, "train/loss", step, (float)tally_loss(i));
        events_scalar(events, "lr/encoder", step, (float)t->last_lr);
    }
    if (i->sums.classifier_steps > 0) {
        events_scalar(events, "train/classifier_loss", step, (float)tally_classifier_loss(i));
        events_scalar(events, "lr/classifier", step, (float)t->last_lr);
    }
    if (i->sums.masked > 0)
        events_scalar(events, "train/accept_rate", step, (float)ratio(i->sums.accepted, i->sums.masked));
    if (i->sums.background > 0)
        events_scalar(events, "train/background", step, (float)i->sums.background);
}

static Status write_sheet(Trainer *t, const char *split, const Sheet *sheet, Error *err) {
    char tag[64];
    uint8_t *rgb = NULL, *file = NULL;
    size_t size = 0;
    int height, width;
    Status status = sheet_draw(sheet, t->config.explain.threshold, &rgb, &height, &width, err);
    if (status == STATUS_OK)
        status = image_encode_jpeg(rgb, height, width, 90, &file, &size, err);
    snprintf(tag, sizeof tag, "%s/saliency", split);
    if (status == STATUS_OK)
        events_image(t->events, tag, t->at.step, height, width, file, size);
    free(rgb);
    free(file);
    return status;
}

void trainer_board_epoch(Trainer *t, const char *split, const EvalResult *selection, const Sheet *sheet) {
    Error err = {.code = STATUS_OK};
    if (!t->events)
        return;
    if (selection)
        results_events(selection, t->model.shape.classes, split, t->at.step, t->events);
    if (selection && sheet && sheet->rows > 0 && write_sheet(t, split, sheet, &err) != STATUS_OK)
        trainer_lost(t, &err);
    if (events_flush(t->events, &err) != STATUS_OK)
        trainer_lost(t, &err);
}
