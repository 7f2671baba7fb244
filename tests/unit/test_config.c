/* Configuration: every way to write it wrong is refused at its place, and what is right comes back unchanged. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "trainer/config/config.h"
#include "trainer/config/keys.h"

static char file[64];

static void write_file(const char *text, size_t size) {
    FILE *out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static Status load_text(Config *config, const char *text, Error *err) {
    write_file(text, strlen(text));
    return config_load(config, file, NULL, 0, err);
}

static void expect_ok(Config *config, const char *text) {
    Error err = {.code = STATUS_OK};
    if (load_text(config, text, &err) != STATUS_OK)
        fail_msg("refused: %s", err.message);
}

/* `place` is "line:col", or NULL when the message carries no place in the file. */
static void expect_refused(const char *text, const char *place, const char *part) {
    Config config;
    Error err = {.code = STATUS_OK};
    char start[100];
    Status status = load_text(&config, text, &err);
    snprintf(start, sizeof start, "%s:%s: ", file, place ? place : "");
    if (status != STATUS_CONFIG || err.code != STATUS_CONFIG)
        fail_msg("status %d for: %s", status, text);
    if ((place && strncmp(err.message, start, strlen(start)) != 0) || !strstr(err.message, part))
        fail_msg("'%s' should start with '%s' and contain '%s'", err.message, start, part);
    assert_null(strchr(err.message, '\n'));
}

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
    expect_ok(&before, "profile: official\nexplain:\n  update_running_stats: false\n");
    expect_ok(&after, "explain:\n  update_running_stats: false\nprofile: official\n");
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(after.profile, PROFILE_OFFICIAL);
    assert_int_equal(after.explain.bn, EXPLAIN_BN_BATCH);
    assert_int_equal(after.explain.update_running_stats, 0);
}

static void test_derived_defaults(void **state) {
    (void)state;
    Config c;
    expect_ok(&c, "method: exconb\n");
    assert_int_equal(c.background.mode, BACKGROUND_DENOMINATOR);
    expect_ok(&c, "method: exconb\nbackground:\n  mode: class\n");
    assert_int_equal(c.background.mode, BACKGROUND_CLASS);
    expect_ok(&c, "method: supcon\n");
    assert_int_equal(c.background.mode, BACKGROUND_NONE);
    expect_ok(&c, "profile: official\nexplain:\n  bn: running\n");
    assert_int_equal(c.explain.update_running_stats, 0);
    expect_ok(&c, "data:\n  holdout: 0\n");
    assert_int_equal(c.eval.selection, SELECTION_VAL);
}

/* ---- what is accepted ---- */

static void test_values(void **state) {
    (void)state;
    Config c;
    expect_ok(
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
    write_file(text, strlen(text));
    assert_int_equal(config_load(&c, file, sets, 4, &err), STATUS_OK);
    assert_true(c.optim.lr == 0.4);
    assert_string_equal(c.run.dir, "a=b");
    assert_int_equal(c.explain.bn, EXPLAIN_BN_BATCH);
}

static void test_set_mistakes(void **state) {
    (void)state;
    const struct {
        const char *set, *message;
    } cases[] = {
        {"optim.lrr=1", "--set optim.lrr=1: unknown key 'optim.lrr' (did you mean 'optim.lr'?)"},
        {"lr=1", "--set lr=1: unknown key 'lr' (did you mean 'optim.lr'?)"},
        {"optim.lr", "--set optim.lr: expected key=value"},
        {"optim.lr=-1", "--set optim.lr=-1: optim.lr: '-1' is not allowed; allowed: number 0..100"},
        {"method=exkon", "(did you mean 'excon'?)"},
        {"run.dir=a\nb", "not printable UTF-8"},
        {"run.dir=\xff", "not printable UTF-8"},
        {"run.dir=\xc0\xaf", "not printable UTF-8"},
        {"eval.selection=holdout", "--set eval.selection=holdout: eval.selection: holdout needs data.holdout > 0"},
    };
    write_file("data:\n  holdout: 0\n", 19);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config c;
        Error err = {.code = STATUS_OK};
        char set[80];
        snprintf(set, sizeof set, "%s", cases[i].set);
        char *const sets[] = {set};
        assert_int_equal(config_load(&c, file, sets, 1, &err), STATUS_CONFIG);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' should contain '%s'", err.message, cases[i].message);
    }
}

/* ---- what is refused ---- */

static void test_yaml_refused(void **state) {
    (void)state;
    expect_refused("", "1:1", "holds no key");
    expect_refused("# only a comment\n", "1:1", "holds no key");
    expect_refused("just text\n", "1:1", "expected 'key: value'");
    expect_refused("- a\n", "1:1", "expected 'key: value'");
    expect_refused("seed: 1\nseed: 2\n", "2:1", "'seed' stands here a second time, first at line 1");
    expect_refused("optim:\n  lr: 1\n  momentum: 0\n  lr: 2\n", "4:3",
                   "'optim.lr' stands here a second time, first at line 2");
    expect_refused("optim:\n  lr: 1\ndata:\noptim:\n  momentum: 0\n", "4:1",
                   "'optim' stands here a second time, first at line 1");
    expect_refused("seed: &a 1\n", "1:7", "anchors");
    expect_refused("optim: &a\n  lr: 1\n", "1:8", "anchors");
    expect_refused("seed: *a\n", "1:7", "aliases");
    expect_refused("seed: !!int 1\n", "1:7", "tags");
    expect_refused("optim: !x {lr: 1}\n", "1:8", "tags");
    expect_refused("!!map\nseed: 1\n", "1:1", "tags");
    expect_refused("%YAML 1.1\n---\nseed: 1\n", "1:1", "directives");
    expect_refused("seed: 1\n---\nseed: 2\n", "2:1", "second document");
    expect_refused("seed: 1\n...\n---\n", "3:1", "second document");
    expect_refused("seed: [1]\n", "1:7", "one value");
    expect_refused("seed:\n  a: 1\n", "2:3", "one value");
    expect_refused("seed:\n", "1:6", "no value");
    expect_refused("optim: 3\n", "1:8", "is a section");
    expect_refused("optim: [lr]\n", "1:8", "is a section");
    expect_refused("optim:\n  lr:\n    x: 1\n", "3:5", "one value");
    expect_refused("? [a]\n: 1\n", "1:3", "plain text");
    expect_refused("{[a]: 1}\n", "1:2", "plain text");
    expect_refused("seed: \"1\n", "2:1", "not valid YAML");
    expect_refused("seed: 1\n\toptim: 2\n", "2:1", "not valid YAML");
    expect_refused("seed: 1\nrun:\n  dir: a\x01\n", "3:9", "not valid YAML");
    expect_refused("seed: 1\nrun:\n  dir: \xff\xff\n", "3:8", "not valid YAML");
}

static void test_keys_refused(void **state) {
    (void)state;
    expect_refused("seed: 1\n  \noptm:\n  lr: 1\n", "3:1", "unknown key 'optm' (did you mean 'optim'?)");
    expect_refused("optim:\n  lrr: 1\n", "2:3", "unknown key 'optim.lrr' (did you mean 'optim.lr'?)");
    expect_refused("optim:\n  batch: 1\n", "2:3", "unknown key 'optim.batch' (did you mean 'train.batch'?)");
    expect_refused("lr: 1\n", "1:1", "did you mean 'optim.lr'?");
    expect_refused("evl:\n  batch: 1\n", "1:1", "did you mean 'eval'?");
    expect_refused("zzzzzzzz: 1\n", "1:1", "unknown key 'zzzzzzzz'; excon help config");
    expect_refused("optim.lr: 1\n", "1:1", "write 'optim.lr' in its section");
    expect_refused("optim: {data: {dir: x}}\n", "1:9", "unknown key 'optim.data'");
    expect_refused("\"seed\\0\": 1\n", "1:1", "unknown key");
    expect_refused("\"se\\ned\": 1\n", "1:1", "unknown key 'se?ed'");
    expect_refused("<<: {seed: 1}\n", "1:1", "unknown key '<<'");
}

static void test_values_refused(void **state) {
    (void)state;
    expect_refused(
        "method: exkon\n", "1:9",
        "method: 'exkon' is not allowed; allowed: ce, simclr, supcon, excon, exconb (did you mean 'excon'?)");
    expect_refused("model:\n  encoder: resnet19\n", "2:12", "allowed: resnet10, resnet18");
    expect_refused("explain:\n  relu: yes\n", "2:9", "allowed: true, false");
    expect_refused("explain:\n  layer: layer5\n", "2:10", "auto, layer1, layer2, layer3, layer4");
    expect_refused("seed: -1\n", "1:7", "integer 0..9007199254740992");
    expect_refused("seed: 1.5\n", "1:7", "integer");
    expect_refused("seed: 0x10\n", "1:7", "integer");
    expect_refused("seed: 99999999999999999999\n", "1:7", "integer");
    expect_refused("seed: \" 1\"\n", "1:7", "integer");
    expect_refused("seed: \"1\\0\"\n", "1:7", "integer");
    expect_refused("train:\n  batch: 0\n", "2:10", "integer 1..1048576");
    expect_refused("optim:\n  lr: nan\n", "2:7", "number 0..100");
    expect_refused("optim:\n  lr: .inf\n", "2:7", "number");
    expect_refused("optim:\n  lr: 1e9999\n", "2:7", "number");
    expect_refused("optim:\n  lr: 0.1 0.2\n", "2:7", "number");
    expect_refused("loss:\n  temperature: 0\n", "2:16", "number 0.001..100");
    expect_refused("bn:\n  momentum: 0\n", "2:13", "number > 0, <= 1");
    expect_refused("run:\n  dir: \"a\\nb\"\n", "2:8", "not printable");
    char text[1100];
    snprintf(text, sizeof text, "run:\n  dir: %01024d\n", 7);
    expect_refused(text, "2:8", "at most 1023 bytes");
    snprintf(text, sizeof text, "run:\n  dir: %01023d\n", 7);
    Config c;
    expect_ok(&c, text);
    assert_int_equal(strlen(c.run.dir), 1023);
}

/* Every bound of every number: the bound is accepted (or refused where it is open), a step beyond is refused. */
static void test_every_range(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        Config c;
        char text[64], why[KEY_WHY_MAX];
        config_defaults(&c, PROFILE_OFFICIAL);
        if (key->type != KEY_INTEGER && key->type != KEY_REAL)
            continue;
        assert_true(key->min < key->max);
        const double beyond = key->type == KEY_INTEGER ? 1 : (key->max - key->min) * 1e-6;
        snprintf(text, sizeof text, "%.17g", key->max);
        if (key->type == KEY_INTEGER)
            snprintf(text, sizeof text, "%.0f", key->max);
        assert_int_equal(key_parse(key, &c, text, strlen(text), why), STATUS_OK);
        snprintf(text, sizeof text, key->type == KEY_INTEGER ? "%.0f" : "%.17g", key->min);
        assert_int_equal(key_parse(key, &c, text, strlen(text), why),
                         key->flags & KEY_ABOVE ? STATUS_CONFIG : STATUS_OK);
        snprintf(text, sizeof text, key->type == KEY_INTEGER ? "%.0f" : "%.17g", key->min - beyond);
        assert_int_equal(key_parse(key, &c, text, strlen(text), why), STATUS_CONFIG);
        if (key->max < 9e15) {
            snprintf(text, sizeof text, key->type == KEY_INTEGER ? "%.0f" : "%.17g", key->max + beyond);
            assert_int_equal(key_parse(key, &c, text, strlen(text), why), STATUS_CONFIG);
        }
    }
}

static void test_combinations(void **state) {
    (void)state;
    expect_refused("data:\n  holdout: 0\neval:\n  selection: holdout\n", "4:14", "holdout needs data.holdout > 0");
    expect_refused("explain:\n  update_running_stats: true\n", "2:25", "needs explain.bn: batch");
    expect_refused("method: supcon\nbackground:\n  mode: class\n", "3:9", "method supcon masks no images");
    expect_refused("data:\n  classes: 1\n", "2:12", "one class");
    expect_refused("augment:\n  scale_min: 0.9\n  scale_max: 0.5\n", "2:14", "is above augment.scale_max");
    expect_refused("train:\n  epochs: 5\noptim:\n  warmup: on\n", NULL, "longer than train.epochs 5");
    Config c;
    Error err;
    write_file("method: simclr\nbackground:\n  mode: class\n", 41);
    assert_int_equal(config_load_loose(&c, file, NULL, 0, &err), STATUS_OK);
    assert_int_equal(c.background.mode, BACKGROUND_CLASS);
}

/* ---- hostile files ---- */

static void test_size(void **state) {
    (void)state;
    size_t limit = 1 << 20;
    char *text = malloc(limit + 1);
    Config c;
    Error err;
    assert_non_null(text);
    memset(text, '#', limit + 1);
    memcpy(text, "seed: 7\n", 8);
    write_file(text, limit);
    assert_int_equal(config_load(&c, file, NULL, 0, &err), STATUS_OK);
    assert_int_equal(c.seed, 7);
    write_file(text, limit + 1);
    assert_int_equal(config_load(&c, file, NULL, 0, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.message, "more than the 1048576"));
    free(text);
    assert_int_equal(config_load(&c, "/nonexistent/config.yaml", NULL, 0, &err), STATUS_NO_INPUT);
    assert_int_equal(config_load(&c, "/", NULL, 0, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.message, "not a regular file"));
}

/* A million opening brackets take libyaml itself over 20 s; refused at the first unexpected one it is done at once. The
 * bound of a second leaves two orders of magnitude for a loaded machine. */
static void test_nesting_is_cheap(void **state) {
    (void)state;
    const char *const openings[] = {"[", "{", "- ", "? ", "seed: [", "[\n", "optim: {", "!", "&a ", "'", "\"", "a: "};
    size_t limit = 1000000;
    char *text = malloc(limit + 16);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        size_t size = 0;
        while (size < limit) {
            memcpy(text + size, openings[i], strlen(openings[i]));
            size += strlen(openings[i]);
        }
        Config c;
        Error err;
        struct timespec a, b;
        write_file(text, size);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        assert_int_equal(config_load(&c, file, NULL, 0, &err), STATUS_CONFIG);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (!(seconds < 1))
            fail_msg("'%s' a million times took %.2f s", openings[i], seconds);
    }
    free(text);
}

static const char sample[] = "profile: official\nmethod: exconb\nseed: 3\nrun:\n  dir: \"runs/x y\"\ndata:\n  dir: d\n"
                             "  holdout: 0.1\nmodel: {encoder: resnet18, width: 16}\nexplain:\n  bn: batch # c\n"
                             "  threshold: 5e-1\nbackground:\n  mode: class\noptim:\n  lr: 0.1\n  warmup: 'off'\n";

/* Random byte edits: a verdict every time, and what is accepted survives the way through text. */
static void test_mutations(void **state) {
    (void)state;
    enum { ROUNDS = 20000 };
    static const char likely[] = "\n :{}[]&*!?-#\"'\\%|>0a\t\xff\x00\xc3";
    int accepted = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char text[sizeof sample + 8];
        size_t size = sizeof sample - 1;
        memcpy(text, sample, size);
        const uint32_t draw[4] = {round * 2654435761u, round ^ 0x9e3779b9u, round * 40503u + 77u, round + 12345u};
        uint64_t bits = ((uint64_t)draw[0] << 32 | draw[1]) ^ ((uint64_t)draw[2] << 17);
        int edits = 1 + (int)(round % 4);
        for (int e = 0; e < edits; e++) {
            bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            size_t at = (size_t)(bits >> 33) % size;
            char byte = bits >> 20 & 1 ? likely[(bits >> 40) % (sizeof likely - 1)] : (char)(bits >> 24);
            if ((bits >> 21 & 3) == 0) { /* remove */
                memmove(text + at, text + at + 1, size - at - 1);
                size--;
            } else if ((bits >> 21 & 3) == 1) { /* insert */
                memmove(text + at + 1, text + at, size - at);
                text[at] = byte;
                size++;
            } else {
                text[at] = byte;
            }
        }
        Config c, again;
        Error err = {.code = STATUS_OK};
        write_file(text, size);
        Status status = config_load(&c, file, NULL, 0, &err);
        assert_true(status == STATUS_OK || status == STATUS_CONFIG);
        if (status == STATUS_CONFIG) {
            assert_null(strchr(err.message, '\n'));
            continue;
        }
        accepted++;
        if (accepted % 16 == 0) {
            char *yaml = config_to_yaml(&c);
            expect_ok(&again, yaml);
            assert_memory_equal(&again, &c, sizeof c);
            free(yaml);
        }
    }
    assert_in_range(accepted, ROUNDS / 100, ROUNDS - ROUNDS / 10);
}

/* ---- and back ---- */

static void test_round_trip(void **state) {
    (void)state;
    const char *const texts[] = {
        "seed: 1\n", "profile: official\n", sample,
        "run:\n  dir: \"q\\\" b\\\\ c: # {x} \xc3\xa9 \"\noptim:\n  lr: 0.12345678901234567\ntrain:\n  epochs: 0\n",
        "method: simclr\nwatchdog:\n  step_seconds: 0.3333333333333333\ndata:\n  dir: ' lead and trail '\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Config a, b;
        char hash_a[65], hash_b[65];
        expect_ok(&a, texts[i]);
        char *yaml = config_to_yaml(&a);
        assert_non_null(yaml);
        expect_ok(&b, yaml);
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
    expect_ok(&a, "seed: 1\n");
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
        expect_ok(&b, same[i]);
        config_hash(&b, hash_b);
        assert_string_equal(hash_a, hash_b);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        expect_ok(&b, other[i]);
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

/* A shipped file names every key once: set, or commented out ("#key:") with the default that holds in that file. */
static void test_shipped(void **state) {
    (void)state;
    glob_t shipped;
    assert_int_equal(glob("configs/*.yaml", 0, NULL, &shipped), 0);
    assert_true(shipped.gl_pathc >= 8);
    for (size_t i = 0; i < shipped.gl_pathc; i++) {
        static char text[1 << 16];
        Config c, uncommented;
        Error err = {.code = STATUS_OK};
        if (config_load(&c, shipped.gl_pathv[i], NULL, 0, &err) != STATUS_OK)
            fail_msg("%s", err.message);
        assert_true(c.run.dir[0] && c.data.dir[0]);
        FILE *in = fopen(shipped.gl_pathv[i], "rb");
        assert_non_null(in);
        size_t size = fread(text, 1, sizeof text - 1, in), used = 0;
        fclose(in);
        assert_true(size < sizeof text - 1);
        for (size_t k = 0; k < size; k++)
            if (text[k] != '#' || k + 1 == size || text[k + 1] < 'a' || text[k + 1] > 'z')
                text[used++] = text[k];
        text[used] = '\0';
        expect_ok(&uncommented, text);
        char *as_shipped = config_to_yaml(&c), *with_defaults = config_to_yaml(&uncommented);
        assert_string_equal(as_shipped, with_defaults);
        free(as_shipped);
        free(with_defaults);
        for (int k = 0; k < config_key_count; k++) {
            char line[KEY_NAME_MAX + 4];
            const char *dot = strchr(config_keys[k].name, '.');
            snprintf(line, sizeof line, "\n%s%s: ", dot ? "  " : "", dot ? dot + 1 : config_keys[k].name);
            if (!strstr(text, line))
                fail_msg("%s does not name %s", shipped.gl_pathv[i], config_keys[k].name);
        }
    }
    globfree(&shipped);
}

static int setup(void **state) {
    (void)state;
    snprintf(file, sizeof file, "/tmp/excon-config-%ld.yaml", (long)getpid());
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return unlink(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_profile_stands_anywhere),
        cmocka_unit_test(test_derived_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_set_mistakes),
        cmocka_unit_test(test_yaml_refused),
        cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_values_refused),
        cmocka_unit_test(test_every_range),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_nesting_is_cheap),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_describe_lists_every_key),
        cmocka_unit_test(test_shipped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
