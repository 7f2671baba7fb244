#include "trainer/config/config_yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { NAME_SHOWN = 80 };

typedef struct Reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; empty (YAML_NO_EVENT) before the first */
    const char *path, *data;
    size_t size;
    Assignment *found;
    struct {
        char name[KEY_NAME_MAX];
        long line;
    } sections[CONFIG_KEYS_MAX]; /* sections seen so far */
    int section_count;
    Error *err;
} Reader;

static long line_of(const Reader *r) {
    return (long)r->event.start_mark.line + 1;
}

static long column_of(const Reader *r) {
    return (long)r->event.start_mark.column + 1;
}

static Status refuse_at(const Reader *r, const char *what) {
    return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: %s", r->path, line_of(r), column_of(r), what);
}

/* libyaml marks reader errors (bad bytes) by offset only. */
static void place_of_offset(const Reader *r, size_t offset, long *line, long *column) {
    *line = *column = 1;
    for (size_t i = 0; i < offset && i < r->size; i++) {
        if (r->data[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)r->data[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
}

static Status syntax_error(const Reader *r) {
    const yaml_parser_t *p = &r->parser;
    long line = (long)p->problem_mark.line + 1, column = (long)p->problem_mark.column + 1;
    if (p->error == YAML_MEMORY_ERROR)
        return error_set(r->err, STATUS_SYSTEM, "%s: out of memory while reading it", r->path);
    if (p->error == YAML_READER_ERROR)
        place_of_offset(r, p->problem_offset, &line, &column);
    return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: not valid YAML: %s%s%s", r->path, line, column,
                     p->problem ? p->problem : "syntax error", p->context ? " " : "", p->context ? p->context : "");
}

/* Moves to the next event and refuses what no configuration needs. */
static Status advance(Reader *r) {
    yaml_event_delete(&r->event);
    memset(&r->event, 0, sizeof r->event);
    if (!yaml_parser_parse(&r->parser, &r->event))
        return syntax_error(r);
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return refuse_at(r, "aliases (*name) are not allowed; write the value out");
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor)
        return refuse_at(r, "anchors (&name) are not allowed; write the value where it is needed");
    if (tag)
        return refuse_at(r, "tags (!name) are not allowed; every key has one type already");
    return STATUS_OK;
}

Status config_unknown_key(const char *place, const char *name, Error *err) {
    char nearest[KEY_NAME_MAX];
    if (key_nearest(name, nearest))
        return error_set(err, STATUS_CONFIG, "%s: unknown key '%s' (did you mean '%s'?)", place, name, nearest);
    return error_set(err, STATUS_CONFIG, "%s: unknown key '%s'; excon help config lists all keys", place, name);
}

/* "section.key" of the current scalar, unprintable bytes shown as '?'; a cut-off name is no key's name. */
static void full_name(const Reader *r, const char *section, char out[NAME_SHOWN]) {
    const char *text = (const char *)r->event.data.scalar.value;
    size_t length = r->event.data.scalar.length;
    size_t used = section[0] ? (size_t)snprintf(out, NAME_SHOWN, "%s.", section) : 0;
    for (size_t i = 0; i < length && used < NAME_SHOWN - 1; i++)
        out[used++] = (unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
    out[used] = '\0';
}

static Status keep_value(Reader *r, int index) {
    const Key *key = &config_keys[index];
    Assignment *a = &r->found[index];
    if (r->event.type != YAML_SCALAR_EVENT) {
        error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: '%s' takes one value, not a list or a section", r->path,
                  line_of(r), column_of(r), key->name);
        return STATUS_CONFIG;
    }
    if (r->event.data.scalar.length == 0 && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: '%s' has no value; leave the key out for its default",
                         r->path, line_of(r), column_of(r), key->name);
    a->length = r->event.data.scalar.length;
    a->text = malloc(a->length + 1);
    if (!a->text)
        return error_set(r->err, STATUS_SYSTEM, "%s: out of memory while reading it", r->path);
    memcpy(a->text, r->event.data.scalar.value, a->length);
    a->text[a->length] = '\0';
    a->line = line_of(r);
    a->column = column_of(r);
    return STATUS_OK;
}

static Status duplicate(const Reader *r, const char *name, long first) {
    return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: '%s' stands here a second time, first at line %ld", r->path,
                     line_of(r), column_of(r), name, first);
}

static Status read_mapping(Reader *r, const char *section);

/* A known section's name is the current event. An empty one (all its keys commented out) is fine. */
static Status read_section(Reader *r, const char *name) {
    for (int i = 0; i < r->section_count; i++)
        if (strcmp(r->sections[i].name, name) == 0)
            return duplicate(r, name, r->sections[i].line);
    snprintf(r->sections[r->section_count].name, KEY_NAME_MAX, "%s", name);
    r->sections[r->section_count++].line = line_of(r);
    RETURN_IF(advance(r));
    if (r->event.type == YAML_MAPPING_START_EVENT)
        return read_mapping(r, name);
    if (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.length == 0 &&
        r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return STATUS_OK;
    return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: '%s' is a section: its keys go below it, indented", r->path,
                     line_of(r), column_of(r), name);
}

/* A key or section name is the current event; consumes its value. */
static Status read_entry(Reader *r, const char *section) {
    char name[NAME_SHOWN], place[sizeof((Error *)0)->message];
    if (r->event.type != YAML_SCALAR_EVENT)
        return refuse_at(r, "a key must be plain text");
    full_name(r, section, name);
    int whole = r->event.data.scalar.length == strlen(name) - (section[0] ? strlen(section) + 1 : 0);
    int index = whole ? key_find(name, strlen(name)) : -1;
    if (!section[0] && index >= 0 && strchr(name, '.')) {
        const char *dot = strchr(name, '.');
        return error_set(r->err, STATUS_CONFIG, "%s:%ld:%ld: write '%s' in its section: '%.*s:', and below it '  %s:'",
                         r->path, line_of(r), column_of(r), name, (int)(dot - name), name, dot + 1);
    }
    if (index >= 0) {
        if (r->found[index].text)
            return duplicate(r, name, r->found[index].line);
        RETURN_IF(advance(r));
        return keep_value(r, index);
    }
    if (whole && !section[0] && !strchr(name, '.') && key_is_section(name))
        return read_section(r, name);
    snprintf(place, sizeof place, "%s:%ld:%ld", r->path, line_of(r), column_of(r));
    return config_unknown_key(place, name, r->err);
}

/* The mapping's start is the current event; ends on its end. Sections hold no sections, so this nests twice at most. */
static Status read_mapping(Reader *r, const char *section) {
    for (;;) {
        RETURN_IF(advance(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return STATUS_OK;
        RETURN_IF(read_entry(r, section));
    }
}

static Status read_stream(Reader *r) {
    RETURN_IF(advance(r)); /* stream start */
    RETURN_IF(advance(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return error_set(r->err, STATUS_CONFIG, "%s:1:1: holds no key at all", r->path);
    if (r->event.data.document_start.version_directive ||
        r->event.data.document_start.tag_directives.start != r->event.data.document_start.tag_directives.end)
        return refuse_at(r, "directives (%...) are not allowed");
    RETURN_IF(advance(r));
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return refuse_at(r, "expected 'key: value' lines");
    RETURN_IF(read_mapping(r, ""));
    RETURN_IF(advance(r)); /* document end */
    RETURN_IF(advance(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return refuse_at(r, "a second document starts here; a file holds one");
    return STATUS_OK;
}

Status config_yaml_read(const char *path, const char *data, size_t size, Assignment *found, Error *err) {
    Reader r = {.path = path, .data = data, .size = size, .found = found, .err = err};
    if (!yaml_parser_initialize(&r.parser))
        return error_set(err, STATUS_SYSTEM, "%s: out of memory while reading it", path);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)data, size);
    Status status = read_stream(&r);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

void assignments_free(Assignment *found) {
    for (int i = 0; i < CONFIG_KEYS_MAX; i++) {
        free(found[i].text);
        found[i].text = NULL;
    }
}
