/* What TensorBoard shows of a run: rank 0's scalars, the configuration as text, sheets of explained images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/images/encode.h"
#include "trainer/evaluate/results.h"
#include "trainer/report/training/parts.h"

/* The resolved configuration, indented by four blanks: a block of code in Markdown. */
static void write_config(const Report *r) {
    char *yaml = config_to_yaml(r->config), *text = NULL;
    size_t size = 0;
    FILE *out = yaml ? open_memstream(&text, &size) : NULL;
    if (out) {
        fprintf(out, "    # %s\n", r->setup);
        char *state = NULL;
        for (char *line = strtok_r(yaml, "\n", &state); line; line = strtok_r(NULL, "\n", &state))
            fprintf(out, "    %s\n", line);
        if (fclose(out) == 0)
            events_text(r->events, "config", r->at->step, text);
    }
    free(text);
    free(yaml);
}

Status report_open_events(Report *r, bool resumed, Error *err) {
    char path[1200];
    snprintf(path, sizeof path, "%s/events", r->config->run.dir);
    RETURN_IF(events_open(&r->events, path, err));
    if (resumed)
        events_restart(r->events, r->at->step + 1);
    write_config(r);
    return STATUS_OK;
}

void board_step(const Report *r) {
    const Tally *i = &r->interval;
    const int64_t step = r->at->step;
    Events *events = r->events;
    if (!events)
        return;
    events_scalar(events, "train/images_per_s", step, (float)ratio((double)i->images, i->seconds));
    if (r->at->phase == RUN_ENCODER) {
        events_scalar(events, "train/loss", step, (float)tally_loss(i));
        events_scalar(events, "lr/encoder", step, (float)r->last_lr);
    }
    if (i->sums.classifier_steps > 0) {
        events_scalar(events, "train/classifier_loss", step, (float)tally_classifier_loss(i));
        events_scalar(events, "lr/classifier", step, (float)r->last_lr);
    }
    if (i->sums.masked > 0)
        events_scalar(events, "train/accept_rate", step, (float)ratio(i->sums.accepted, i->sums.masked));
    if (i->sums.background > 0)
        events_scalar(events, "train/background", step, (float)i->sums.background);
}

static Status write_sheet(const Report *r, const Sheet *sheet, Error *err) {
    char tag[64];
    uint8_t *rgb = NULL, *file = NULL;
    size_t size = 0;
    int height, width;
    Status status = sheet_draw(sheet, r->config->explain.threshold, &rgb, &height, &width, err);
    if (status == STATUS_OK)
        status = image_encode_jpeg(rgb, height, width, 90, &file, &size, err);
    snprintf(tag, sizeof tag, "%s/saliency", r->selection);
    if (status == STATUS_OK)
        events_image(r->events, tag, r->at->step, height, width, file, size);
    free(rgb);
    free(file);
    return status;
}

void board_epoch(Report *r, const EvalResult *selection, const Sheet *sheet) {
    Error err = {.code = STATUS_OK};
    if (!r->events)
        return;
    if (selection)
        results_events(selection, r->classes, r->selection, r->at->step, r->events);
    if (selection && sheet && sheet->rows > 0 && write_sheet(r, sheet, &err) != STATUS_OK)
        report_lost(r, &err);
    if (events_flush(r->events, &err) != STATUS_OK)
        report_lost(r, &err);
}
