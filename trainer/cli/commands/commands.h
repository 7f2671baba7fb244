/* Subcommands: one file each. argv[0] is the subcommand's name. A failure's Status becomes the exit code and its
 * message goes to stderr once, from main(). */
#ifndef EXCON_TRAINER_COMMANDS_H
#define EXCON_TRAINER_COMMANDS_H

#include "kernels/base/status.h"

Status command_train(int argc, char **argv, Error *err);
Status command_check(int argc, char **argv, Error *err);
Status command_eval(int argc, char **argv, Error *err);
Status command_import(int argc, char **argv, Error *err);
Status command_inspect(int argc, char **argv, Error *err);
Status command_digest(int argc, char **argv, Error *err);
Status command_bench(int argc, char **argv, Error *err);
Status command_probe(int argc, char **argv, Error *err);

#endif
