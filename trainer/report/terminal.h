/* A row of progress that is drawn again and again in the same place of a terminal. */
#ifndef EXCON_TRAINER_TERMINAL_H
#define EXCON_TRAINER_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* Whether a row can be drawn again on `out`: a terminal, and none that calls itself dumb. */
bool terminal_redraws(FILE *out);

/* Columns of the terminal behind `out` as it is now; without one $COLUMNS, or 80. */
int terminal_columns(FILE *out);

/* Draws "HEAD [####....] TEXT OPTIONAL" over the row, `done` of the bar filled (0..1). Always one row: the bar gets
 * shorter in a narrow terminal, then `optional` goes, then the bar, and what still is too long is cut. No colours. */
void terminal_progress(FILE *out, double done, const char *head, const char *text, const char *optional);

/* Empties the row. */
void terminal_clear(FILE *out);

#endif
