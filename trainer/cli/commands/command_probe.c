/* excon probe OP IN.h5 OUT.h5: numbers in, numbers out, for comparing with other frameworks. */
#include <string.h>

#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/probe/session.h"

typedef struct ProbeOp {
    const char *name;
    const char *samples; /* dataset whose first dimension counts samples */
    Status (*run)(ProbeSession *, Error *);
} ProbeOp;

static const ProbeOp ops[] = {
    {"supcon", "labels", probe_supcon},           {"encode", "images", probe_encode},
    {"explain", "images", probe_explain},         {"step", "labels", probe_step},
    {"augment", "images", probe_augment},         {"corrupt", "images", probe_corrupt},
    {"calibration", "logits", probe_calibration},
};

static const ProbeOp *find(const char *name) {
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    return NULL;
}

Status command_probe(int argc, char **argv, Error *err) {
    ProbeOptions o = {.mode = "eval", .epoch = 1, .view = 1, .steps = 1, .bins = 10};
    const char *config_path = NULL, *backend = NULL;
    OptionList sets = {0}, positional;
    const Option options[] = {
        {"config", "FILE", OPTION_TEXT, &config_path, "configuration; defaults apply where it is silent"},
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key"},
        {"checkpoint", "FILE", OPTION_TEXT, &o.checkpoint, "parameters, statistics and momentum of a run"},
        {"weights", "FILE", OPTION_TEXT, &o.weights, "plain HDF5 with parameters and statistics at /model/NAME"},
        {"backend", "cpu|cuda", OPTION_TEXT, &backend, "same as --set backend=..."},
        {"mode", "eval|train", OPTION_TEXT, &o.mode, "encode: running or batch statistics (default eval)"},
        {"epoch", "N", OPTION_INTEGER, &o.epoch, "augment: epoch (default 1)"},
        {"view", "N", OPTION_INTEGER, &o.view, "augment: 1 first, 2 second, 3 classifier (default 1)"},
        {"steps", "N", OPTION_INTEGER, &o.steps, "step: repeat the batch, write `losses` (default 1)"},
        {"corruption", "NAME", OPTION_TEXT, &o.corruption, "corrupt: which (docs/evaluation.md)"},
        {"severity", "1..5", OPTION_INTEGER, &o.severity, "corrupt: how much"},
        {"bins", "N", OPTION_INTEGER, &o.bins, "calibration: bins of binned errors (default 10)"},
    };
    const OptionTable table =
        OPTION_TABLE("probe supcon|encode|explain|step|augment|corrupt|calibration IN.h5 OUT.h5 [--set key=value]...",
                     options, 3, 3);
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    const ProbeOp *op = find(positional.items[0]);
    if (!op)
        return error_set(
            err, STATUS_USAGE,
            "unknown probe '%.40s'; there are supcon, encode, explain, step, augment, corrupt, calibration",
            positional.items[0]);
    if (strcmp(o.mode, "eval") != 0 && strcmp(o.mode, "train") != 0)
        return error_set(err, STATUS_USAGE, "--mode is eval or train, not '%.40s'", o.mode);
    if (o.checkpoint && o.weights)
        return error_set(err, STATUS_USAGE, "--checkpoint and --weights exclude each other");
    if (o.steps < 1 || o.epoch < 0 || o.view < 0)
        return error_set(err, STATUS_USAGE, "--steps must be at least 1, --epoch and --view not negative");
    o.op = op->name;
    o.in = positional.items[1];
    o.out = positional.items[2];
    char choice[64];
    if (backend && sets.count < OPTION_LIST_MAX) {
        snprintf(choice, sizeof choice, "backend=%.40s", backend);
        sets.items[sets.count++] = choice;
    }
    Config config;
    if (op->run == probe_supcon) /* a loss alone: modes and methods combine freely */
        RETURN_IF(config_load_loose(&config, config_path, sets.items, sets.count, err));
    else
        RETURN_IF(config_load(&config, config_path, sets.items, sets.count, err));
    ProbeSession session;
    RETURN_IF(probe_open(&session, &o, &config, op->samples, err));
    return probe_close(&session, op->run(&session, err), err);
}
