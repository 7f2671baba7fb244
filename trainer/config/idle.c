/* Settings that cannot take effect beside the others. Contradictions are refused when the configuration is loaded;
 * what is left here is harmless, but its author should know: a run with it is the run without it. */
#include <stdio.h>
#include <string.h>

#include "trainer/config/keys/keys.h"

static int warms_up(const Config *c) {
    return c->optim.warmup == WARMUP_ON || (c->optim.warmup == WARMUP_AUTO && c->train.batch > 256);
}

/* ---- one question a group of keys, answered with why they have no effect, or NULL ---- */

typedef const char *Why(const Config *c);

static const char *why_explain(const Config *c) {
    return config_masks(c) ? NULL : "the method masks no images";
}

static const char *why_steps(const Config *c) {
    return !config_masks(c)                          ? why_explain(c)
           : c->explain.method == EXPLAIN_INTEGRATED ? NULL
                                                     : "explain.method is not integrated";
}

static const char *why_start(const Config *c) {
    return !config_masks(c)                                          ? why_explain(c)
           : c->train.epochs > 0 && c->start_epoch > c->train.epochs ? "train.epochs end before it: no image is masked"
                                                                     : NULL;
}

static const char *why_mode(const Config *c) {
    return c->background.mode != BACKGROUND_NONE && c->select.rule == SELECT_ALWAYS
               ? "select.rule always rejects no image that could serve as background"
               : NULL;
}

static const char *why_background(const Config *c) {
    return c->method != METHOD_EXCONB              ? "only method exconb has background rows"
           : c->background.mode == BACKGROUND_NONE ? "background.mode is none"
                                                   : why_mode(c);
}

static const char *why_contrast(const Config *c) {
    return c->method == METHOD_CE ? "method ce has no contrastive loss" : NULL;
}

static const char *why_schedule(const Config *c) {
    return c->method == METHOD_CE ? "method ce trains classifier and encoder as one" : NULL;
}

static const char *why_augment(const Config *c) {
    return c->method == METHOD_CE                           ? why_schedule(c)
           : c->classifier.schedule == CLASSIFIER_ALTERNATE ? NULL
                                                            : "classifier.schedule joint has no pass of the classifier";
}

static const char *why_jitter(const Config *c) {
    return c->augment.jitter_probability > 0 ? NULL : "augment.jitter_probability is 0";
}

static const char *why_minimum(const Config *c) {
    return c->optim.schedule == LR_CONSTANT ? "optim.schedule is constant" : NULL;
}

static const char *why_trust(const Config *c) {
    return c->optim.name == OPTIM_LARS ? NULL : "optim.name is not lars";
}

static const char *why_warmup(const Config *c) {
    return warms_up(c) ? NULL : "there is no warm-up: optim.warmup is off, or auto with a train.batch of 256 at most";
}

static const char *why_holdout(const Config *c) {
    return c->data.holdout > 0 && c->eval.selection == SELECTION_VAL
               ? "eval.selection is val, so nothing is held out of train; use eval.selection: holdout"
               : NULL;
}

static const char *why_selection(const Config *c) {
    return c->eval.every_epochs == 0 ? "eval.every_epochs is 0: no epoch is validated" : NULL;
}

static const char *why_cuda(const Config *c) {
    return c->backend == BACKEND_CPU ? "backend is cpu" : NULL;
}

/* In the order of the configuration's own table. A name that ends in a dot stands for the rest of its section. */
static const struct {
    const char *name;
    Why *why;
} rules[] = {
    {"data.holdout", why_holdout},
    {"data.device_mb", why_cuda},
    {"model.projection", why_contrast},
    {"augment.brightness", why_jitter},
    {"augment.contrast", why_jitter},
    {"augment.saturation", why_jitter},
    {"augment.hue", why_jitter},
    {"explain.layer", NULL}, /* evaluation explains, too */
    {"explain.steps", why_steps},
    {"explain.", why_explain},
    {"select.rule", why_explain},
    {"background.mode", why_mode},
    {"background.", why_background},
    {"loss.", why_contrast},
    {"classifier.schedule", why_schedule},
    {"classifier.augment", why_augment},
    {"start_epoch", why_start},
    {"optim.trust", why_trust},
    {"optim.warmup_epochs", why_warmup},
    {"optim.warmup_from", why_warmup},
    {"optim.lr_min_factor", why_minimum},
    {"eval.selection", why_selection},
    {"comm.transport", why_cuda},
    {"comm.connect_seconds", why_cuda},
    {"cuda.", why_cuda},
};

static const char *why_idle(const Config *config, const char *name) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const size_t length = strlen(rules[i].name);
        const int section = rules[i].name[length - 1] == '.';
        if (section ? strncmp(name, rules[i].name, length) == 0 : strcmp(name, rules[i].name) == 0)
            return rules[i].why ? rules[i].why(config) : NULL;
    }
    return NULL;
}

void config_idle(const Config *config, void (*note)(void *ctx, const char *text), void *ctx) {
    Config usual;
    char value[KEY_VALUE_MAX], default_value[KEY_VALUE_MAX], text[400];
    config_defaults(&usual, (Profile)config->profile);
    for (int i = 0; i < config_key_count; i++) {
        const Key *key = &config_keys[i];
        const char *why = why_idle(config, key->name);
        if (!why)
            continue;
        key_print(key, config, 0, value);
        key_print(key, &usual, 0, default_value);
        if (strcmp(value, default_value) == 0)
            continue;
        snprintf(text, sizeof text, "%s: %.80s has no effect: %s", key->name, value, why);
        note(ctx, text);
    }
}
