#include "tests/support/files/config_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char file[64];

int config_text_setup(void **state) {
    (void)state;
    snprintf(file, sizeof file, "/tmp/excon-config-%ld.yaml", (long)getpid());
    return 0;
}

int config_text_teardown(void **state) {
    (void)state;
    return unlink(file);
}

const char *config_file(void) {
    return file;
}

void config_write(const char *text, size_t size) {
    FILE *out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

Status config_of_text(Config *config, const char *text, Error *err) {
    config_write(text, strlen(text));
    return config_load(config, file, NULL, 0, err);
}

void config_accepts(Config *config, const char *text) {
    Error err = {.code = STATUS_OK};
    if (config_of_text(config, text, &err) != STATUS_OK)
        fail_msg("refused: %s", err.message);
}

void config_refuses(const char *text, const char *place, const char *part) {
    Config config;
    Error err = {.code = STATUS_OK};
    char start[100];
    Status status = config_of_text(&config, text, &err);
    snprintf(start, sizeof start, "%s:%s: ", file, place ? place : "");
    if (status != STATUS_CONFIG || err.code != STATUS_CONFIG)
        fail_msg("status %d for: %s", status, text);
    if ((place && strncmp(err.message, start, strlen(start)) != 0) || !strstr(err.message, part))
        fail_msg("'%s' should start with '%s' and contain '%s'", err.message, start, part);
    assert_null(strchr(err.message, '\n'));
}
