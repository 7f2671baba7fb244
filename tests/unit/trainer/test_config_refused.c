/* Configuration: every way to write it wrong is refused at its place, hostile files too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/support/files/config_text.h"
#include "trainer/config/config.h"
#include "trainer/config/keys/keys.h"

static const char sample[] = CONFIG_SAMPLE;

/* ---- on the command line ---- */

static void test_set_mistakes(void **state) {
    (void)state;
    const struct {
        const char *set, *message;
    } cases[] = {
        {"optim.lrr=1", "--set optim.lrr=1: unknown key 'optim.lrr' (did you mean 'optim.lr'?)"},
        {"lr=1", "--set lr=1: unknown key 'lr' (did you mean 'optim.lr'?)"},
        {"optim.learning_rate=1", "unknown key 'optim.learning_rate' (did you mean 'optim.lr'?)"},
        {"Batch_Size=1", "unknown key 'Batch_Size' (did you mean 'train.batch'?)"},
        {"model.backbone=resnet18", "unknown key 'model.backbone' (did you mean 'model.encoder'?)"},
        {"optim.lr", "--set optim.lr: expected key=value"},
        {"optim.lr=-1", "--set optim.lr=-1: optim.lr: '-1' is not allowed; allowed: number 0..100"},
        {"method=exkon", "(did you mean 'excon'?)"},
        {"run.dir=a\nb", "not printable UTF-8"},
        {"run.dir=\xff", "not printable UTF-8"},
        {"run.dir=\xc0\xaf", "not printable UTF-8"},
        {"eval.selection=holdout", "--set eval.selection=holdout: eval.selection: holdout needs data.holdout > 0"},
    };
    config_write("data:\n  holdout: 0\n", 19);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config c;
        Error err = {.code = STATUS_OK};
        char set[80];
        snprintf(set, sizeof set, "%s", cases[i].set);
        char *const sets[] = {set};
        assert_int_equal(config_load(&c, config_file(), sets, 1, &err), STATUS_CONFIG);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' should contain '%s'", err.message, cases[i].message);
    }
}

/* ---- what is refused ---- */

static void test_yaml_refused(void **state) {
    (void)state;
    config_refuses("", "1:1", "holds no key");
    config_refuses("# only a comment\n", "1:1", "holds no key");
    config_refuses("just text\n", "1:1", "expected 'key: value'");
    config_refuses("- a\n", "1:1", "expected 'key: value'");
    config_refuses("seed: 1\nseed: 2\n", "2:1", "'seed' stands here a second time, first at line 1");
    config_refuses("optim:\n  lr: 1\n  momentum: 0\n  lr: 2\n", "4:3",
                   "'optim.lr' stands here a second time, first at line 2");
    config_refuses("optim:\n  lr: 1\ndata:\noptim:\n  momentum: 0\n", "4:1",
                   "'optim' stands here a second time, first at line 1");
    config_refuses("seed: &a 1\n", "1:7", "anchors");
    config_refuses("optim: &a\n  lr: 1\n", "1:8", "anchors");
    config_refuses("seed: *a\n", "1:7", "aliases");
    config_refuses("seed: !!int 1\n", "1:7", "tags");
    config_refuses("optim: !x {lr: 1}\n", "1:8", "tags");
    config_refuses("!!map\nseed: 1\n", "1:1", "tags");
    config_refuses("%YAML 1.1\n---\nseed: 1\n", "1:1", "directives");
    config_refuses("seed: 1\n---\nseed: 2\n", "2:1", "second document");
    config_refuses("seed: 1\n...\n---\n", "3:1", "second document");
    config_refuses("seed: [1]\n", "1:7", "one value");
    config_refuses("seed:\n  a: 1\n", "2:3", "one value");
    config_refuses("seed:\n", "1:6", "no value");
    config_refuses("optim: 3\n", "1:8", "is a section");
    config_refuses("optim: [lr]\n", "1:8", "is a section");
    config_refuses("optim:\n  lr:\n    x: 1\n", "3:5", "one value");
    config_refuses("? [a]\n: 1\n", "1:3", "plain text");
    config_refuses("{[a]: 1}\n", "1:2", "plain text");
    config_refuses("seed: \"1\n", "2:1", "not valid YAML");
    config_refuses("seed: 1\n\toptim: 2\n", "2:1", "not valid YAML");
    config_refuses("seed: 1\nrun:\n  dir: a\x01\n", "3:9", "not valid YAML");
    config_refuses("seed: 1\nrun:\n  dir: \xff\xff\n", "3:8", "not valid YAML");
}

static void test_keys_refused(void **state) {
    (void)state;
    config_refuses("seed: 1\n  \noptm:\n  lr: 1\n", "3:1", "unknown key 'optm' (did you mean 'optim'?)");
    config_refuses("optim:\n  lrr: 1\n", "2:3", "unknown key 'optim.lrr' (did you mean 'optim.lr'?)");
    config_refuses("optim:\n  batch: 1\n", "2:3", "unknown key 'optim.batch' (did you mean 'train.batch'?)");
    config_refuses("lr: 1\n", "1:1", "did you mean 'optim.lr'?");
    config_refuses("evl:\n  batch: 1\n", "1:1", "did you mean 'eval'?");
    config_refuses("optimizer:\n  lr: 1\n", "1:1", "unknown key 'optimizer' (did you mean 'optim'?)");
    config_refuses("zzzzzzzz: 1\n", "1:1", "unknown key 'zzzzzzzz'; excon help config");
    config_refuses("optim.lr: 1\n", "1:1", "write 'optim.lr' in its section");
    config_refuses("optim: {data: {dir: x}}\n", "1:9", "unknown key 'optim.data'");
    config_refuses("\"seed\\0\": 1\n", "1:1", "unknown key");
    config_refuses("\"se\\ned\": 1\n", "1:1", "unknown key 'se?ed'");
    config_refuses("<<: {seed: 1}\n", "1:1", "unknown key '<<'");
}

static void test_values_refused(void **state) {
    (void)state;
    config_refuses(
        "method: exkon\n", "1:9",
        "method: 'exkon' is not allowed; allowed: ce, simclr, supcon, excon, exconb (did you mean 'excon'?)");
    config_refuses("model:\n  encoder: resnet19\n", "2:12", "allowed: resnet10, resnet18");
    config_refuses("explain:\n  relu: yes\n", "2:9", "allowed: true, false");
    config_refuses("explain:\n  layer: layer5\n", "2:10", "auto, layer1, layer2, layer3, layer4");
    config_refuses("seed: -1\n", "1:7", "integer 0..9007199254740992");
    config_refuses("seed: 1.5\n", "1:7", "integer");
    config_refuses("seed: 0x10\n", "1:7", "integer");
    config_refuses("seed: 99999999999999999999\n", "1:7", "integer");
    config_refuses("seed: \" 1\"\n", "1:7", "integer");
    config_refuses("seed: \"1\\0\"\n", "1:7", "integer");
    config_refuses("train:\n  batch: 0\n", "2:10", "integer 1..1048576");
    config_refuses("optim:\n  lr: nan\n", "2:7", "number 0..100");
    config_refuses("optim:\n  lr: .inf\n", "2:7", "number");
    config_refuses("optim:\n  lr: 1e9999\n", "2:7", "number");
    config_refuses("optim:\n  lr: 0.1 0.2\n", "2:7", "number");
    config_refuses("loss:\n  temperature: 0\n", "2:16", "number 0.001..100");
    config_refuses("bn:\n  momentum: 0\n", "2:13", "number > 0, <= 1");
    config_refuses("run:\n  dir: \"a\\nb\"\n", "2:8", "not printable");
    char text[1100];
    snprintf(text, sizeof text, "run:\n  dir: %01024d\n", 7);
    config_refuses(text, "2:8", "at most 1023 bytes");
    snprintf(text, sizeof text, "run:\n  dir: %01023d\n", 7);
    Config c;
    config_accepts(&c, text);
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
    config_refuses("data:\n  holdout: 0\neval:\n  selection: holdout\n", "4:14", "holdout needs data.holdout > 0");
    config_refuses("explain:\n  update_running_stats: true\n", "2:25", "needs explain.bn: batch");
    config_refuses("method: supcon\nbackground:\n  mode: class\n", "3:9", "method supcon masks no images");
    config_refuses("method: excon\nbackground:\n  mode: class\n", "3:9", "method excon appends no background rows");
    config_refuses("background: {mode: denominator}\n", "1:20", "use method exconb");
    config_refuses("data:\n  classes: 1\n", "2:12", "one class");
    config_refuses("augment:\n  scale_min: 0.9\n  scale_max: 0.5\n", "2:14", "is above augment.scale_max");
    /* A warm-up that takes the whole run; on a cosine not even its last epoch. test_schedule has the one of auto. */
    config_refuses("train:\n  epochs: 5\noptim:\n  warmup: on\n", NULL,
                   "10 epochs of warm-up take all of train.epochs 5");
    config_refuses("train:\n  epochs: 3\noptim:\n  warmup: on\n  warmup_epochs: 3\n", "5:18", "take all");
    Config c;
    config_accepts(&c, "train:\n  epochs: 3\noptim:\n  warmup: on\n  warmup_epochs: 3\n  schedule: constant\n");
    Error err;
    config_write("method: simclr\nbackground:\n  mode: class\n", 41);
    assert_int_equal(config_load_loose(&c, config_file(), NULL, 0, &err), STATUS_OK);
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
    config_write(text, limit);
    assert_int_equal(config_load(&c, config_file(), NULL, 0, &err), STATUS_OK);
    assert_int_equal(c.seed, 7);
    config_write(text, limit + 1);
    assert_int_equal(config_load(&c, config_file(), NULL, 0, &err), STATUS_CONFIG);
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
        config_write(text, size);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        assert_int_equal(config_load(&c, config_file(), NULL, 0, &err), STATUS_CONFIG);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (!(seconds < 1))
            fail_msg("'%s' a million times took %.2f s", openings[i], seconds);
    }
    free(text);
}

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
        config_write(text, size);
        Status status = config_load(&c, config_file(), NULL, 0, &err);
        assert_true(status == STATUS_OK || status == STATUS_CONFIG);
        if (status == STATUS_CONFIG) {
            assert_null(strchr(err.message, '\n'));
            continue;
        }
        accepted++;
        if (accepted % 16 == 0) {
            char *yaml = config_to_yaml(&c);
            config_accepts(&again, yaml);
            assert_memory_equal(&again, &c, sizeof c);
            free(yaml);
        }
    }
    assert_in_range(accepted, ROUNDS / 100, ROUNDS - ROUNDS / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_mistakes), cmocka_unit_test(test_yaml_refused),
        cmocka_unit_test(test_keys_refused), cmocka_unit_test(test_values_refused),
        cmocka_unit_test(test_every_range),  cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_size),         cmocka_unit_test(test_nesting_is_cheap),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, config_text_setup, config_text_teardown);
}
