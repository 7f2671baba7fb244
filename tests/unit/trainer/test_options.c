/* Options and the nearest-name search: every kind in both spellings, and every way to get them wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/cli/options.h"
#include "trainer/config/nearest.h"

typedef struct Parsed {
    OptionList sets, positional;
    int json, help;
    const char *text;
    int64_t steps;
    double eps;
    Error err;
} Parsed;

static Status parse(Parsed *p, int argc, const char *const *argv) {
    memset(p, 0, sizeof *p);
    p->text = "default";
    p->steps = -1;
    const Option options[] = {
        {"set", "key=value", OPTION_REPEATED, &p->sets, "overrides a key"},
        {"json", NULL, OPTION_FLAG, &p->json, "prints JSON"},
        {"text", "NAME", OPTION_TEXT, &p->text, "a name"},
        {"steps", "N", OPTION_INTEGER, &p->steps, "steps"},
        {"eps", "X", OPTION_REAL, &p->eps, "radius"},
    };
    const OptionTable table = {"try FILE [FILE]", options, sizeof options / sizeof *options, 1, 2};
    char *copy[16];
    for (int i = 0; i < argc; i++)
        copy[i] = (char *)(uintptr_t)argv[i];
    return options_parse(&table, argc, copy, &p->positional, &p->help, &p->err);
}

#define PARSE(p, ...)                                                                                                  \
    parse(p, (int)(sizeof((const char *[]){"try", __VA_ARGS__}) / sizeof(char *)), (const char *[]){"try", __VA_ARGS__})

static void test_kinds(void **state) {
    (void)state;
    Parsed p;
    assert_int_equal(PARSE(&p, "a.yaml", "--set", "a.b=c", "--json", "--set=d=e", "--steps", "-7", "--eps=0.5", "b"),
                     STATUS_OK);
    assert_int_equal(p.sets.count, 2);
    assert_string_equal(p.sets.items[0], "a.b=c");
    assert_string_equal(p.sets.items[1], "d=e");
    assert_int_equal(p.json, 1);
    assert_int_equal(p.steps, -7);
    assert_true(p.eps == 0.5);
    assert_string_equal(p.text, "default");
    assert_int_equal(p.positional.count, 2);
    assert_string_equal(p.positional.items[1], "b");
}

static void test_dashes(void **state) {
    (void)state;
    Parsed p;
    assert_int_equal(PARSE(&p, "--", "--json", "-"), STATUS_OK);
    assert_int_equal(p.json, 0);
    assert_string_equal(p.positional.items[0], "--json");
    assert_string_equal(p.positional.items[1], "-");
    assert_int_equal(PARSE(&p, "-3", "--text="), STATUS_OK);
    assert_string_equal(p.positional.items[0], "-3");
    assert_string_equal(p.text, "");
}

static void expect_usage(Parsed *p, Status status, const char *part) {
    assert_int_equal(status, STATUS_USAGE);
    assert_int_equal(p->err.code, STATUS_USAGE);
    if (!strstr(p->err.message, part))
        fail_msg("'%s' does not contain '%s'", p->err.message, part);
}

static void test_mistakes(void **state) {
    (void)state;
    Parsed p;
    expect_usage(&p, PARSE(&p, "f", "--jsno"), "did you mean --json?");
    expect_usage(&p, PARSE(&p, "f", "--step=3"), "did you mean --steps?");
    expect_usage(&p, PARSE(&p, "f", "--wavelength"), "unknown option --wavelength; see excon try --help");
    expect_usage(&p, PARSE(&p, "f", "-j"), "unknown option -j");
    expect_usage(&p, PARSE(&p, "f", "--json=1"), "--json takes no value");
    expect_usage(&p, PARSE(&p, "f", "--text"), "--text needs a value (NAME)");
    expect_usage(&p, PARSE(&p, "f", "--text", "a", "--text=b"), "--text is given twice");
    expect_usage(&p, PARSE(&p, "f", "--steps", "3x"), "--steps needs an integer, not '3x'");
    expect_usage(&p, PARSE(&p, "f", "--steps", "99999999999999999999"), "needs an integer");
    expect_usage(&p, PARSE(&p, "f", "--steps="), "needs an integer");
    expect_usage(&p, PARSE(&p, "f", "--eps", "nan"), "--eps needs a number");
    expect_usage(&p, PARSE(&p, "f", "--eps", "1e999"), "--eps needs a number");
    expect_usage(&p, PARSE(&p, "--json"), "too few arguments; usage: excon try FILE [FILE]");
    expect_usage(&p, PARSE(&p, "f", "g", "h"), "unexpected argument 'h'");
}

static void test_list_is_bounded(void **state) {
    (void)state;
    OptionList sets = {.count = 0}, positional;
    const Option options[] = {{"set", "key=value", OPTION_REPEATED, &sets, ""}};
    const OptionTable table = {"try", options, 1, 0, 0};
    static char word[] = "--set=a=b", command[] = "try";
    char *argv[OPTION_LIST_MAX + 2];
    int help;
    Error err;
    argv[0] = command;
    for (int i = 1; i < OPTION_LIST_MAX + 2; i++)
        argv[i] = word;
    assert_int_equal(options_parse(&table, OPTION_LIST_MAX + 1, argv, &positional, &help, &err), STATUS_OK);
    assert_int_equal(sets.count, OPTION_LIST_MAX);
    sets.count = 0;
    assert_int_equal(options_parse(&table, OPTION_LIST_MAX + 2, argv, &positional, &help, &err), STATUS_USAGE);
}

static const char *near(const char *wanted, const char *const *names) {
    Nearest nearest = {wanted, NULL, 0};
    for (; *names; names++)
        nearest_offer(&nearest, *names);
    return nearest.best;
}

static void test_nearest(void **state) {
    (void)state;
    const char *const names[] = {"train", "eval", "import", "inspect", "optim.lr", NULL};
    assert_string_equal(near("trian", names), "train");
    assert_string_equal(near("Train", names), "train");
    assert_string_equal(near("evl", names), "eval");
    assert_string_equal(near("imprt", names), "import");
    assert_string_equal(near("optim_lr", names), "optim.lr");
    assert_null(near("xyzzy", names));
    assert_null(near("", names));
    char big[200];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_null(near(big, names));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),           cmocka_unit_test(test_dashes),  cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_list_is_bounded), cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
