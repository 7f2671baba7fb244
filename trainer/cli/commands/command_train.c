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
    OptionList sets = {0}, positional = {0};
    int bar = 0, lines = 0;
    const Option options[] = {
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key of the configuration"},
        {"bar", NULL, OPTION_FLAG, &bar, "draw a progress bar (default on a terminal, without mpirun)"},
        {"lines", NULL, OPTION_FLAG, &lines, "print a line per interval (default elsewhere)"},
    };
    const OptionTable table = {.usage = "train CONFIG [--set key=value]...",
                               .options = options,
                               .option_count = sizeof options / sizeof *options,
                               .positional_min = 1,
                               .positional_max = 1};
    int help = 0;
    RETURN_IF(options_parse(&table, argc, argv, &positional, &help, err));
    if (help)
        return STATUS_OK;
    if (bar && lines)
        return error_set(err, STATUS_USAGE, "--bar and --lines exclude each other");
    if (!bar && !lines) /* mpirun gives its ranks a pseudo-terminal whatever its own output is */
        bar = terminal_redraws(stdout) && !getenv("OMPI_COMM_WORLD_SIZE");
    Config config;
    RETURN_IF(config_load(&config, positional.items[0], sets.items, sets.count, err));
    if (!config.data.dir[0] || !config.run.dir[0])
        return error_set(err, STATUS_CONFIG, "%s: data.dir and run.dir must be set", positional.items[0]);
    RETURN_IF(folder_check_moved(positional.items[0], config.run.dir, sets.items, sets.count, err));
    Trainer *trainer = malloc(sizeof *trainer);
    if (!trainer)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    Status status = trainer_open(trainer, &config, bar, 0, err);
    if (status == STATUS_OK)
        status = trainer_run(trainer, err);
    status = trainer_close(trainer, status, err);
    free(trainer);
    return status;
}
