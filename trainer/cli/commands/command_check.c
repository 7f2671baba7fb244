/* excon check CONFIG: finds out before a run what would stop it: configuration, data, folders, devices, memory, one
 * step. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/dataset/dataset.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/optim/schedule.h"
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

/* One step of the real size on the first batch, without a trace on disk. */
static Status try_step(const Config *wanted, int speaks, Error *err) {
    Config config = *wanted;
    config.train.max_steps = 1;
    if (config.train.epochs == 0)
        config.train.epochs = 1;
    Trainer *trainer = malloc(sizeof *trainer);
    if (!trainer)
        return error_set(err, STATUS_SYSTEM, "out of memory");
    Status status = trainer_open(trainer, &config, &(TrainerOptions){.trial = true}, err);
    if (status == STATUS_OK) {
        if (speaks && trainer->would_resume >= 0)
            printf("run folder: a run would go on from step %lld\n", (long long)trainer->would_resume);
        status = trainer_close(trainer, trainer_run(trainer, err), err);
    }
    free(trainer);
    return status;
}

static Status check_data(const Config *config, int speaks, Error *err) {
    Dataset dataset;
    RETURN_IF(dataset_open(&dataset, config->data.dir, 1, err));
    if (speaks)
        printf("data: %s, %lld train and %lld val images, every shard's checksum good\n", dataset.dir,
               (long long)dataset.count[SPLIT_TRAIN], (long long)dataset.count[SPLIT_VAL]);
    dataset_close(&dataset);
    return STATUS_OK;
}

Status command_check(int argc, char **argv, Error *err) {
    OptionList sets = {0}, positional;
    const Option options[] = {{"set", "key=value", OPTION_REPEATED, &sets, "override a key of the configuration"}};
    const OptionTable table = OPTION_TABLE("check CONFIG [--set key=value]...", options, 1, 1);
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    const int speaks = comm_launched_rank() == 0; /* each rank looks at what it will read */
    Config config;
    RETURN_IF(trainer_load_config(&config, positional.items[0], sets.items, sets.count, err));
    if (speaks)
        printf("configuration: good; warm-up %s\n", schedule_warms_up(&config) ? "on" : "off");
    RETURN_IF(check_folder(config.run.dir, err));
    if (speaks)
        printf("run folder: %s can be written\n", config.run.dir);
    RETURN_IF(check_data(&config, speaks, err));
    fflush(stdout);
    RETURN_IF(try_step(&config, speaks, err));
    if (speaks)
        printf("one step: good\n");
    return STATUS_OK;
}
