/* The table of configuration keys, and what one key can do: parse a value into the struct, print it back. Private to
 * trainer/config. */
#ifndef EXCON_TRAINER_CONFIG_KEYS_H
#define EXCON_TRAINER_CONFIG_KEYS_H

#include <stddef.h>
#include <stdio.h>

#include "trainer/config/config.h"

typedef enum KeyType {
    KEY_ENUM,    /* int: index into `names` */
    KEY_CHOICE,  /* char[size]: one of `names` */
    KEY_BOOL,    /* int: true or false */
    KEY_INTEGER, /* int64_t in [min, max] */
    KEY_REAL,    /* double in [min, max], or (min, max] when `above` */
    KEY_TEXT     /* char[size]: printable UTF-8 */
} KeyType;

enum {
    KEY_HASHED = 1,   /* decides the training's arithmetic */
    KEY_ABOVE = 2,    /* the minimum itself is refused */
    KEY_IDENTITY = 4, /* makes a run what it is: the same for all of a run folder's life */
    KEY_ORDER = 8,    /* decides which samples a batch of an epoch holds: the same until the epoch's end */
    KEY_PATH = 16     /* a leading ~ is the home folder */
};

typedef struct Key {
    const char *name; /* "optim.lr": at most one section */
    KeyType type;
    unsigned flags;
    size_t offset, size; /* place in Config; size of text */
    const char *const *names;
    double min, max;
    const char *official, *recommended; /* defaults as text; recommended NULL: as official */
    const char *help;
} Key;

enum { KEY_NAME_MAX = 40, KEY_VALUE_MAX = 4 * 1024 };

extern const Key config_keys[];
extern const int config_key_count;

/* Index of `name` (length bytes), or -1. */
int key_find(const char *name, size_t length);

/* 1 when some key is "name.something". */
int key_is_section(const char *name);

/* Key or section that other trainers call so ("optim.learning_rate", "batch_size"), whatever its section; NULL: none.
 */
const char *key_synonym(const char *name);

/* Nearest key or section to a mistyped name: 1 and its name in `out`, else 0. A key named without its section, or in
 * the wrong one ("lr", "train.lr"), is found too ("optim.lr"), and so is a synonym. */
int key_nearest(const char *name, char out[KEY_NAME_MAX]);

/* Stores `text` (length bytes) into the key's field. On refusal nothing is stored and `why` [KEY_WHY_MAX] says what is
 * allowed: STATUS_CONFIG. */
enum { KEY_WHY_MAX = 400 };
Status key_parse(const Key *key, Config *config, const char *text, size_t length, char *why);

/* The key's present value as text that key_parse reads back to the same bits; `quoted` puts text in YAML double quotes.
 */
void key_print(const Key *key, const Config *config, int quoted, char out[KEY_VALUE_MAX]);

/* "cosine, constant" or "a number > 0 and at most 10". */
void key_allowed(const Key *key, char *out, size_t size);

#endif
