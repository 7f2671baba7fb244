/* Small text tables: a file read whole, walked line by line, each line cut into fields in place. */
#ifndef EXCON_IO_TEXT_LINES_H
#define EXCON_IO_TEXT_LINES_H

#include <stdint.h>

#include "kernels/base/status.h"

typedef struct TextLines {
    char path[1100];
    char *text; /* owned; fields point into it */
    char *rest;
    int number; /* of the current line, from 1 */
} TextLines;

/* A byte-order mark is passed over. STATUS_DATA for what is no such text: UTF-16, a zero byte, lines that end with
 * a carriage return alone. A failed open has unwound itself: closing the lines does nothing. */
Status text_open(TextLines *lines, const char *path, Error *err);
void text_close(TextLines *lines);

/* Next non-empty line, without its end (LF or CR LF) and the blanks round it; NULL at the end of the file. */
char *text_next(TextLines *lines);

/* Cuts `line` at tabs and blanks into exactly `count` fields; STATUS_DATA with file and line otherwise. */
Status text_fields(const TextLines *lines, char *line, int count, char **fields, Error *err);

/* Decimal number from 0 to `high`; STATUS_DATA with file and line otherwise. */
Status text_number(const TextLines *lines, const char *field, int64_t high, int16_t *out, Error *err);

/* STATUS_DATA unless `name` is a plain file name (no slash, no leading dot). */
Status text_plain_name(const TextLines *lines, const char *name, Error *err);

#endif
