#include "trainer/config/keys/keys.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/config/nearest.h"

int key_find(const char *name, size_t length) {
    for (int i = 0; i < config_key_count; i++)
        if (strlen(config_keys[i].name) == length && memcmp(config_keys[i].name, name, length) == 0)
            return i;
    return -1;
}

int key_is_section(const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < config_key_count; i++)
        if (strncmp(config_keys[i].name, name, length) == 0 && config_keys[i].name[length] == '.')
            return 1;
    return 0;
}

/* Offers the sections, or the keys' names within their sections; the index of the key that holds the best one, or -1.
 */
static int nearest_part(const char *name, int sections) {
    Nearest nearest = {name, NULL, 0};
    char part[KEY_NAME_MAX];
    int best = -1, distance = 0;
    for (int i = 0; i < config_key_count; i++) {
        const char *dot = strchr(config_keys[i].name, '.');
        if (!dot)
            continue;
        snprintf(part, sizeof part, "%.*s", sections ? (int)(dot - config_keys[i].name) : KEY_NAME_MAX - 1,
                 sections ? config_keys[i].name : dot + 1);
        nearest = (Nearest){name, NULL, 0};
        nearest_offer(&nearest, part);
        if (nearest.best && (best < 0 || nearest.distance < distance)) {
            best = i;
            distance = nearest.distance;
        }
    }
    return best;
}

int key_nearest(const char *name, char out[KEY_NAME_MAX]) {
    const char *dot = strchr(name, '.'), *synonym = key_synonym(name);
    if (synonym) {
        snprintf(out, KEY_NAME_MAX, "%s", synonym);
        return 1;
    }
    Nearest nearest = {name, NULL, 0};
    for (int i = 0; i < config_key_count; i++)
        nearest_offer(&nearest, config_keys[i].name);
    if (nearest.best) {
        snprintf(out, KEY_NAME_MAX, "%s", nearest.best);
        return 1;
    }
    int section = dot ? -1 : nearest_part(name, 1);
    if (section >= 0) {
        const char *full = config_keys[section].name;
        snprintf(out, KEY_NAME_MAX, "%.*s", (int)strcspn(full, "."), full);
        return 1;
    }
    int leaf = nearest_part(dot ? dot + 1 : name, 0);
    if (leaf < 0)
        return 0;
    snprintf(out, KEY_NAME_MAX, "%s", config_keys[leaf].name);
    return 1;
}

static void put_integer(double value, char *out, size_t size) {
    snprintf(out, size, "%.0f", value);
}

void key_allowed(const Key *key, char *out, size_t size) {
    char low[32], high[32];
    switch (key->type) {
    case KEY_ENUM:
    case KEY_CHOICE: {
        size_t used = 0;
        out[0] = '\0';
        for (const char *const *name = key->names; *name && used < size; name++)
            used += (size_t)snprintf(out + used, size - used, "%s%s", name == key->names ? "" : ", ", *name);
        return;
    }
    case KEY_BOOL:
        snprintf(out, size, "true, false");
        return;
    case KEY_INTEGER:
        put_integer(key->min, low, sizeof low);
        put_integer(key->max, high, sizeof high);
        snprintf(out, size, "integer %s..%s", low, high);
        return;
    case KEY_REAL:
        if (key->flags & KEY_ABOVE)
            snprintf(out, size, "number > %g, <= %g", key->min, key->max);
        else
            snprintf(out, size, "number %g..%g", key->min, key->max);
        return;
    case KEY_TEXT:
        snprintf(out, size, "text of at most %zu bytes", key->size - 1);
        return;
    }
}

/* ---- parsing ---- */

static Status refuse(const Key *key, const char *text, size_t length, char *why) {
    char allowed[200];
    key_allowed(key, allowed, sizeof allowed);
    char shown[48];
    size_t n = 0;
    for (; n < length && n < sizeof shown - 1; n++)
        shown[n] = (unsigned char)text[n] < ' ' || text[n] == 127 ? '?' : text[n];
    shown[n] = '\0';
    int used =
        snprintf(why, KEY_WHY_MAX, "'%s%s' is not allowed; allowed: %s", shown, n < length ? "..." : "", allowed);
    if (key->type == KEY_ENUM || key->type == KEY_CHOICE) {
        Nearest nearest = {shown, NULL, 0};
        for (const char *const *name = key->names; *name; name++)
            nearest_offer(&nearest, *name);
        if (nearest.best && used > 0 && used < KEY_WHY_MAX)
            snprintf(why + used, (size_t)(KEY_WHY_MAX - used), " (did you mean '%s'?)", nearest.best);
    }
    return STATUS_CONFIG;
}

static int name_index(const Key *key, const char *text, size_t length) {
    for (int i = 0; key->names[i]; i++)
        if (strlen(key->names[i]) == length && memcmp(key->names[i], text, length) == 0)
            return i;
    return -1;
}

/* Characters that YAML carries on one line: no controls, line separators, surrogates or non-characters. */
static int is_plain_character(unsigned long c) {
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
        return 0;
    return !(c >= 0xd800 && c <= 0xdfff) && c != 0xfffe && c != 0xffff && c <= 0x10ffff;
}

static int is_printable_utf8(const char *text, size_t length) {
    static const unsigned long smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < length;) {
        unsigned char lead = (unsigned char)text[i];
        size_t bytes = lead < 0x80                   ? 1
                       : lead >= 0xc2 && lead < 0xe0 ? 2
                       : (lead & 0xf0) == 0xe0       ? 3
                       : (lead & 0xf8) == 0xf0       ? 4
                                                     : 0;
        if (!bytes || i + bytes > length)
            return 0;
        unsigned long c = bytes == 1 ? lead : lead & (0xffu >> (bytes + 1));
        for (size_t k = 1; k < bytes; k++) {
            if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | ((unsigned char)text[i + k] & 0x3f);
        }
        if (c < smallest[bytes] || !is_plain_character(c))
            return 0;
        i += bytes;
    }
    return 1;
}

/* Digits, sign, point and exponent only: neither hexadecimal nor "inf" nor spaces, which strtod would take. */
static int is_number(const char *text, size_t length, const char *characters) {
    char copy[64];
    if (length == 0 || length >= sizeof copy)
        return 0;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return strlen(copy) == length && strspn(copy, characters) == length && strpbrk(copy, "0123456789") != NULL;
}

static int parse_integer(const Key *key, const char *text, size_t length, int64_t *out) {
    char copy[64], *end;
    if (!is_number(text, length, "+-0123456789"))
        return 0;
    memcpy(copy, text, length);
    copy[length] = '\0';
    errno = 0;
    long long value = strtoll(copy, &end, 10);
    if (*end || errno || (double)value < key->min || (double)value > key->max)
        return 0;
    *out = value;
    return 1;
}

static int parse_real(const Key *key, const char *text, size_t length, double *out) {
    char copy[64], *end;
    if (!is_number(text, length, "+-.eE0123456789"))
        return 0;
    memcpy(copy, text, length);
    copy[length] = '\0';
    double value = strtod(copy, &end);
    if (*end || !(value >= key->min && value <= key->max) || (key->flags & KEY_ABOVE && !(value > key->min)))
        return 0;
    *out = value + 0.0; /* -0 becomes 0, so that equal configurations are equal bits */
    return 1;
}

Status key_parse(const Key *key, Config *config, const char *text, size_t length, char *why) {
    char *field = (char *)config + key->offset;
    int index;
    switch (key->type) {
    case KEY_ENUM:
        index = name_index(key, text, length);
        if (index < 0)
            return refuse(key, text, length, why);
        *(int *)(void *)field = index;
        return STATUS_OK;
    case KEY_BOOL:
        if (length == 4 && memcmp(text, "true", 4) == 0)
            *(int *)(void *)field = 1;
        else if (length == 5 && memcmp(text, "false", 5) == 0)
            *(int *)(void *)field = 0;
        else
            return refuse(key, text, length, why);
        return STATUS_OK;
    case KEY_INTEGER:
        return parse_integer(key, text, length, (int64_t *)(void *)field) ? STATUS_OK : refuse(key, text, length, why);
    case KEY_REAL:
        return parse_real(key, text, length, (double *)(void *)field) ? STATUS_OK : refuse(key, text, length, why);
    case KEY_CHOICE:
        if (name_index(key, text, length) < 0)
            return refuse(key, text, length, why);
        break;
    case KEY_TEXT:
        if (!is_printable_utf8(text, length)) {
            snprintf(why, KEY_WHY_MAX, "not printable UTF-8 text on one line");
            return STATUS_CONFIG;
        }
        if (length >= key->size)
            return refuse(key, text, length, why);
        break;
    }
    memset(field, 0, key->size);
    memcpy(field, text, length);
    return STATUS_OK;
}

/* ---- printing ---- */

/* Fewest digits that read back to the same bits. */
static void print_real(double value, char out[KEY_VALUE_MAX]) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, KEY_VALUE_MAX, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static void print_text(const char *text, int quoted, char out[KEY_VALUE_MAX]) {
    size_t used = 0;
    if (quoted)
        out[used++] = '"';
    for (; *text && used < KEY_VALUE_MAX - 3; text++) {
        if (quoted && (*text == '"' || *text == '\\'))
            out[used++] = '\\';
        out[used++] = *text;
    }
    if (quoted)
        out[used++] = '"';
    out[used] = '\0';
}

void key_print(const Key *key, const Config *config, int quoted, char out[KEY_VALUE_MAX]) {
    const char *field = (const char *)config + key->offset;
    switch (key->type) {
    case KEY_ENUM:
        snprintf(out, KEY_VALUE_MAX, "%s", key->names[*(const int *)(const void *)field]);
        return;
    case KEY_BOOL:
        snprintf(out, KEY_VALUE_MAX, "%s", *(const int *)(const void *)field ? "true" : "false");
        return;
    case KEY_INTEGER:
        snprintf(out, KEY_VALUE_MAX, "%lld", (long long)*(const int64_t *)(const void *)field);
        return;
    case KEY_REAL:
        print_real(*(const double *)(const void *)field, out);
        return;
    case KEY_CHOICE:
        snprintf(out, KEY_VALUE_MAX, "%s", field);
        return;
    case KEY_TEXT:
        print_text(field, quoted, out);
        return;
    }
}
