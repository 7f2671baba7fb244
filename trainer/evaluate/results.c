#include "trainer/evaluate/results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A place in the table of metrics and their numbers, walked in its order. */
typedef struct Place {
    int metric, number;
} Place;

static const MetricNumber *number_at(Place at) {
    return &metric_at(at.metric)->numbers[at.number];
}

static Place first_place(void) {
    return (Place){0, 0};
}

static int past_end(Place at) {
    return at.metric >= METRIC_COUNT;
}

static Place next_place(Place at) {
    at.number++;
    if (at.number < METRIC_NUMBERS && number_at(at)->name)
        return at;
    return (Place){at.metric + 1, 0};
}

static int measured(const EvalResult *result, Place at) {
    return (int)(result->metrics >> at.metric & 1);
}

static double value_of(const EvalResult *result, Place at) {
    return result->values[at.metric][at.number];
}

/* Whether people are shown it. */
static int worth_showing(const EvalResult *result, Place at, int classes) {
    return measured(result, at) && classes >= number_at(at)->least_classes;
}

double results_value(const EvalResult *result, const char *name) {
    for (Place at = first_place(); !past_end(at); at = next_place(at))
        if (measured(result, at) && strcmp(number_at(at)->name, name) == 0)
            return value_of(result, at);
    return NAN;
}

void results_json(const EvalResult *result, Json *json) {
    for (Place at = first_place(); !past_end(at); at = next_place(at))
        if (measured(result, at))
            json_number(json, number_at(at)->name, value_of(result, at));
}

void results_json_kept(const EvalResult *result, const char *earlier, Json *json) {
    char key[40], *end;
    for (Place at = first_place(); !past_end(at); at = next_place(at)) {
        snprintf(key, sizeof key, "\"%s\":", number_at(at)->name);
        const char *found = measured(result, at) ? NULL : strstr(earlier, key);
        const double value = found ? strtod(found + strlen(key), &end) : 0;
        if (found && end != found + strlen(key))
            json_number(json, number_at(at)->name, value);
    }
}

void results_events(const EvalResult *result, int classes, const char *split, int64_t step, Events *events) {
    char tag[80];
    for (Place at = first_place(); !past_end(at); at = next_place(at)) {
        if (!worth_showing(result, at, classes))
            continue;
        snprintf(tag, sizeof tag, "%s/%s", split, number_at(at)->name);
        events_scalar(events, tag, step, (float)value_of(result, at));
    }
}

void results_table(const EvalResult *result, int classes, const char *split, FILE *out) {
    for (Place at = first_place(); !past_end(at); at = next_place(at)) {
        const char *title = metric_at(at.metric)->title;
        const MetricNumber *number = number_at(at);
        char label[40];
        if (title && at.number == 0 && measured(result, at))
            fprintf(out, "  %s:\n", title);
        if (!worth_showing(result, at, classes))
            continue;
        snprintf(label, sizeof label, "%s%s%s", title ? "" : split, title ? "" : " ", number->label);
        if (number->unit == UNIT_FRACTION)
            fprintf(out, "  %-10s %6.2f %%", label, 100 * value_of(result, at));
        else
            fprintf(out, "  %-10s %8.4f", label, value_of(result, at));
        fprintf(out, "%s%s\n", number->help ? "   " : "", number->help ? number->help : "");
    }
}
