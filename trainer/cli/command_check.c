/* excon check CONFIG: finds out before a run what would stop it: configuration, data, folders, devices, memory, one
 * step. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/files/files.h"
#include "trainer/cli/commands.h"
#include "trainer/cli/options.h"
#include "trainer/run/schedule.h"
#include "trainer/run/trainer.h"

/* The run folder must be creatable; nothing is created. */
static Status check_folder(const char *dir, Error *err) {
    char path[1024];
    snprintf(path, sizeof path, "%s", dir);
    while (path[0] && access(path, F_OK) != 0) {
        char *slash = path;
        for (char *at = path; *at; at++)
            slash = *at == '/' ? at : slash;
        if (slash == path && path[0] != '/') {
            snprintf(path, sizeof path, ".");
            break;
        }
        slash[slash == path] = '\0';
    }
    if (access(path, W_OK | X_OK) != 0)
        return error_set(err, STATUS_CANNOT_CREATE, "run.dir %s: no permission to write in %s", dir, path);
    return STATUS_OK;
}

/* One step of the real size on the first batch, in a throw-away folder, so that nothing of the run is touched. */
static Status try_step(const Config *wanted, Error *err) {
    char scratch[] = "/tmp/excon-check-XXXXXX", command[64];
    Config config = *wanted;
    if (!mkdtemp(scratch))
        return error_set(err, STATUS_CANNOT_CREATE, "cannot make a folder in /tmp for the trial step");
    snprintf(config.run.dir, sizeof config.run.dir, "%s", scratch);
    config.train.max_steps = 1;
    if (config.train.epochs == 0)
        config.train.epochs = 1;
    Trainer *trainer = malloc(sizeof *trainer);
    Status status = trainer ? trainer_open(trainer, &config, 0, err) : error_set(err, STATUS_SYSTEM, "out of memory");
    if (status == STATUS_OK)
        status = trainer_run(trainer, err);
    if (trainer)
        status = trainer_close(trainer, status, err);
    free(trainer);
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    if (system(command) != 0)
        fprintf(stderr, "excon: could not remove %s\n", scratch);
    return status;
}

Status command_check(int argc, char **argv, Error *err) {
    signal(SIGPIPE, SIG_IGN); /* the trial step's folder is removed whoever reads */
    OptionList sets = {0}, positional = {0};
    const Option options[] = {{"set", "key=value", OPTION_REPEATED, &sets, "override a key of the configuration"}};
    const OptionTable table = {.usage = "check CONFIG [--set key=value]...",
                               .options = options,
                               .option_count = 1,
                               .positional_min = 1,
                               .positional_max = 1};
    int help = 0;
    RETURN_IF(options_parse(&table, argc, argv, &positional, &help, err));
    if (help)
        return STATUS_OK;
    Config config;
    RETURN_IF(config_load(&config, positional.items[0], sets.items, sets.count, err));
    if (!config.data.dir[0] || !config.run.dir[0])
        return error_set(err, STATUS_CONFIG, "%s: data.dir and run.dir must be set", positional.items[0]);
    printf("configuration: good; warm-up %s\n", schedule_warms_up(&config) ? "on" : "off");
    RETURN_IF(check_folder(config.run.dir, err));
    printf("run folder: %s can be written\n", config.run.dir);
    Dataset dataset;
    RETURN_IF(dataset_open(&dataset, config.data.dir, 1, err));
    printf("data: %s, %lld train and %lld val images, every shard's checksum good\n", dataset.dir,
           (long long)dataset.count[SPLIT_TRAIN], (long long)dataset.count[SPLIT_VAL]);
    dataset_close(&dataset);
    fflush(stdout);
    RETURN_IF(try_step(&config, err));
    printf("one step: good\n");
    return STATUS_OK;
}
