/* Small text tables. See text_lines.h. */
#include "io/import/source/text_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"

enum { TEXT_LIMIT = 64 << 20 };

/* Number of the first line, from 1, that a carriage return ends alone; 0: none. Before a line feed, or at the end of
 * the file, they belong to the line's end. */
static int lone_return(const char *text) {
    int line = 1;
    for (const char *at = text; *at; at++) {
        if (*at == '\r' && at[1 + strspn(at + 1, "\r")] != '\n' && at[1 + strspn(at + 1, "\r")] != 0)
            return line;
        line += *at == '\n';
    }
    return 0;
}

Status text_open(TextLines *lines, const char *path, Error *err) {
    size_t size;
    *lines = (TextLines){.number = 0};
    snprintf(lines->path, sizeof lines->path, "%s", path);
    RETURN_IF(files_read(path, TEXT_LIMIT, &lines->text, &size, err));
    const char *text = lines->text;
    if (strlen(text) != size) {
        const int wide = memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0;
        text_close(lines);
        return error_set(
            err, STATUS_DATA,
            wide ? "%s: is UTF-16 text; save it as ASCII or UTF-8" : "%s: holds a zero byte: not a text file", path);
    }
    const int number = lone_return(text);
    if (number > 0) {
        text_close(lines);
        return error_set(err, STATUS_DATA,
                         "%s:%d: ends lines with carriage returns alone, as no system does now; convert it: tr '\\r' "
                         "'\\n'",
                         path, number);
    }
    lines->rest = lines->text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0); /* a byte-order mark */
    return STATUS_OK;
}

void text_close(TextLines *lines) {
    free(lines->text);
    lines->text = lines->rest = NULL;
}

char *text_next(TextLines *lines) {
    while (lines->rest && *lines->rest) {
        char *line = lines->rest, *end = line + strcspn(line, "\n");
        lines->rest = *end ? end + 1 : end;
        lines->number++;
        line += strspn(line, " \t\r");
        while (end > line && strchr(" \t\r", end[-1]))
            end--;
        *end = 0;
        if (*line)
            return line;
    }
    return NULL;
}

Status text_fields(const TextLines *lines, char *line, int count, char **fields, Error *err) {
    int found = 0;
    char *save = NULL;
    for (char *field = strtok_r(line, " \t", &save); field; field = strtok_r(NULL, " \t", &save))
        if (found++ < count)
            fields[found - 1] = field;
    if (found != count)
        return error_set(err, STATUS_DATA, "%s:%d: %d fields, expected %d", lines->path, lines->number, found, count);
    return STATUS_OK;
}

Status text_number(const TextLines *lines, const char *field, int64_t high, int16_t *out, Error *err) {
    char *end;
    const long value = strtol(field, &end, 10);
    if (end == field || *end || value < 0 || value > high)
        return error_set(err, STATUS_DATA, "%s:%d: '%.40s' is not a number from 0 to %lld", lines->path, lines->number,
                         field, (long long)high);
    *out = (int16_t)value;
    return STATUS_OK;
}

Status text_plain_name(const TextLines *lines, const char *name, Error *err) {
    if (name[0] == '.' || strchr(name, '/') || strlen(name) > 200)
        return error_set(err, STATUS_DATA, "%s:%d: '%.60s' is not a plain file name", lines->path, lines->number, name);
    return STATUS_OK;
}
