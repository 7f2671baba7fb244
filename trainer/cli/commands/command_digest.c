/* excon digest CHECKPOINT: one hash of parameters, momentum, statistics and cursor. */
#include "io/checkpoint/checkpoint.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"

Status command_digest(int argc, char **argv, Error *err) {
    const OptionTable table = {.usage = "digest CHECKPOINT", .positional_min = 1, .positional_max = 1};
    OptionList positional;
    CheckpointFile file;
    char hex[65];
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    RETURN_IF(checkpoint_load(positional.items[0], &file, err));
    Status status = checkpoint_digest(&file, hex, err);
    checkpoint_free(&file);
    if (status == STATUS_OK)
        printf("%s\n", hex);
    return status;
}
