/* Configuration: defaults, what is accepted, and the way back to text; what is refused is in test_config_refused.c. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/files/config_text.h"
#include "trainer/config/config.h"
#include "trainer/config/keys/keys.h"

static const char sample[] = CONFIG_SAMPLE;

/* ---- defaults ---- */

static void test_profiles(void **state) {
    (void)state;
    Config a, b;
    config_defaults(&a, PROFILE_OFFICIAL);
    config_defaults(&b, PROFILE_RECOMMENDED);
    assert_int_equal(a.explain.bn, EXPLAIN_BN_BATCH);
    assert_int_equal(a.explain.update_running_stats, 1);
    assert_int_equal(a.classifier.schedule, CLASSIFIER_ALTERNATE);
    assert_true(a.data.holdout == 0.0);
    assert_int_equal(a.eval.selection, SELECTION_VAL);
    assert_int_equal(b.explain.bn, EXPLAIN_BN_RUNNING);
    assert_int_equal(b.explain.update_running_stats, 0);
    assert_int_equal(b.classifier.schedule, CLASSIFIER_JOINT);
    assert_true(b.data.holdout == 0.05);
    assert_int_equal(b.eval.selection, SELECTION_HOLDOUT);
    assert_int_equal(b.method, METHOD_EXCON);
    assert_string_equal(b.model.encoder, "resnet50");
    assert_true(b.loss.base_temperature == 0.07);
    Config loaded;
    Error err;
    assert_int_equal(config_load(&loaded, NULL, NULL, 0, &err), STATUS_OK);
    assert_memory_equal(&loaded, &b, sizeof b);
}

static void test_profile_stands_anywhere(void **state) {
    (void)state;
    Config before, after;
    config_accepts(&before, "profile: official\nexplain:\n  update_running_stats: false\n");
    config_accepts(&after, "explain:\n  update_running_stats: false\nprofile: official\n");
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(after.profile, PROFILE_OFFICIAL);
    assert_int_equal(after.explain.bn, EXPLAIN_BN_BATCH);
    assert_int_equal(after.explain.update_running_stats, 0);
}

static void test_derived_defaults(void **state) {
    (void)state;
    Config c;
    config_accepts(&c, "method: exconb\n");
    assert_int_equal(c.background.mode, BACKGROUND_DENOMINATOR);
    config_accepts(&c, "method: exconb\nbackground:\n  mode: class\n");
    assert_int_equal(c.background.mode, BACKGROUND_CLASS);
    config_accepts(&c, "method: supcon\n");
    assert_int_equal(c.background.mode, BACKGROUND_NONE);
    config_accepts(&c, "profile: official\nexplain:\n  bn: running\n");
    assert_int_equal(c.explain.update_running_stats, 0);
    config_accepts(&c, "data:\n  holdout: 0\n");
    assert_int_equal(c.eval.selection, SELECTION_VAL);
}

/* ---- what has no effect is said ---- */

typedef struct Said {
    int count;
    char text[2000];
} Said;

static void take_note(void *ctx, const char *text) {
    Said *said = ctx;
    said->count++;
    strncat(said->text, text, sizeof said->text - strlen(said->text) - 1);
    strcat(said->text, "\n");
}

/* `text` loads; of what has no effect exactly `keys`, separated by blanks, are named, in this order. */
static void idle(const char *text, const char *keys) {
    Config c;
    Said said = {0, ""};
    char left[400], *rest = left;
    int count = 0;
    const char *at = said.text;
    config_accepts(&c, text);
    config_idle(&c, take_note, &said);
    snprintf(left, sizeof left, "%s", keys);
    for (char *key; (key = strsep(&rest, " ")) && *key; count++) {
        at = strstr(at, key);
        if (!at)
            fail_msg("%s: %s is not named in: %s", text, key, said.text);
        at += strlen(key);
        assert_true(strncmp(at, ": ", 2) == 0);
    }
    if (said.count != count)
        fail_msg("%s: %d notes, not %d: %s", text, said.count, count, said.text);
}

static void test_without_effect(void **state) {
    (void)state;
    static const char *const methods[] = {"ce", "simclr", "supcon", "excon", "exconb"};
    char text[200];
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) { /* defaults have nothing to say */
        snprintf(text, sizeof text, "method: %s\n", methods[m]);
        idle(text, "");
        snprintf(text, sizeof text, "profile: official\nmethod: %s\n", methods[m]);
        idle(text, "");
    }
    idle("profile: official\ndata: {holdout: 0.2}\n", "data.holdout");
    idle("profile: official\ndata: {holdout: 0.2}\neval: {selection: holdout}\n", "");
    idle("data: {holdout: 0.2}\neval: {selection: val}\n", "data.holdout");
    idle("explain: {steps: 4}\n", "explain.steps");
    idle("explain: {steps: 4, method: integrated}\n", "");
    idle("method: supcon\nstart_epoch: 3\nselect: {rule: always}\nexplain: {threshold: 0.2, layer: layer3, steps: 2}\n",
         "explain.threshold explain.steps select.rule start_epoch");
    idle("train: {epochs: 5}\nstart_epoch: 6\n", "start_epoch");
    idle("train: {epochs: 5}\nstart_epoch: 5\n", "");
    idle("background: {source: complement, max: 3}\n", "background.source background.max");
    idle("method: exconb\nbackground: {source: complement, max: 3}\n", "");
    idle("method: exconb\nbackground: {mode: none, max: 3}\n", "background.max");
    idle("method: exconb\nbackground: {mode: class, max: 3}\nselect: {rule: always}\n",
         "background.mode background.max");
    idle("method: ce\nmodel: {projection: 64}\nloss: {temperature: 0.2, base_temperature: 0.2}\n"
         "classifier: {schedule: alternate, augment: crop-flip}\n",
         "model.projection loss.temperature loss.base_temperature classifier.schedule classifier.augment");
    idle("classifier: {augment: crop-flip}\n", "classifier.augment");
    idle("profile: official\nclassifier: {augment: crop-flip}\n", "");
    idle("augment: {jitter_probability: 0, hue: 0.2}\n", "augment.hue");
    idle("optim: {warmup_epochs: 3, warmup_from: 0.1}\n", "optim.warmup_epochs optim.warmup_from");
    idle("optim: {warmup_epochs: 3, warmup_from: 0.1}\ntrain: {batch: 512}\n", "");
    idle("optim: {schedule: constant, lr_min_factor: 0.1}\n", "optim.lr_min_factor");
    idle("eval: {every_epochs: 0, selection: val}\n", "eval.selection");
    idle("backend: cpu\ncuda: {conv: gemm}\ncomm: {transport: nccl}\n", "comm.transport cuda.conv");
    idle("cuda: {conv: gemm}\n", "");
}

/* ---- what is accepted ---- */

static void test_values(void **state) {
    (void)state;
    Config c;
    config_accepts(
        &c, "# a comment\n---\nseed: 9007199254740992\nmodel: {encoder: resnet18, width: 16}\n"
            "run:\n  dir: \"runs/a b\"\naugment: # all at their defaults\noptim:\n  lr: 1e-1\n  schedule: 'constant'\n"
            "explain:\n  relu: true\n  layer: layer3\ntrain:\n  epochs: 0\n");
    assert_true(c.seed == INT64_C(9007199254740992));
    assert_string_equal(c.model.encoder, "resnet18");
    assert_int_equal(c.model.width, 16);
    assert_string_equal(c.run.dir, "runs/a b");
    assert_true(c.optim.lr == 0.1);
    assert_int_equal(c.optim.schedule, LR_CONSTANT);
    assert_int_equal(c.explain.relu, 1);
    assert_int_equal(c.explain.layer, 3);
    assert_int_equal(c.train.epochs, 0);
}

static void test_sets(void **state) {
    (void)state;
    Config c;
    Error err = {.code = STATUS_OK};
    static char lr1[] = "optim.lr=0.3", lr2[] = "optim.lr=0.4", dir[] = "run.dir=a=b", profile[] = "profile=official";
    char *const sets[] = {lr1, profile, lr2, dir};
    const char *text = "optim:\n  lr: 0.2\nprofile: recommended\n";
    config_write(text, strlen(text));
    assert_int_equal(config_load(&c, config_file(), sets, 4, &err), STATUS_OK);
    assert_true(c.optim.lr == 0.4);
    assert_string_equal(c.run.dir, "a=b");
    assert_int_equal(c.explain.bn, EXPLAIN_BN_BATCH);
}

/* ---- and back ---- */

/* ~ and {key} are filled in, once and for all: what is written out has neither. */
static void test_paths(void **state) {
    (void)state;
    Config c;
    char long_dir[1100], *long_set[] = {long_dir};
    Error err;
    setenv("HOME", "/home/me", 1);
    config_accepts(&c, "method: ce\nrun:\n  dir: ~/runs/{method}/{seed}-{optim.lr}-{cuda.graphs}{model.encoder}\n"
                       "data:\n  dir: '~'\noptim:\n  lr: 0.125\n");
    assert_string_equal(c.run.dir, "/home/me/runs/ce/1-0.125-trueresnet50");
    assert_string_equal(c.data.dir, "/home/me");
    config_accepts(&c, "run:\n  dir: a~/{seed}{seed}\n");
    assert_string_equal(c.run.dir, "a~/11");
    const struct {
        const char *text, *message;
    } refused[] = {
        {"run:\n  dir: r/{sead}\n", "unknown key in '{sead}' (did you mean '{seed}'?)"},
        {"run:\n  dir: r/{data.dir}\n", "'{data.dir}' must name a key that is not a path"},
        {"run:\n  dir: r/{}\n", "'{}' must name a key"},
        {"run:\n  dir: r/{seed\n", "'{' without its '}'"},
        {"data:\n  dir: ~you/x\n", "'~you/x': only ~/ is known"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        config_refuses(refused[i].text, "2:8", refused[i].message);
    memset(long_dir, 'a', sizeof long_dir);
    snprintf(long_dir, sizeof long_dir, "run.dir=~/%01000d", 0);
    assert_int_equal(config_load(&c, NULL, long_set, 1, &err), STATUS_OK);
    snprintf(long_dir, sizeof long_dir, "run.dir=~/%01015d", 0);
    assert_int_equal(config_load(&c, NULL, long_set, 1, &err), STATUS_CONFIG);
    unsetenv("HOME");
    config_refuses("data:\n  dir: ~/x\n", "2:8", "only ~/ is known, as the folder in HOME");
}

/* ---- settings of a run and what differs from them ---- */

typedef struct Told {
    int count[3];
    char text[2000];
} Told;

static void tell(void *ctx, ConfigChange change, const char *key, const char *was, const char *is) {
    Told *told = ctx;
    const size_t used = strlen(told->text);
    told->count[change]++;
    snprintf(told->text + used, sizeof told->text - used, "%s:%s:%s;", key, was, is);
}

static void test_settings(void **state) {
    (void)state;
    Config one, two;
    char settings[CONFIG_SETTINGS];
    Told told = {0};
    config_accepts(&one, "run:\n  dir: a\n");
    config_settings(&one, settings);
    assert_true(strlen(settings) > 1000 && strlen(settings) < CONFIG_SETTINGS - 1000);
    config_compare(&one, settings, tell, &told);
    assert_string_equal(told.text, "");
    config_accepts(&two, "seed: 2\nmethod: ce\nrun:\n  dir: b\ndata:\n  loader: stream\n  shuffle_window: 8\n"
                         "train:\n  batch: 7\noptim:\n  lr: 0.1\nmodel:\n  encoder: resnet18\n");
    config_compare(&two, settings, tell, &told);
    assert_string_equal(told.text, "method:excon:ce;seed:1:2;data.shuffle_window:64:8;model.encoder:resnet50:resnet18;"
                                   "train.batch:128:7;optim.lr:0.5:0.1;");
    assert_int_equal(told.count[CHANGE_IDENTITY], 3);
    assert_int_equal(told.count[CHANGE_ORDER], 2);
    assert_int_equal(told.count[CHANGE_FREE], 1);
    told = (Told){0};
    config_compare(&one, "a.key.of.old=1\nseed=3\nno line\n\noptim.lr=0.5", tell, &told);
    assert_string_equal(told.text, "seed:3:1;");
    told = (Told){0}; /* settings from before there were optimisers to choose from */
    config_accepts(&two, "optim:\n  name: lars\n");
    config_compare(&two, "\nseed=1\nnot.optim.name=lars\noptim.lr=0.5\n", tell, &told);
    assert_string_equal(told.text, "optim.name:sgd:lars;");
    assert_int_equal(told.count[CHANGE_IDENTITY], 1);
    told = (Told){0};
    config_compare(&two, "", tell, &told);
    assert_string_equal(told.text, "");
}

static void test_round_trip(void **state) {
    (void)state;
    const char *const texts[] = {
        "seed: 1\n", "profile: official\n", sample,
        "run:\n  dir: \"q\\\" b\\\\ c: # \xc3\xa9 \"\noptim:\n  lr: 0.12345678901234567\ntrain:\n  epochs: 0\n",
        "method: simclr\nwatchdog:\n  step_seconds: 0.3333333333333333\ndata:\n  dir: ' lead {x} and trail '\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Config a, b;
        char hash_a[65], hash_b[65];
        config_accepts(&a, texts[i]);
        char *yaml = config_to_yaml(&a);
        assert_non_null(yaml);
        config_accepts(&b, yaml);
        free(yaml);
        assert_memory_equal(&a, &b, sizeof a);
        config_hash(&a, hash_a);
        config_hash(&b, hash_b);
        assert_string_equal(hash_a, hash_b);
        assert_int_equal(strlen(hash_a), 64);
    }
}

static void test_hash(void **state) {
    (void)state;
    Config a, b;
    char hash_a[65], hash_b[65];
    config_accepts(&a, "seed: 1\n");
    config_hash(&a, hash_a);
    const char *const same[] = {"run:\n  dir: elsewhere\n", "train:\n  log_every: 3\n",
                                "checkpoint:\n  keep: 9\n", "watchdog:\n  step_seconds: 1\n",
                                "backend: cpu\n",           "train:\n  max_steps: 5\n"};
    const char *const other[] = {"seed: 2\n",
                                 "optim:\n  lr: 0.4\n",
                                 "method: exconb\n",
                                 "profile: official\n",
                                 "explain:\n  layer: layer1\n",
                                 "model:\n  encoder: resnet18\n",
                                 "train:\n  epochs: 9\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        config_accepts(&b, same[i]);
        config_hash(&b, hash_b);
        assert_string_equal(hash_a, hash_b);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        config_accepts(&b, other[i]);
        config_hash(&b, hash_b);
        assert_string_not_equal(hash_a, hash_b);
    }
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(config_name("method", METHOD_EXCONB), "exconb");
    assert_string_equal(config_name("background.source", BACKGROUND_COMPLEMENT), "complement");
    assert_string_equal(config_name("optim.warmup", WARMUP_OFF), "off");
    assert_string_equal(config_name("data.loader", LOADER_KIND_MEMORY), "memory");
    assert_string_equal(config_name("classifier.augment", CLASSIFIER_AUGMENT_CROP_FLIP), "crop-flip");
    assert_string_equal(config_name("select.rule", SELECT_NEVER), "never");
    assert_string_equal(config_name("method", 5), "?");
    assert_string_equal(config_name("method", -1), "?");
    assert_string_equal(config_name("seed", 0), "?");
}

static void test_describe_lists_every_key(void **state) {
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    config_describe(out);
    assert_int_equal(fclose(out), 0);
    for (int i = 0; i < config_key_count; i++) {
        char line[KEY_NAME_MAX + 2];
        assert_true(strlen(config_keys[i].name) < KEY_NAME_MAX);
        snprintf(line, sizeof line, "\n%s ", config_keys[i].name);
        if (!strstr(text, line))
            fail_msg("%s is not described", config_keys[i].name);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(config_keys[i].name, config_keys[j].name);
    }
    free(text);
}

/* Loads a shipped file, which must be complete and say nothing that has no effect. */
static void load_shipped(const char *path, Config *c) {
    Error err = {.code = STATUS_OK};
    if (config_load(c, path, NULL, 0, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    assert_true(c->run.dir[0] && c->data.dir[0]);
    Said said = {0, ""};
    config_idle(c, take_note, &said);
    assert_string_equal(said.text, "");
}

static void read_text(const char *path, char *text, size_t room) {
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    const size_t size = fread(text, 1, room - 1, in);
    fclose(in);
    assert_true(size < room - 1);
    text[size] = '\0';
}

/* Names every key once: set, or commented out ("#key:") with the default that holds. */
static void test_reference(void **state) {
    (void)state;
    static char text[1 << 16];
    Config c, uncommented;
    load_shipped("configs/reference.yaml", &c);
    read_text("configs/reference.yaml", text, sizeof text);
    size_t used = 0;
    for (size_t k = 0; text[k]; k++)
        if (text[k] != '#' || text[k + 1] < 'a' || text[k + 1] > 'z')
            text[used++] = text[k];
    text[used] = '\0';
    config_accepts(&uncommented, text);
    char *as_shipped = config_to_yaml(&c), *with_defaults = config_to_yaml(&uncommented);
    assert_string_equal(as_shipped, with_defaults);
    free(as_shipped);
    free(with_defaults);
    for (int k = 0; k < config_key_count; k++) {
        char line[KEY_NAME_MAX + 4];
        const char *dot = strchr(config_keys[k].name, '.');
        snprintf(line, sizeof line, "\n%s%s: ", dot ? "  " : "", dot ? dot + 1 : config_keys[k].name);
        if (!strstr(text, line))
            fail_msg("configs/reference.yaml does not name %s", config_keys[k].name);
    }
}

/* Recipes hold what they change: without any one of its lines a recipe is another configuration, or none. */
static void test_recipes(void **state) {
    (void)state;
    glob_t shipped;
    assert_int_equal(glob("configs/*.yaml", 0, NULL, &shipped), 0);
    int recipes = 0;
    for (size_t i = 0; i < shipped.gl_pathc; i++) {
        static char text[1 << 16], without[1 << 16];
        Config c, other;
        load_shipped(shipped.gl_pathv[i], &c);
        if (strcmp(shipped.gl_pathv[i], "configs/reference.yaml") == 0)
            continue;
        recipes++;
        read_text(shipped.gl_pathv[i], text, sizeof text);
        char *whole = config_to_yaml(&c);
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
            const size_t length = (size_t)(end - line);
            const char *colon = memchr(line, ':', length);
            if (line[0] == '#' || !colon || colon[1] == '\n' || strncmp(line, "method:", 7) == 0)
                continue; /* comments, sections, and what a reader looks for first */
            snprintf(without, sizeof without, "%.*s%s", (int)(line - text), text, end + 1);
            Error err = {.code = STATUS_OK};
            if (config_of_text(&other, without, &err) != STATUS_OK)
                continue;
            char *rest = config_to_yaml(&other);
            if (strcmp(whole, rest) == 0)
                fail_msg("%s: '%.*s' changes nothing", shipped.gl_pathv[i], (int)length, line);
            free(rest);
        }
        free(whole);
    }
    assert_true(recipes >= 8);
    globfree(&shipped);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_profile_stands_anywhere),
        cmocka_unit_test(test_derived_defaults),
        cmocka_unit_test(test_without_effect),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_describe_lists_every_key),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_recipes),
    };
    return cmocka_run_group_tests(tests, config_text_setup, config_text_teardown);
}
