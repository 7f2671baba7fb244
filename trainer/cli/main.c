/* The program: a table of subcommands. Only main() exits; a subcommand returns a Status, which is the exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "io/files/files.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/cli/output.h"
#include "trainer/cli/version.h"
#include "trainer/config/config.h"
#include "trainer/config/nearest.h"

#ifndef EXCON_REVISION
#define EXCON_REVISION "unknown"
#endif

typedef struct Command {
    const char *name;
    Status (*run)(int argc, char **argv, Error *err);
    enum { ALONE, TOGETHER } ranks; /* they work together, by comm_init and comm_agree */
    const char *help;
} Command;

static const Command commands[] = {
    {"train", command_train, TOGETHER, "one run; continues from the newest valid checkpoint of its run folder"},
    {"check", command_check, TOGETHER, "preflight: configuration, data and checksums, folders, memory, one step"},
    {"eval", command_eval, TOGETHER, "accuracy and faithfulness of a run's checkpoint on the val split"},
    {"import", command_import, ALONE, "turn a dataset into checked HDF5 shards, or make the synthetic one"},
    {"inspect", command_inspect, ALONE, "what a checkpoint, a shard, any HDF5 file or a folder of them holds"},
    {"digest", command_digest, ALONE, "one hash of a checkpoint's parameters, momentum, statistics and cursor"},
    {"probe", command_probe, TOGETHER, "numbers in, numbers out: loss, encoder, explanation, step, augmentation"},
    {"bench", command_bench, TOGETHER, "speed of step, loss, loader or operators on this machine"},
    {NULL, NULL, ALONE, NULL},
};

static void print_help(FILE *out) {
    char codes[1024] = "";
    size_t used = 0;
#define X(name, code, text)                                                                                            \
    used += (size_t)snprintf(codes + used, sizeof codes - used, "%s%d %s", used ? " | " : "", code, text);
    STATUS_TABLE(X)
#undef X
    fputs("excon: distributed trainer for explanation-driven contrastive learning\n"
          "usage: [mpirun -n RANKS] excon COMMAND [ARGUMENT]... [--option value]...\n\n",
          out);
    for (const Command *command = commands; command->name; command++) {
        fprintf(out, "  %-8s ", command->name);
        options_wrap(out, command->help, 11, 11);
    }
    fputs("  help     this text; help config: every configuration key\n\n"
          "excon help COMMAND (or excon COMMAND -h) lists a command's options,\n"
          "excon --version prints version and revision.\nExit codes: ",
          out);
    options_wrap(out, codes, 12, 12);
}

static int is_help(const char *word) {
    return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
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

static const Command *find_command(const char *name) {
    for (const Command *command = commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

/* Arguments after "help": none, config, or a command. */
static Status run_help(int argc, char **argv, Error *err) {
    if (argc > 1)
        return error_set(err, STATUS_USAGE, "usage: excon help [config|COMMAND]");
    if (argc == 1 && strcmp(argv[0], "config") != 0 && !is_help(argv[0])) {
        const Command *command = find_command(argv[0]);
        char name[64], option[] = "--help";
        if (!command)
            return unknown_command(argv[0], err);
        snprintf(name, sizeof name, "%s", command->name);
        return command->run(2, (char *[]){name, option, NULL}, err);
    }
    if (comm_launched_rank() > 0)
        return STATUS_OK;
    if (argc == 1 && strcmp(argv[0], "config") == 0)
        config_describe(stdout);
    else
        print_help(stdout);
    return STATUS_OK;
}

static Status dispatch(int argc, char **argv, Error *err) {
    if (argc < 2) {
        if (comm_launched_rank() == 0)
            print_help(stderr);
        return error_set(err, STATUS_USAGE, "no command given");
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        if (comm_launched_rank() == 0)
            printf("excon %s, revision %s\n", EXCON_VERSION, EXCON_REVISION);
        return STATUS_OK;
    }
    if (is_help(name))
        return run_help(argc - 2, argv + 2, err);
    const Command *command = find_command(name);
    Status status = command ? command->run(argc - 1, argv + 1, err) : unknown_command(name, err);
    /* What ends a rank before MPI runs is said once, whichever rank met it. */
    return status != STATUS_OK && (!command || command->ranks == TOGETHER) ? comm_agree_early(status, err) : status;
}

/* A ~ that no shell has expanded ('~/x' in quotes, --data=~/x) is the home folder, as in a configuration. The texts lie
 * in *room, to be freed at the end. */
static Status expand_homes(int argc, char **argv, char **room, Error *err) {
    enum { TEXT = 4096 };
    for (int i = 1; i < argc; i++) {
        const char *equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
        const size_t before = equals ? (size_t)(equals + 1 - argv[i]) : 0;
        if (argv[i][before] != '~' || before >= TEXT)
            continue;
        if (!*room && !(*room = calloc((size_t)argc, TEXT)))
            return error_set(err, STATUS_SYSTEM, "out of memory");
        char *text = *room + (size_t)i * TEXT;
        memcpy(text, argv[i], before);
        if (!files_expand_home(argv[i] + before, text + before, TEXT - before))
            return error_set(
                err, STATUS_USAGE,
                "'%.80s': only ~/ is known, as the folder in HOME; write the folder's name out, or ./~name", argv[i]);
        argv[i] = text;
    }
    return STATUS_OK;
}

int main(int argc, char **argv) {
    Error err = {.code = STATUS_OK};
    char *room = NULL;
    output_open();
    Status status = expand_homes(argc, argv, &room, &err);
    status = output_close(status == STATUS_OK ? dispatch(argc, argv, &err) : status, &err);
    free(room);
    if (status != STATUS_OK && !err.silent)
        fprintf(stderr, "excon: %s\n", err.message[0] ? err.message : status_text(status));
    return (int)status;
}
