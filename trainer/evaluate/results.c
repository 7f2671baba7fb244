#include "trainer/evaluate/results.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Number {
    const char *name;
    size_t offset; /* of a double in EvalResult */
    int reduction; /* that measures it; 0: always */
} Number;

static const Number numbers[] = {
    {"top1", offsetof(EvalResult, top1), 0},
    {"top5", offsetof(EvalResult, top5), 0},
    {"nll", offsetof(EvalResult, nll), 0},
    {"drop", offsetof(EvalResult, top.drop), EVAL_TOP},
    {"increase", offsetof(EvalResult, top.increase), EVAL_TOP},
    {"gain", offsetof(EvalResult, top.gain), EVAL_TOP},
    {"decrease", offsetof(EvalResult, top.decrease), EVAL_TOP},
    {"soft_drop", offsetof(EvalResult, soft.drop), EVAL_SOFT},
    {"soft_increase", offsetof(EvalResult, soft.increase), EVAL_SOFT},
    {"soft_gain", offsetof(EvalResult, soft.gain), EVAL_SOFT},
    {"soft_decrease", offsetof(EvalResult, soft.decrease), EVAL_SOFT},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static int measured(const EvalResult *result, const Number *number) {
    return !number->reduction || (result->reductions & number->reduction);
}

static double value_of(const EvalResult *result, const Number *number) {
    return *(const double *)(const void *)((const char *)result + number->offset);
}

void results_json(const EvalResult *result, Json *json) {
    for (int i = 0; i < NUMBERS; i++)
        if (measured(result, &numbers[i]))
            json_number(json, numbers[i].name, value_of(result, &numbers[i]));
}

void results_json_kept(const EvalResult *result, const char *earlier, Json *json) {
    char key[40], *end;
    for (int i = 0; i < NUMBERS; i++) {
        snprintf(key, sizeof key, "\"%s\":", numbers[i].name);
        const char *at = measured(result, &numbers[i]) ? NULL : strstr(earlier, key);
        const double value = at ? strtod(at + strlen(key), &end) : 0;
        if (at && end != at + strlen(key))
            json_number(json, numbers[i].name, value);
    }
}

void results_events(const EvalResult *result, int classes, const char *split, int64_t step, Events *events) {
    char tag[80];
    for (int i = 0; i < NUMBERS; i++) {
        if (!measured(result, &numbers[i]) || (classes <= 5 && strcmp(numbers[i].name, "top5") == 0))
            continue;
        snprintf(tag, sizeof tag, "%s/%s", split, numbers[i].name);
        events_scalar(events, tag, step, (float)value_of(result, &numbers[i]));
    }
}
