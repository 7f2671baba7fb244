/* Small text tables. See text_lines.h. */
#include "io/import/text_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"

enum { TEXT_LIMIT = 64 << 20 };

Status text_open(TextLines *lines, const char *path, Error *err) {
    size_t size;
    *lines = (TextLines){.number = 0};
    snprintf(lines->path, sizeof lines->path, "%s", path);
    RETURN_IF(files_read(path, TEXT_LIMIT, &lines->text, &size, err));
    if (strlen(lines->text) != size) {
        text_close(lines);
        return error_set(err, STATUS_DATA, "%s: holds a zero byte: not a text file", path);
    }
    lines->rest = lines->text;
    return STATUS_OK;
}

void text_close(TextLines *lines) {
    free(lines->text);
    lines->text = lines->rest = NULL;
}

char *text_next(TextLines *lines) {
    while (lines->rest && *lines->rest) {
        char *line = lines->rest;
        char *end = line + strcspn(line, "\n");
        lines->rest = *end ? end + 1 : end;
        *end = 0;
        lines->number++;
        line += strspn(line, " \t\r");
        line[strcspn(line, "\r")] = 0;
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
