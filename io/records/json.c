/* JSON text builder. After an opening bracket no comma is due, after a value or a closing one it is: one flag is
 * enough. When memory runs out the text is dropped, `capacity` becomes FAILED and every later call is ignored. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/records/records.h"

#define FAILED SIZE_MAX

void json_init(Json *json) {
    *json = (Json){0};
}

void json_free(Json *json) {
    free(json->text);
    *json = (Json){0};
}

static void append(Json *json, const char *text, size_t size) {
    if (json->capacity == FAILED)
        return;
    if (json->size + size + 1 > json->capacity) {
        size_t capacity = 2 * (json->size + size + 1) + 64;
        char *larger = realloc(json->text, capacity);
        if (!larger) {
            free(json->text);
            *json = (Json){.capacity = FAILED};
            return;
        }
        json->text = larger;
        json->capacity = capacity;
    }
    memcpy(json->text + json->size, text, size);
    json->size += size;
    json->text[json->size] = 0;
}

/* Bytes of the well-formed UTF-8 sequence at `s`, 0 when malformed (overlong, surrogate, beyond U+10FFFF, cut short).
 */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

static void append_quoted(Json *json, const char *value) {
    append(json, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)value; *s;) {
        size_t n = utf8_length(s);
        char escaped[8];
        if (n == 0) {
            append(json, "\\ufffd", 6);
            s++;
            continue;
        }
        if (*s == '"' || *s == '\\') {
            escaped[0] = '\\';
            escaped[1] = (char)*s;
            append(json, escaped, 2);
        } else if (*s < 0x20 || *s == 0x7F) {
            snprintf(escaped, sizeof escaped, "\\u%04x", *s);
            append(json, escaped, 6);
        } else {
            append(json, (const char *)s, n);
        }
        s += n;
    }
    append(json, "\"", 1);
}

static void begin_value(Json *json, const char *key) {
    if (json->need_comma)
        append(json, ",", 1);
    json->need_comma = true;
    if (key) {
        append_quoted(json, key);
        append(json, ":", 1);
    }
}

static void open_bracket(Json *json, const char *key, const char *bracket) {
    begin_value(json, key);
    append(json, bracket, 1);
    json->need_comma = false;
}

static void close_bracket(Json *json, const char *bracket) {
    append(json, bracket, 1);
    json->need_comma = true;
}

void json_begin_object(Json *json, const char *key) {
    open_bracket(json, key, "{");
}

void json_end_object(Json *json) {
    close_bracket(json, "}");
}

void json_begin_array(Json *json, const char *key) {
    open_bracket(json, key, "[");
}

void json_end_array(Json *json) {
    close_bracket(json, "]");
}

void json_number(Json *json, const char *key, double value) {
    char text[32] = "null";
    if (isfinite(value))
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtod(text, NULL) == value)
                break;
        }
    begin_value(json, key);
    append(json, text, strlen(text));
}

void json_integer(Json *json, const char *key, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    begin_value(json, key);
    append(json, text, strlen(text));
}

void json_string(Json *json, const char *key, const char *value) {
    begin_value(json, key);
    append_quoted(json, value);
}

void json_end_line(Json *json) {
    append(json, "\n", 1);
}

void json_bool(Json *json, const char *key, bool value) {
    begin_value(json, key);
    append(json, value ? "true" : "false", value ? 4 : 5);
}
