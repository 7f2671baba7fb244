#include "trainer/cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "trainer/config/nearest.h"

static Status unknown_option(const OptionTable *table, const char *name, const char *command, Error *err) {
    Nearest nearest = {name, NULL, 0};
    for (int i = 0; i < table->option_count; i++)
        nearest_offer(&nearest, table->options[i].name);
    if (nearest.best)
        return error_set(err, STATUS_USAGE, "%s: unknown option --%.60s; did you mean --%s?", command, name,
                         nearest.best);
    return error_set(err, STATUS_USAGE, "%s: unknown option --%.60s; see excon %s --help", command, name, command);
}

static Status append(OptionList *list, char *item, const char *command, Error *err) {
    if (list->count == OPTION_LIST_MAX)
        return error_set(err, STATUS_USAGE, "%s: more than %d values", command, OPTION_LIST_MAX);
    list->items[list->count++] = item;
    return STATUS_OK;
}

static Status store(const Option *option, char *value, const char *command, Error *err) {
    char *end = NULL;
    errno = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        *(int *)option->target = 1;
        return STATUS_OK;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return STATUS_OK;
    case OPTION_INTEGER: {
        long long number = strtoll(value, &end, 10);
        if (end == value || *end || errno)
            return error_set(err, STATUS_USAGE, "%s: --%s needs an integer, not '%.60s'", command, option->name, value);
        *(int64_t *)option->target = number;
        return STATUS_OK;
    }
    case OPTION_REAL: {
        double number = strtod(value, &end);
        if (end == value || *end || errno == ERANGE || !isfinite(number))
            return error_set(err, STATUS_USAGE, "%s: --%s needs a number, not '%.60s'", command, option->name, value);
        *(double *)option->target = number;
        return STATUS_OK;
    }
    case OPTION_REPEATED:
        return append(option->target, value, command, err);
    }
    return error_set(err, STATUS_INTERNAL, "option --%s has no kind", option->name);
}

static const Option *find(const OptionTable *table, const char *name, size_t length) {
    for (int i = 0; i < table->option_count; i++)
        if (strlen(table->options[i].name) == length && memcmp(table->options[i].name, name, length) == 0)
            return &table->options[i];
    return NULL;
}

/* One option at argv[*at]; moves *at on to its value when that is a separate argument. */
static Status parse_option(const OptionTable *table, int argc, char **argv, int *at, uint64_t *seen, Error *err) {
    const char *command = argv[0], *name = argv[*at] + 2;
    char *equals = strchr(name, '=');
    const Option *option = find(table, name, equals ? (size_t)(equals - name) : strlen(name));
    if (!option) {
        char only[64];
        snprintf(only, sizeof only, "%.*s", equals ? (int)(equals - name) : 63, name);
        return unknown_option(table, only, command, err);
    }
    uint64_t bit = UINT64_C(1) << (option - table->options);
    if (*seen & bit && option->kind != OPTION_REPEATED)
        return error_set(err, STATUS_USAGE, "%s: --%s is given twice", command, option->name);
    *seen |= bit;
    if (option->kind == OPTION_FLAG) {
        if (equals)
            return error_set(err, STATUS_USAGE, "%s: --%s takes no value", command, option->name);
        return store(option, NULL, command, err);
    }
    if (equals)
        return store(option, equals + 1, command, err);
    if (*at + 1 >= argc)
        return error_set(err, STATUS_USAGE, "%s: --%s needs a value (%s)", command, option->name, option->value);
    return store(option, argv[++*at], command, err);
}

Status options_parse(const OptionTable *table, int argc, char **argv, OptionList *positional, int *help, Error *err) {
    const char *command = argv[0];
    uint64_t seen = 0;
    int options_end = 0;
    positional->count = 0;
    *help = 0;
    if (table->option_count > 64)
        return error_set(err, STATUS_INTERNAL, "%s: more than 64 options in its table", command);
    for (int at = 1; at < argc; at++) {
        if (!options_end && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)) {
            if (comm_launched_rank() == 0)
                options_usage(table, stdout);
            *help = 1;
            return STATUS_OK;
        }
        if (options_end || strncmp(argv[at], "--", 2) != 0) {
            if (!options_end && argv[at][0] == '-' && argv[at][1] != '\0' && !strchr("0123456789.", argv[at][1]))
                return error_set(err, STATUS_USAGE,
                                 "%s: unknown option %.60s; options are long (--name), see excon %s --help", command,
                                 argv[at], command);
            RETURN_IF(append(positional, argv[at], command, err));
        } else if (argv[at][2] == '\0') {
            options_end = 1;
        } else {
            RETURN_IF(parse_option(table, argc, argv, &at, &seen, err));
        }
    }
    if (positional->count < table->positional_min)
        return error_set(err, STATUS_USAGE, "too few arguments; usage: excon %s", table->usage);
    if (positional->count > table->positional_max)
        return error_set(err, STATUS_USAGE, "unexpected argument '%.60s'; usage: excon %s",
                         positional->items[table->positional_max], table->usage);
    return STATUS_OK;
}

void options_wrap(FILE *out, const char *text, int at, int indent) {
    enum { WIDTH = 79 };
    for (int first = 1; *text; first = 0) {
        const int word = (int)strcspn(text, " ");
        if (!first && at + 1 + word > WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", word, text);
        at += word;
        text += word + (text[word] == ' ');
    }
    fputc('\n', out);
}

void options_usage(const OptionTable *table, FILE *out) {
    enum { NAME_WIDTH = 28, HELP_COLUMN = NAME_WIDTH + 3, USAGE_COLUMN = 13 };
    fputs("usage: excon ", out);
    options_wrap(out, table->usage, USAGE_COLUMN, USAGE_COLUMN);
    for (int i = 0; i < table->option_count; i++) {
        const Option *option = &table->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        fprintf(out, "  %-*s ", NAME_WIDTH, left);
        options_wrap(out, option->help, strlen(left) > NAME_WIDTH ? (int)strlen(left) + 3 : HELP_COLUMN, HELP_COLUMN);
    }
}
