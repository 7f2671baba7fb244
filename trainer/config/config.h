/* The resolved configuration of a run: one struct, one table of keys (keys/config_keys.c) with type, range, default per
 * profile and one line of help; the parser, the --set option, `config.yaml` in the run folder and the hash are loops
 * over that table. */
#ifndef EXCON_TRAINER_CONFIG_H
#define EXCON_TRAINER_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "kernels/base/status.h"
#include "trainer/config/keys/explain_methods.h"

typedef enum Method { METHOD_CE, METHOD_SIMCLR, METHOD_SUPCON, METHOD_EXCON, METHOD_EXCONB } Method;
typedef enum Profile { PROFILE_OFFICIAL, PROFILE_RECOMMENDED } Profile;
typedef enum Backend { BACKEND_AUTO, BACKEND_CPU, BACKEND_CUDA } Backend;
typedef enum Precision { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16 } Precision;
#define EXPLAIN_VALUE(SYMBOL, symbol, name) EXPLAIN_##SYMBOL,
typedef enum ExplainMethod { EXPLAIN_METHODS(EXPLAIN_VALUE) EXPLAIN_METHOD_COUNT } ExplainMethod;
#undef EXPLAIN_VALUE
typedef enum ExplainBn { EXPLAIN_BN_BATCH, EXPLAIN_BN_RUNNING } ExplainBn;
typedef enum ExplainTarget { TARGET_LABEL, TARGET_PREDICTED } ExplainTarget;
typedef enum ExplainFill { FILL_MEAN, FILL_BLACK } ExplainFill;
typedef enum SourceView { SOURCE_STANDARD, SOURCE_RANDOM } SourceView;
typedef enum SelectRule { SELECT_CORRECT, SELECT_ALWAYS, SELECT_NEVER } SelectRule;
typedef enum BackgroundMode { BACKGROUND_NONE, BACKGROUND_DENOMINATOR, BACKGROUND_CLASS } BackgroundMode;
typedef enum BackgroundSource { BACKGROUND_REJECTED, BACKGROUND_COMPLEMENT } BackgroundSource;
typedef enum BnScope { BN_GLOBAL, BN_LOCAL } BnScope;
typedef enum ClassifierSchedule { CLASSIFIER_ALTERNATE, CLASSIFIER_JOINT } ClassifierSchedule;
typedef enum ClassifierAugment { CLASSIFIER_AUGMENT_NONE, CLASSIFIER_AUGMENT_CROP_FLIP } ClassifierAugment;
typedef enum Optim { OPTIM_SGD, OPTIM_LARS } Optim;
typedef enum LrSchedule { LR_COSINE, LR_CONSTANT } LrSchedule;
typedef enum Warmup { WARMUP_AUTO, WARMUP_ON, WARMUP_OFF } Warmup;
typedef enum LoaderKind { LOADER_KIND_AUTO, LOADER_KIND_STREAM, LOADER_KIND_MEMORY, LOADER_KIND_DEVICE } LoaderKind;
typedef enum ConvChoice { CONV_AUTO, CONV_CUDNN, CONV_GEMM } ConvChoice;
typedef enum SelectionSplit { SELECTION_HOLDOUT, SELECTION_VAL } SelectionSplit;

typedef struct Config {
    int profile; /* Profile: sets the defaults marked with * below (official / recommended) */
    int method;  /* Method, default excon */
    int64_t seed;
    int backend, precision; /* auto; f32 */
    struct {
        char dir[1024]; /* "runs/NAME"; required by train; ~ and {key} are filled in */
    } run;
    struct {
        char dir[1024];
        int64_t classes;        /* first n classes; 0 all */
        double holdout;         /* * share of train held out for selection: 0 / 0.05 */
        int loader;             /* auto: on the device or in memory when the split fits */
        int64_t memory_mb;      /* 2048 */
        int64_t device_mb;      /* with CUDA: 16384 */
        int64_t prefetch;       /* batches, 4 */
        int64_t shuffle_window; /* blocks per shuffle window, 64 */
    } data;
    struct {
        char encoder[16];   /* one of choices_encoder */
        int64_t width;      /* 64: the published widths */
        int64_t projection; /* D: 128 */
    } model;
    struct {
        int64_t epochs, batch, max_steps, log_every;
    } train;
    struct {
        double scale_min, scale_max, jitter_probability, brightness, contrast, saturation, hue, grey_probability,
            flip_probability;
    } augment;
    struct {
        int method, layer /* 0 auto, 1..4 */, relu, bn /* * */, update_running_stats /* * */, target, fill, source_view;
        double threshold;
        int64_t steps; /* of integrated gradients */
    } explain;
    struct {
        int rule;
    } select;
    struct {
        int mode, source;
        int64_t max; /* samples a step may append, over all ranks; 0: no limit */
    } background;
    struct {
        double temperature, base_temperature;
    } loss;
    struct {
        int scope;
        double momentum, eps;
    } bn;
    struct {
        int schedule /* * */, augment;
    } classifier;
    int64_t start_epoch; /* mask from this epoch on; 0 and 1: from the first step */
    struct {
        int name; /* Optim */
        double lr, momentum, weight_decay, trust /* of lars: 0.001 */;
        int schedule, warmup;
        int64_t warmup_epochs; /* 10 */
        double warmup_from;    /* 0.01 */
        double lr_min_factor;  /* 0.001: eta_min = lr * factor */
    } optim;
    struct {
        int64_t every_steps; /* 0: at epoch ends only */
        int64_t keep;
    } checkpoint;
    struct {
        double step_seconds; /* 0: off */
    } watchdog;
    struct {
        int64_t skip_max;     /* non-finite steps in a row that are skipped */
        int64_t rollback_max; /* then roll back to the newest checkpoint, at most so often */
    } guard;
    struct {
        int64_t every_epochs, batch;
        int selection; /* * holdout / val */
    } eval;
    struct {
        int64_t bucket_mb;      /* gradient all-reduce bucket: 25 */
        int transport;          /* CommTransport (comm/comm.h) */
        double connect_seconds; /* 300 */
    } comm;
    struct {
        int conv; /* ConvChoice */
        int graphs;
    } cuda;
} Config;

/* Defaults of a profile. */
void config_defaults(Config *config, Profile profile);

/* Reads YAML (strict: libyaml event API, size <= 1 MiB, depth <= 16, no duplicates, unknown keys, anchors, tags, extra
 * documents), then applies `sets` ("a.b=c", command line order), resolves the profile first wherever it stands, then
 * checks ranges and combinations. STATUS_CONFIG with file:line:col (or "--set a.b=c") and the nearest known key. `path`
 * NULL: only defaults and sets. */
Status config_load(Config *config, const char *path, char *const *sets, int set_count, Error *err);

/* Like config_load without the checks between keys: for tools that use a few keys only, such as the loss probe, where
 * any method may have background rows. */
Status config_load_loose(Config *config, const char *path, char *const *sets, int set_count, Error *err);

/* 1 for the methods that explain and mask images: excon and exconb. */
int config_masks(const Config *config);

/* 0 when a warm-up of optim.warmup_epochs would take the whole run: it ends on the schedule's value at its last epoch,
 * so such a run never comes near optim.lr. */
int config_reaches_rate(const Config *config);

/* Calls `note` once for each key whose value is not the profile's default and yet changes nothing, because of the
 * others: "explain.steps: 8 has no effect: explain.method is not integrated". */
void config_idle(const Config *config, void (*note)(void *ctx, const char *text), void *ctx);

/* Whole resolved configuration as YAML text that config_load reads back to an equal struct; malloc'ed, NULL without
 * memory. */
char *config_to_yaml(const Config *config);

/* SHA-256 (hex) over the keys that decide the training's arithmetic (not run.dir, logging, keep, watchdog, backend). */
void config_hash(const Config *config, char hex[65]);

/* What a key means to a run folder that was begun with another value of it. */
typedef enum ConfigChange {
    CHANGE_FREE,    /* goes on with the new value */
    CHANGE_ORDER,   /* decides which samples a batch holds: may change between epochs only */
    CHANGE_IDENTITY /* makes the run what it is: must not change */
} ConfigChange;

/* The keys that decide a run's arithmetic, or are part of its identity, as lines "name=value" in `out`
 * [CONFIG_SETTINGS].
 */
enum { CONFIG_SETTINGS = 6144 };
void config_settings(const Config *config, char out[CONFIG_SETTINGS]);

typedef void TellDifference(void *ctx, ConfigChange change, const char *key, const char *was, const char *is);

/* Calls `tell` for each key of `settings` whose value in `config` is another. Keys that do not exist any more are left
 * out. A key of a run's identity that the settings do not name is younger than they are: the run had its default. Empty
 * settings say nothing. */
void config_compare(const Config *config, const char *settings, TellDifference *tell, void *ctx);

/* Name of an enum-valued key's value, e.g. config_name("method", METHOD_EXCON) = "excon". */
const char *config_name(const char *key, int value);

/* Every key with type, range, defaults per profile and help, for `excon help config`. */
void config_describe(FILE *out);

#endif
