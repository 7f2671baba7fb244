/* The program: a table of subcommands. Only main() exits; a subcommand returns a Status, which is the exit code. */
#include <stdio.h>
#include <string.h>

#include "trainer/cli/commands.h"
#include "trainer/cli/nearest.h"
#include "trainer/cli/output.h"
#include "trainer/config/config.h"

#ifndef EXCON_REVISION
#define EXCON_REVISION "unknown"
#endif

typedef struct Command {
    const char *name;
    Status (*run)(int argc, char **argv, Error *err);
    const char *help;
} Command;

static const Command commands[] = {
    {"train", command_train, "one run; continues from the newest valid checkpoint of its run folder"},
    {"check", command_check, "preflight: configuration, data and checksums, folders, memory, one step"},
    {"eval", command_eval, "accuracy and faithfulness of a run's checkpoint on the val split"},
    {"import", command_import, "turn a dataset into checked HDF5 shards, or make the synthetic one"},
    {"inspect", command_inspect, "what a checkpoint, a shard or any HDF5 file holds"},
    {"digest", command_digest, "one hash of a checkpoint's parameters, momentum, statistics and cursor"},
    {"probe", command_probe, "numbers in, numbers out: loss, encoder, explanation, step, augmentation"},
    {"bench", command_bench, "speed of step, loss, loader or operators on this machine"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out) {
    fputs("excon: distributed trainer for explanation-driven supervised contrastive learning\n"
          "usage: [mpirun -n RANKS] excon COMMAND [ARGUMENT]... [--option value]...\n\n",
          out);
    for (const Command *command = commands; command->name; command++)
        fprintf(out, "  %-10s %s\n", command->name, command->help);
    fputs("  help       this text; help config: every configuration key\n"
          "\nexcon COMMAND --help lists a command's options; excon --version prints the revision.\n"
          "Exit codes:",
          out);
    const char *separator = " ";
#define X(name, code, text)                                                                                            \
    fprintf(out, "%s%d %s", separator, code, text);                                                                    \
    separator = " | ";
    STATUS_TABLE(X)
#undef X
    fputc('\n', out);
}

static Status unknown_command(const char *name, Error *err) {
    Nearest nearest = {name, NULL, 0};
    for (const Command *command = commands; command->name; command++)
        nearest_offer(&nearest, command->name);
    nearest_offer(&nearest, "help");
    if (nearest.best)
        return error_set(err, STATUS_USAGE, "unknown command '%.60s'; did you mean '%s'?", name, nearest.best);
    return error_set(err, STATUS_USAGE, "unknown command '%.60s'; excon help lists them", name);
}

static Status run_help(int argc, char **argv, Error *err) {
    if (argc == 1)
        print_help(stdout);
    else if (argc == 2 && strcmp(argv[1], "config") == 0)
        config_describe(stdout);
    else
        return error_set(err, STATUS_USAGE, "usage: excon help [config]");
    return STATUS_OK;
}

static Status dispatch(int argc, char **argv, Error *err) {
    if (argc < 2) {
        print_help(stderr);
        return error_set(err, STATUS_USAGE, "no command given");
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        printf("excon %s\n", EXCON_REVISION);
        return STATUS_OK;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0)
        return run_help(argc - 1, argv + 1, err);
    for (const Command *command = commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command->run(argc - 1, argv + 1, err);
    return unknown_command(name, err);
}

int main(int argc, char **argv) {
    Error err = {.code = STATUS_OK};
    output_open();
    Status status = output_close(dispatch(argc, argv, &err), &err);
    if (status != STATUS_OK && !err.silent)
        fprintf(stderr, "excon: %s\n", err.message[0] ? err.message : status_text(status));
    return (int)status;
}
