/* Strict YAML -> one assignment per key. Private to trainer/config.
 *
 * libyaml's event interface accepts far more than a configuration needs; here a document is one mapping of keys and of
 * sections that hold keys. Refused, each at its line and column: empty files, second documents, directives, anchors,
 * aliases, tags, lists, deeper nesting, duplicate and unknown keys. */
#ifndef EXCON_TRAINER_CONFIG_YAML_H
#define EXCON_TRAINER_CONFIG_YAML_H

#include <stddef.h>

#include "kernels/base/status.h"
#include "trainer/config/keys/keys.h"

enum { CONFIG_BYTES_MAX = 1 << 20, CONFIG_KEYS_MAX = 128 };

/* A value as written; text is malloc'ed, NULL when the key is absent. Lines and columns count from 1. */
typedef struct Assignment {
    char *text;
    size_t length;
    long line, column;
} Assignment;

/* Parses `size` bytes (UTF-8; `path` for messages only) into found[CONFIG_KEYS_MAX], indexed like config_keys, which
 * the caller has zeroed and frees with assignments_free, also after a failure. STATUS_CONFIG: "path:line:col: what". */
Status config_yaml_read(const char *path, const char *data, size_t size, Assignment *found, Error *err);

void assignments_free(Assignment *found);

/* "unknown key 'x' (did you mean 'y'?)" at a place already written as "path:line:col" or "--set x=1". */
Status config_unknown_key(const char *place, const char *name, Error *err);

#endif
