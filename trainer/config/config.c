/* Configuration: defaults, file, --set, derived defaults, checks between keys; and the way back to text.
 *
 * Order: the profile is looked up first wherever it stands; its defaults are laid; the file's values, then the --set
 * values, go on top; keys that nobody set and whose default depends on others follow; at last the checks. */
#include "trainer/config/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"
#include "trainer/config/config_yaml.h"
#include "trainer/config/keys/keys.h"

/* Everything config_load knows besides the values: who set each key last, for messages and derived defaults. */
typedef struct Load {
    Config *config;
    const char *path; /* NULL: no file */
    Assignment found[CONFIG_KEYS_MAX];
    const char *set_by[CONFIG_KEYS_MAX]; /* the --set text, or NULL */
    Error *err;
} Load;

static void lay_defaults(Config *config, Profile profile) {
    char why[KEY_WHY_MAX];
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        const char *text = profile == PROFILE_RECOMMENDED && key->recommended ? key->recommended : key->official;
        if (key_parse(key, config, text, strlen(text), why) != STATUS_OK)
            abort(); /* the table contradicts itself */
    }
    config->profile = (int)profile;
}

void config_defaults(Config *config, Profile profile) {
    memset(config, 0, sizeof *config);
    lay_defaults(config, profile);
}

/* ---- loading ---- */

static int is_set(const Load *load, const char *name) {
    int index = key_find(name, strlen(name));
    return load->found[index].text || load->set_by[index];
}

/* Where the key was set last: "file:line:col", "--set x=1", or the file (or "configuration") when nobody did. */
static void place_of(const Load *load, int index, char *out, size_t size) {
    if (load->set_by[index])
        snprintf(out, size, "--set %.200s", load->set_by[index]);
    else if (load->found[index].text)
        snprintf(out, size, "%s:%ld:%ld", load->path, load->found[index].line, load->found[index].column);
    else
        snprintf(out, size, "%s", load->path ? load->path : "configuration");
}

static Status __attribute__((format(printf, 3, 4)))
contradict(const Load *load, const char *name, const char *format, ...) {
    char place[600], what[400];
    place_of(load, key_find(name, strlen(name)), place, sizeof place);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return error_set(load->err, STATUS_CONFIG, "%s: %s: %s", place, name, what);
}

static Status assign(const Load *load, int index, const char *text, size_t length) {
    char why[KEY_WHY_MAX], place[600];
    if (key_parse(&config_keys[index], load->config, text, length, why) == STATUS_OK)
        return STATUS_OK;
    place_of(load, index, place, sizeof place);
    return error_set(load->err, STATUS_CONFIG, "%s: %s: %s", place, config_keys[index].name, why);
}

static Status read_file(Load *load) {
    char *data = NULL;
    size_t size = 0;
    Status status = files_read(load->path, CONFIG_BYTES_MAX, &data, &size, load->err);
    if (status == STATUS_DATA) { /* too large, or no regular file: the message says which */
        load->err->code = STATUS_CONFIG;
        return STATUS_CONFIG;
    }
    RETURN_IF(status);
    status = config_yaml_read(load->path, data, size, load->found, load->err);
    free(data);
    return status;
}

/* Splits "a.b=c"; the key's index, or -1 with the error filled. */
static int set_target(const Load *load, const char *set, const char **value) {
    char place[240], name[80];
    snprintf(place, sizeof place, "--set %.200s", set);
    const char *equals = strchr(set, '=');
    if (!equals) {
        error_set(load->err, STATUS_CONFIG, "%s: expected key=value", place);
        return -1;
    }
    int index = key_find(set, (size_t)(equals - set));
    if (index < 0) {
        snprintf(name, sizeof name, "%.*s", (int)(equals - set < 79 ? equals - set : 79), set);
        config_unknown_key(place, name, load->err);
        return -1;
    }
    *value = equals + 1;
    return index;
}

/* The profile that the last --set, else the file, else the default asks for. */
static Status resolve_profile(Load *load, char *const *sets, int set_count, Profile *profile) {
    int index = key_find("profile", strlen("profile"));
    config_defaults(load->config, PROFILE_RECOMMENDED);
    if (load->found[index].text)
        RETURN_IF(assign(load, index, load->found[index].text, load->found[index].length));
    for (int i = 0; i < set_count; i++) {
        const char *value;
        int target = set_target(load, sets[i], &value);
        if (target < 0)
            return STATUS_CONFIG;
        if (target != index)
            continue;
        load->set_by[index] = sets[i];
        RETURN_IF(assign(load, index, value, strlen(value)));
    }
    *profile = (Profile)load->config->profile;
    return STATUS_OK;
}

/* File first, then --set in order: the last one wins, and each must be valid in itself. */
static Status assign_all(Load *load, char *const *sets, int set_count) {
    for (int i = 0; i < config_key_count; i++)
        if (load->found[i].text && strcmp(config_keys[i].name, "profile") != 0)
            RETURN_IF(assign(load, i, load->found[i].text, load->found[i].length));
    for (int i = 0; i < set_count; i++) {
        const char *value = NULL;
        int target = set_target(load, sets[i], &value);
        if (target < 0)
            return STATUS_CONFIG;
        if (strcmp(config_keys[target].name, "profile") == 0)
            continue;
        load->set_by[target] = sets[i];
        RETURN_IF(assign(load, target, value, strlen(value)));
    }
    return STATUS_OK;
}

static void derive_defaults(const Load *load) {
    Config *c = load->config;
    if (!is_set(load, "background.mode"))
        c->background.mode = c->method == METHOD_EXCONB ? BACKGROUND_DENOMINATOR : BACKGROUND_NONE;
    if (!is_set(load, "explain.update_running_stats") && c->explain.bn != EXPLAIN_BN_BATCH)
        c->explain.update_running_stats = 0;
    if (!is_set(load, "eval.selection") && !(c->data.holdout > 0))
        c->eval.selection = SELECTION_VAL;
}

/* A leading ~ in a path is the home folder: no shell has seen a value of a file, or one behind --set key=. */
static Status expand_home(const Load *load, const Key *key) {
    char *field = (char *)load->config + key->offset, *path = malloc(key->size);
    if (!path)
        return error_set(load->err, STATUS_SYSTEM, "out of memory for %s", key->name);
    const int done = files_expand_home(field, path, key->size);
    if (done)
        snprintf(field, key->size, "%s", path);
    free(path);
    return done
               ? STATUS_OK
               : contradict(load, key->name,
                            "'%.80s': only ~/ is known, as the folder in HOME; write the folder's name out, or ./~name",
                            field);
}

/* Value of the key named in a {name} of run.dir; text of STATUS_CONFIG otherwise. */
static Status placeholder(const Load *load, const char *name, size_t length, char value[KEY_VALUE_MAX]) {
    char nearest[KEY_NAME_MAX], shown[48];
    const int index = key_find(name, length);
    if (index >= 0 && config_keys[index].type != KEY_TEXT) {
        key_print(&config_keys[index], load->config, 0, value);
        return STATUS_OK;
    }
    snprintf(shown, sizeof shown, "%.*s", (int)(length < 40 ? length : 40), name);
    if (index < 0 && key_nearest(shown, nearest))
        return contradict(load, "run.dir", "unknown key in '{%s}' (did you mean '{%s}'?)", shown, nearest);
    return contradict(load, "run.dir", "'{%s}' must name a key that is not a path, such as {seed} or {method}", shown);
}

static Status fill_placeholders(const Load *load) {
    char *dir = load->config->run.dir, path[sizeof load->config->run.dir], value[KEY_VALUE_MAX];
    size_t used = 0;
    for (const char *at = dir; *at && used < sizeof path;) {
        const char *open = strchr(at, '{'), *close = open ? strchr(open, '}') : NULL;
        const size_t before = open ? (size_t)(open - at) : strlen(at);
        if (open && !close)
            return contradict(load, "run.dir", "'{' without its '}' in '%.80s'", dir);
        value[0] = '\0';
        if (open)
            RETURN_IF(placeholder(load, open + 1, (size_t)(close - open - 1), value));
        used += (size_t)snprintf(path + used, sizeof path - used, "%.*s%s", (int)before, at, value);
        at = open ? close + 1 : at + before;
    }
    if (used >= sizeof path)
        return contradict(load, "run.dir", "longer than %zu bytes with its keys filled in", sizeof path - 1);
    if (dir[0])
        memcpy(dir, path, used + 1);
    return STATUS_OK;
}

static Status resolve_paths(const Load *load) {
    for (int i = 0; i < config_key_count; i++)
        if (config_keys[i].flags & KEY_PATH)
            RETURN_IF(expand_home(load, &config_keys[i]));
    return fill_placeholders(load);
}

int config_masks(const Config *c) {
    return c->method == METHOD_EXCON || c->method == METHOD_EXCONB;
}

int config_reaches_rate(const Config *c) {
    const int64_t after = c->train.epochs - c->optim.warmup_epochs;
    return c->train.epochs == 0 || after >= (c->optim.schedule == LR_COSINE ? 1 : 0);
}

static Status check_warmup(const Load *load) {
    const Config *c = load->config;
    if (c->optim.warmup != WARMUP_ON || config_reaches_rate(c))
        return STATUS_OK;
    return contradict(load, "optim.warmup_epochs",
                      "%lld epochs of warm-up take all of train.epochs %lld, so the learning rate stays far below "
                      "optim.lr; set fewer, or optim.warmup: off",
                      (long long)c->optim.warmup_epochs, (long long)c->train.epochs);
}

static Status check_combinations(const Load *load) {
    const Config *c = load->config;
    if (c->background.mode != BACKGROUND_NONE && !config_masks(c))
        return contradict(load, "background.mode",
                          "method %s masks no images, so it has no background rows; use method exconb, or none here",
                          config_name("method", c->method));
    if (c->background.mode != BACKGROUND_NONE && c->method == METHOD_EXCON)
        return contradict(load, "background.mode",
                          "method excon appends no background rows; use method exconb, or none here");
    if (c->explain.update_running_stats && c->explain.bn != EXPLAIN_BN_BATCH)
        return contradict(load, "explain.update_running_stats",
                          "true needs explain.bn: batch, for passes on running statistics measure none");
    if (c->eval.selection == SELECTION_HOLDOUT && !(c->data.holdout > 0))
        return contradict(load, "eval.selection", "holdout needs data.holdout > 0");
    if (c->data.classes == 1)
        return contradict(load, "data.classes", "one class cannot be told from anything; use 0 (all) or at least 2");
    if (c->augment.scale_min > c->augment.scale_max)
        return contradict(load, "augment.scale_min", "%g is above augment.scale_max %g", c->augment.scale_min,
                          c->augment.scale_max);
    return check_warmup(load);
}

static Status load_all(Config *config, const char *path, char *const *sets, int set_count, int combinations,
                       Error *err) {
    _Static_assert(CONFIG_KEYS_MAX >= 128, "Load holds an entry per key");
    Load load = {.config = config, .path = path, .err = err};
    Profile profile = PROFILE_RECOMMENDED;
    Status status = STATUS_OK;
    if (path)
        GOTO_IF(read_file(&load), done);
    GOTO_IF(resolve_profile(&load, sets, set_count, &profile), done);
    config_defaults(config, profile);
    GOTO_IF(assign_all(&load, sets, set_count), done);
    derive_defaults(&load);
    GOTO_IF(resolve_paths(&load), done);
    if (combinations)
        status = check_combinations(&load);
done:
    assignments_free(load.found);
    return status;
}

Status config_load(Config *config, const char *path, char *const *sets, int set_count, Error *err) {
    return load_all(config, path, sets, set_count, 1, err);
}

Status config_load_loose(Config *config, const char *path, char *const *sets, int set_count, Error *err) {
    return load_all(config, path, sets, set_count, 0, err);
}

/* ---- back to text ---- */

static size_t section_length(const char *name) {
    const char *dot = strchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

static void write_yaml(const Config *config, FILE *out) {
    char value[KEY_VALUE_MAX];
    const char *before = "";
    for (int i = 0; i < config_key_count; i++) {
        const char *name = config_keys[i].name;
        size_t length = section_length(name);
        if (length && (section_length(before) != length || memcmp(before, name, length) != 0))
            fprintf(out, "%.*s:\n", (int)length, name);
        key_print(&config_keys[i], config, 1, value);
        fprintf(out, "%s%s: %s\n", length ? "  " : "", length ? name + length + 1 : name, value);
        before = name;
    }
}

char *config_to_yaml(const Config *config) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    write_yaml(config, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

void config_hash(const Config *config, char hex[65]) {
    char value[KEY_VALUE_MAX];
    Sha256 *hash = sha256_new();
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        if (!(key->flags & KEY_HASHED))
            continue;
        key_print(key, config, 0, value);
        sha256_add(hash, key->name, strlen(key->name));
        sha256_add(hash, "=", 1);
        sha256_add(hash, value, strlen(value));
        sha256_add(hash, "\n", 1);
    }
    sha256_end(hash, hex);
}

const char *config_name(const char *key, int value) {
    int index = key_find(key, strlen(key));
    if (index < 0 || config_keys[index].type != KEY_ENUM)
        return "?";
    for (int i = 0; config_keys[index].names[i]; i++)
        if (i == value)
            return config_keys[index].names[i];
    return "?";
}

void config_describe(FILE *out) {
    fputs("Configuration keys. In a file, 'section.key' is written as a section with the key below it; on the command\n"
          "line as --set section.key=value. Where two defaults stand, the first is of profile recommended (which is\n"
          "the default profile), the second of profile official.\n",
          out);
    const char *before = "";
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        char allowed[200], defaults[100];
        size_t length = section_length(key->name);
        if (section_length(before) != length || memcmp(before, key->name, length) != 0)
            fputc('\n', out);
        key_allowed(key, allowed, sizeof allowed);
        const char *official = key->official[0] ? key->official : "\"\"";
        if (key->recommended && strcmp(key->name, "profile") != 0)
            snprintf(defaults, sizeof defaults, "%s | %s", key->recommended, official);
        else
            snprintf(defaults, sizeof defaults, "%s", key->recommended ? key->recommended : official);
        fprintf(out, "%-28s %s  [%s]\n%-28s %s\n", key->name, allowed, defaults, "", key->help);
        before = key->name;
    }
}
