/* Standard input, output and error of the program, from its first to its last statement. */
#ifndef EXCON_TRAINER_CLI_OUTPUT_H
#define EXCON_TRAINER_CLI_OUTPUT_H

#include "kernels/base/status.h"

/* Occupies those of the three descriptors that the program was started without, so that no file opened later becomes
 * one of them and gets messages written into it. Writing to such a standard output fails, as it did before. */
void output_open(void);

/* Closes standard output. What could not be written there was part of the result: `status` STATUS_OK then becomes
 * STATUS_IO; another status stays, and is the one reported. */
Status output_close(Status status, Error *err);

#endif
