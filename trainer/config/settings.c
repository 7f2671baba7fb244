/* A run's settings as text, kept in its checkpoints, and what differs from them when it goes on. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "trainer/config/config.h"
#include "trainer/config/keys/keys.h"

void config_settings(const Config *config, char out[CONFIG_SETTINGS]) {
    char value[KEY_VALUE_MAX];
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < config_key_count && used < CONFIG_SETTINGS; i++) {
        if (!(config_keys[i].flags & (KEY_HASHED | KEY_IDENTITY)))
            continue;
        key_print(&config_keys[i], config, 0, value);
        used += (size_t)snprintf(out + used, CONFIG_SETTINGS - used, "%s=%s\n", config_keys[i].name, value);
    }
}

static ConfigChange change_of(const Key *key) {
    return key->flags & KEY_IDENTITY ? CHANGE_IDENTITY : key->flags & KEY_ORDER ? CHANGE_ORDER : CHANGE_FREE;
}

/* What differs in a line "name=value" of the settings. Lines that are none and unknown keys differ in nothing. */
static void compare_line(const Config *config, const char *line, size_t length, TellDifference *tell, void *ctx) {
    char was[KEY_VALUE_MAX], is[KEY_VALUE_MAX];
    const char *equals = memchr(line, '=', length);
    const int index = equals ? key_find(line, (size_t)(equals - line)) : -1;
    if (index < 0)
        return;
    snprintf(was, sizeof was, "%.*s", (int)(line + length - equals - 1), equals + 1);
    key_print(&config_keys[index], config, 0, is);
    if (strcmp(was, is) != 0)
        tell(ctx, change_of(&config_keys[index]), config_keys[index].name, was, is);
}

static bool has_key(const char *settings, const char *name) {
    const size_t length = strlen(name);
    for (const char *line = settings; *line; line += strspn(line, "\n")) {
        if (strncmp(line, name, length) == 0 && line[length] == '=')
            return true;
        line += strcspn(line, "\n");
    }
    return false;
}

void config_compare(const Config *config, const char *settings, TellDifference *tell, void *ctx) {
    char was[KEY_VALUE_MAX], is[KEY_VALUE_MAX];
    Config usual;
    for (const char *line = settings; *line; line += strspn(line, "\n")) {
        const size_t length = strcspn(line, "\n");
        compare_line(config, line, length, tell, ctx);
        line += length;
    }
    config_defaults(&usual, (Profile)config->profile);
    for (int i = 0; i < config_key_count && settings[0]; i++) {
        if (!(config_keys[i].flags & KEY_IDENTITY) || has_key(settings, config_keys[i].name))
            continue;
        key_print(&config_keys[i], &usual, 0, was);
        key_print(&config_keys[i], config, 0, is);
        if (strcmp(was, is) != 0)
            tell(ctx, CHANGE_IDENTITY, config_keys[i].name, was, is);
    }
}
