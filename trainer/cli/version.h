/* The version of the program, in one place; CHANGELOG.md and CITATION.cff name it, which tests/unit/trainer/test_cli.sh
 * checks. */
#ifndef EXCON_TRAINER_VERSION_H
#define EXCON_TRAINER_VERSION_H

#define EXCON_VERSION "0.1.0"

#endif
