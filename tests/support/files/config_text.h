/* Configuration files for tests, written where config_load then reads them: one temporary file a process. */
#ifndef EXCON_TESTS_CONFIG_TEXT_H
#define EXCON_TESTS_CONFIG_TEXT_H

#include <stddef.h>

#include "trainer/config/config.h"

/* A file that sets keys of every type. */
#define CONFIG_SAMPLE                                                                                                  \
    "profile: official\nmethod: exconb\nseed: 3\nrun:\n  dir: \"runs/x y\"\ndata:\n  dir: d\n"                         \
    "  holdout: 0.1\nmodel: {encoder: resnet18, width: 16}\nexplain:\n  bn: batch # c\n"                               \
    "  threshold: 5e-1\nbackground:\n  mode: class\noptim:\n  lr: 0.1\n  warmup: 'off'\n"

/* cmocka group setup and teardown: choose the file's name, remove it. */
int config_text_setup(void **state);
int config_text_teardown(void **state);
const char *config_file(void);

void config_write(const char *text, size_t size);
/* Loads `text`, or fails the test with the refusal. */
void config_accepts(Config *config, const char *text);
/* Loads `text` as a file; as config_load. */
Status config_of_text(Config *config, const char *text, Error *err);
/* `text` must be refused on one line that contains `part` and starts with the file and `place`, "line:col" (NULL: the
 * message carries no place in the file). */
void config_refuses(const char *text, const char *place, const char *part);

#endif
