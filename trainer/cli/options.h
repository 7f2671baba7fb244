/* Command-line options of a subcommand: long options only, `--name value` or `--name=value`, in any place among the
 * positional arguments; `--` ends the options. A table says what exists, so that usage text and parser cannot differ.
 *
 * Strings that come out point into argv and live as long as it does. */
#ifndef EXCON_TRAINER_OPTIONS_H
#define EXCON_TRAINER_OPTIONS_H

#include <stdio.h>

#include "kernels/base/status.h"

enum { OPTION_LIST_MAX = 256 };

/* Values of a repeated option, or the positional arguments, in the order given. */
typedef struct OptionList {
    char *items[OPTION_LIST_MAX];
    int count;
} OptionList;

typedef enum OptionKind {
    OPTION_FLAG,    /* target int *: set to 1; takes no value */
    OPTION_TEXT,    /* target const char ** */
    OPTION_INTEGER, /* target int64_t *: decimal */
    OPTION_REAL,    /* target double *: finite */
    OPTION_REPEATED /* target OptionList *: every value, in order */
} OptionKind;

typedef struct Option {
    const char *name;  /* without the dashes: "set" */
    const char *value; /* what the usage text calls its value: "key=value"; NULL for a flag */
    OptionKind kind;
    void *target;     /* keeps what it holds when the option is absent: initialise it with the default */
    const char *help; /* one line */
} Option;

typedef struct OptionTable {
    const char *usage; /* after "excon ": "train CONFIG [--set key=value]..." */
    const Option *options;
    int option_count;
    int positional_min, positional_max;
} OptionTable;

/* The table of an array of options. */
#define OPTION_TABLE(text, list, least, most)                                                                          \
    {                                                                                                                  \
        .usage = (text), .options = (list), .option_count = sizeof(list) / sizeof *(list), .positional_min = (least),  \
        .positional_max = (most)                                                                                       \
    }

/* Reads argv[1..argc-1] (argv[0] is the subcommand). `positional` is overwritten. `--help` or `-h` prints the usage to
 * stdout (on the launcher's rank 0) and sets *help to 1 (0 otherwise); the caller then returns STATUS_OK at once, and
 * counts of positionals are not checked. STATUS_USAGE: unknown option (names the nearest one), a missing or surplus
 * value, a repeated option that is not OPTION_REPEATED, a value that is no number of its kind, too few or too many
 * positionals. */
Status options_parse(const OptionTable *table, int argc, char **argv, OptionList *positional, int *help, Error *err);

/* options_parse for a subcommand, which returns when that fails, and when help was asked for. */
#define OPTIONS_PARSE(table, argc, argv, positional, err)                                                              \
    do {                                                                                                               \
        int options_help_;                                                                                             \
        RETURN_IF(options_parse(table, argc, argv, positional, &options_help_, err));                                  \
        if (options_help_)                                                                                             \
            return STATUS_OK;                                                                                          \
    } while (0)

/* Prints the words of `text`, from column `at` on, and a newline; where a line of 79 columns is full, the next begins
 * at column `indent`. */
void options_wrap(FILE *out, const char *text, int at, int indent);

/* Usage line and one line per option, wrapped for a terminal of 80 columns. */
void options_usage(const OptionTable *table, FILE *out);

#endif
