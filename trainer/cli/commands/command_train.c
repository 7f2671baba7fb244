/* excon train CONFIG: one run; continues from the newest valid checkpoint of its run folder. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/report/terminal.h"
#include "trainer/run/signals.h"
#include "trainer/run/trainer.h"

Status command_train(int argc, char **argv, Error *err) {
    signals_install();
    signal(SIGPIPE, SIG_IGN); /* a reader of the progress lines that has gone (| head) ends no training */
    OptionList sets = {0}, positional;
    int bar = 0, lines = 0;
    const Option options[] = {
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key of the configuration"},
        {"bar", NULL, OPTION_FLAG, &bar, "draw a progress bar (default on a terminal, without mpirun)"},
        {"lines", NULL, OPTION_FLAG, &lines, "print a line per interval (default elsewhere)"},
    };
    const OptionTable table = OPTION_TABLE("train CONFIG [--set key=value]...", options, 1, 1);
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    if (bar && lines)
        return error_set(err, STATUS_USAGE, "--bar and --lines exclude each other");
    if (!bar && !lines) /* mpirun gives its ranks a pseudo-terminal whatever its own output is */
        bar = terminal_redraws(stdout) && !getenv("OMPI_COMM_WORLD_SIZE");
    Config config;
    RETURN_IF(trainer_load_config(&config, positional.items[0], sets.items, sets.count, err));
    Trainer *trainer = malloc(sizeof *trainer);
    if (!trainer)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    Status status = trainer_open(trainer, &config, &(TrainerOptions){.bar = bar}, err);
    if (status == STATUS_OK)
        status = trainer_close(trainer, trainer_run(trainer, err), err);
    free(trainer);
    return status;
}
