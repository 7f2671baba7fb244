/* excon eval RUN|CHECKPOINT: one checkpoint on the official validation split, distributed over the ranks. */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/files/files.h"
#include "io/images/encode.h"
#include "io/records/records.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/evaluate/results.h"
#include "trainer/run/resume/state.h"
#include "trainer/run/runtime.h"
#include "trainer/run/trainer.h"

typedef struct EvalRun {
    char folder[1100];
    const char *run;        /* run folder; NULL: a checkpoint that lies in none */
    const char *checkpoint; /* best | last | a file */
    const char *data;       /* dataset folder instead of the run's */
    const char *sheet_path; /* where to draw explained images; NULL: nowhere */
    MetricSet metrics;
    int json;
    char path[PATH_MAX]; /* of the checkpoint */
    char digest[65];
    Config config;
    Runtime runtime;
    Dataset dataset;
    Model model;
    CheckpointMeta meta;
    Evaluator evaluator;
    Sheet sheet;
    int64_t *ids, count;
} EvalRun;

/* The checkpoint asked for; without a choice best.h5, or last.h5 when no epoch was evaluated, or the newest one when
 * those names were lost on the way. */
static Status find_checkpoint(EvalRun *e, Error *err) {
    if (e->path[0])
        return STATUS_OK;
    const char *names[] = {"best", "last"};
    const int chosen = strcmp(e->checkpoint, "auto") != 0;
    char folder[1200], name[16];
    snprintf(folder, sizeof folder, "%s/checkpoints", e->run);
    for (int i = 0; i < 2; i++) {
        if (chosen && strcmp(e->checkpoint, names[i]) != 0)
            continue;
        snprintf(name, sizeof name, "%s.h5", names[i]);
        if (checkpoint_locate(folder, name, e->path))
            return STATUS_OK;
    }
    if (!chosen && checkpoint_locate(folder, NULL, e->path))
        return STATUS_OK;
    if (chosen && strcmp(e->checkpoint, "best") != 0 && strcmp(e->checkpoint, "last") != 0) {
        snprintf(e->path, sizeof e->path, "%s", e->checkpoint);
        return STATUS_OK;
    }
    return error_set(err, STATUS_NO_INPUT, "%s holds no checkpoint %s; train first: excon train CONFIG", e->run,
                     chosen ? e->checkpoint : "best.h5 or last.h5");
}

static Status load_model(EvalRun *e, Error *err) {
    CheckpointFile file;
    RETURN_IF(find_checkpoint(e, err));
    RETURN_IF(checkpoint_load(e->path, &file, err));
    e->meta = file.meta;
    ModelShape shape;
    state_shape(&file.meta, &shape);
    Status status = model_init(&e->model, &e->runtime.device, &e->runtime.comm, &shape, e->runtime.dtype,
                               (uint64_t)e->config.seed, err);
    if (status == STATUS_OK)
        status = identity_classes(e->path, &file, &e->dataset, err);
    if (status == STATUS_OK) {
        e->model.bn_eps = (float)e->config.bn.eps;
        status = state_restore(&e->model, NULL, &file, err);
    }
    if (status == STATUS_OK)
        status = checkpoint_digest(&file, e->digest, err);
    checkpoint_free(&file);
    return status;
}

static Status choose_images(EvalRun *e, Error *err) {
    if (e->dataset.height != e->model.shape.size)
        return error_set(err, STATUS_DATA, "%s holds images of %d pixels, the model was trained on %d", e->dataset.dir,
                         e->dataset.height, e->model.shape.size);
    RETURN_IF(dataset_select_classes(&e->dataset, SPLIT_VAL, e->model.shape.classes, &e->ids, &e->count, err));
    if (e->count == 0)
        return error_set(err, STATUS_DATA, "%s has no val images", e->dataset.dir);
    return STATUS_OK;
}

/* What is evaluated: of a later record with the same beginning the numbers belong together. */
static void begin_json(const EvalRun *e, const EvalResult *r, Json *json) {
    json_init(json);
    json_begin_object(json, NULL);
    json_string(json, "event", "eval");
    json_integer(json, "schema", RECORDS_SCHEMA);
    json_string(json, "checkpoint", e->path);
    json_string(json, "digest", e->digest);
    json_integer(json, "step", e->meta.step);
    json_integer(json, "epoch", checkpoint_epoch(&e->meta));
    json_string(json, "method", e->meta.method);
    json_string(json, "data", e->dataset.dir);
    json_string(json, "split", "val");
    json_string(json, "precision", runtime_precision(&e->runtime));
    json_integer(json, "count", r->count);
}

static void print_table(const EvalRun *e, const EvalResult *r) {
    printf("%s: %s, epoch %lld, step %lld\n", e->path, e->meta.method, (long long)checkpoint_epoch(&e->meta),
           (long long)e->meta.step);
    printf("  on %lld val images of %s, %d rank%s, %s\n", (long long)r->count, e->dataset.dir, e->runtime.comm.size,
           e->runtime.comm.size == 1 ? "" : "s", runtime_precision(&e->runtime));
    results_table(r, e->model.shape.classes, "val", stdout);
}

/* eval.json keeps what another suite measured of the same checkpoint. */
static Status replace_results(const EvalRun *e, const EvalResult *r, Error *err) {
    enum { LIMIT = 1 << 20 };
    char path[1200], *earlier = NULL;
    size_t size;
    Json json;
    snprintf(path, sizeof path, "%s/eval.json", e->run);
    begin_json(e, r, &json);
    const size_t head = json.size;
    const int same = files_exists(path) && files_read(path, LIMIT, &earlier, &size, NULL) == STATUS_OK && json.text &&
                     size > head && memcmp(earlier, json.text, head) == 0;
    results_json(r, &json);
    if (same)
        results_json_kept(r, earlier, &json);
    json_end_object(&json);
    json_end_line(&json);
    Status status = json.text ? files_write_atomic(path, json.text, json.size, 0, err)
                              : error_set(err, STATUS_SYSTEM, "no memory for %s", path);
    free(earlier);
    json_free(&json);
    return status;
}

/* A folder of its own: TensorBoard reads only the newest file of a folder that training may still be writing to. */
static Status write_events(const EvalRun *e, const EvalResult *r, Error *err) {
    char path[1200];
    Events *events = NULL;
    snprintf(path, sizeof path, "%s/events/eval", e->run);
    RETURN_IF(events_open(&events, path, err));
    results_events(r, e->model.shape.classes, "val", e->meta.step, events);
    Status status = events_flush(events, err);
    events_close(events);
    return status;
}

/* Into the run folder: eval.json, a line of metrics.jsonl, TensorBoard's events. */
static Status write_records(const EvalRun *e, const EvalResult *r, const Json *line, Error *err) {
    char path[1200];
    Metrics *metrics = NULL;
    RETURN_IF(replace_results(e, r, err));
    snprintf(path, sizeof path, "%s/metrics.jsonl", e->run);
    RETURN_IF(metrics_open(&metrics, path, -1, err));
    Status status = metrics_write(metrics, line, err);
    metrics_close(metrics);
    return status == STATUS_OK ? write_events(e, r, err) : status;
}

static Status record(const EvalRun *e, const EvalResult *r, Error *err) {
    Json json;
    begin_json(e, r, &json);
    results_json(r, &json);
    json_end_object(&json);
    if (e->json)
        printf("%s\n", json.text);
    else
        print_table(e, r);
    Status status = e->run ? write_records(e, r, &json, err) : STATUS_OK;
    if (!e->run && !e->json)
        printf("printed only: %s lies in no run folder\n", e->path);
    json_free(&json);
    return status;
}

static Status write_sheet(const EvalRun *e, Error *err) {
    uint8_t *rgb = NULL, *file = NULL;
    size_t size = 0;
    int height, width;
    Status status = sheet_draw(&e->sheet, e->config.explain.threshold, &rgb, &height, &width, err);
    if (status == STATUS_OK)
        status = image_encode_png(rgb, height, width, &file, &size, err);
    if (status == STATUS_OK)
        status = files_write_atomic(e->sheet_path, file, size, 0, err);
    free(rgb);
    free(file);
    return status;
}

/* On rank 0. */
static Status write_all(const EvalRun *e, const EvalResult *result, Error *err) {
    RETURN_IF(record(e, result, err));
    return e->sheet_path ? write_sheet(e, err) : STATUS_OK;
}

static Status run(EvalRun *e, Error *err) {
    Comm *comm = &e->runtime.comm;
    EvalResult result;
    RETURN_IF(runtime_open(&e->runtime, &e->config, NULL, 0, err));
    RETURN_IF(comm_agree(comm, dataset_open(&e->dataset, e->data ? e->data : e->config.data.dir, 0, err), err));
    RETURN_IF(comm_agree(comm, load_model(e, err), err));
    RETURN_IF(comm_agree(comm, choose_images(e, err), err));
    const ExplainOptions explanation = evaluator_explanation(&e->config, e->meta.mean, e->meta.std);
    RETURN_IF(comm_agree(comm,
                         evaluator_init(&e->evaluator, &e->config, &e->model, e->count, e->metrics, &explanation,
                                        e->meta.mean, e->meta.std, err),
                         err));
    if (e->sheet_path) {
        RETURN_IF(comm_agree(comm, sheet_init(&e->sheet, e->dataset.height, err), err));
        e->evaluator.sheet = &e->sheet;
    }
    RETURN_IF(evaluator_run(&e->evaluator, &e->dataset, SPLIT_VAL, e->ids, e->count, &result, err));
    if (result.nonfinite)
        return error_set(
            err, STATUS_DATA,
            "%s: the model's outputs are NaN or infinite on %lld of %lld val images, so nothing was recorded: "
            "its parameters or running statistics are damaged or diverged; evaluate an earlier checkpoint",
            e->path, (long long)result.nonfinite, (long long)result.count);
    return comm_agree(comm, comm->rank == 0 ? write_all(e, &result, err) : STATUS_OK, err);
}

/* A comma-separated list of suites; accuracy always is one. */
static Status choose_suites(const char *list, MetricSet *metrics, Error *err) {
    char copy[256], known[200], *state = NULL;
    *metrics = metrics_of_suite("accuracy");
    snprintf(copy, sizeof copy, "%s", list);
    for (char *name = strtok_r(copy, ",", &state); name; name = strtok_r(NULL, ",", &state)) {
        const MetricSet chosen = metrics_of_suite(name);
        metrics_list_suites(", ", false, known, sizeof known);
        if (!chosen)
            return error_set(err, STATUS_USAGE, "unknown suite '%.40s'; there are %s, all", name, known);
        *metrics |= chosen;
    }
    return STATUS_OK;
}

/* The run folder that a file RUN/checkpoints/NAME lies in, "" otherwise. */
static void folder_of_run(const char *file, char run[1100]) {
    char copy[1200], real[PATH_MAX], config[1200];
    snprintf(copy, sizeof copy, "%s", file);
    const char *dir = realpath(dirname(copy), real);
    const char *name = dir ? strrchr(dir, '/') : NULL;
    run[0] = '\0';
    if (!name || strcmp(name, "/checkpoints") != 0)
        return;
    snprintf(run, 1100, "%.*s", (int)(name - dir), dir);
    snprintf(config, sizeof config, "%s/config.yaml", run);
    if (!files_exists(config))
        run[0] = '\0';
}

/* A run folder, or one of a run's checkpoints, or a checkpoint anywhere. */
static Status locate(EvalRun *e, const char *what, Error *err) {
    char config[1200];
    struct stat info;
    if (stat(what, &info) == 0 && S_ISREG(info.st_mode)) {
        if (strcmp(e->checkpoint, "auto") != 0)
            return error_set(err, STATUS_USAGE, "%s is a checkpoint itself: leave --checkpoint out", what);
        snprintf(e->path, sizeof e->path, "%s", what);
        folder_of_run(what, e->folder);
        e->run = e->folder[0] ? e->folder : NULL;
        return STATUS_OK;
    }
    e->run = what;
    snprintf(config, sizeof config, "%s/config.yaml", what);
    if (!files_exists(config))
        return error_set(err, STATUS_NO_INPUT, "%s is neither a checkpoint nor a run folder (which has a config.yaml)",
                         what);
    return STATUS_OK;
}

static Status load_config(EvalRun *e, const OptionList *sets, Error *err) {
    char path[1200];
    if (e->run)
        snprintf(path, sizeof path, "%s/config.yaml", e->run);
    /* Loose: what a run may be trained with was decided when it was, perhaps by a program that refused less. */
    RETURN_IF(config_load_loose(&e->config, e->run ? path : NULL, sets->items, sets->count, err));
    if (!e->data && !e->config.data.dir[0])
        return error_set(err, STATUS_USAGE, "%s lies in no run folder that would name its dataset: give --data DIR",
                         e->path);
    return STATUS_OK;
}

Status command_eval(int argc, char **argv, Error *err) {
    EvalRun e = {.checkpoint = "auto"};
    OptionList sets = {0}, positional;
    const char *suite = "all";
    char names[200], suites[400], usage[300], help_of_suites[420];
    metrics_list_suites(",", false, names, sizeof names);
    metrics_list_suites("; ", true, suites, sizeof suites);
    snprintf(usage, sizeof usage, "eval RUN|CHECKPOINT [--suite all|%s] [--json]", names);
    snprintf(help_of_suites, sizeof help_of_suites, "%s; all", suites);
    const Option options[] = {
        {"suite", "LIST", OPTION_TEXT, &suite, help_of_suites},
        {"json", NULL, OPTION_FLAG, &e.json, "print one JSON object instead of the table"},
        {"checkpoint", "best|last|FILE", OPTION_TEXT, &e.checkpoint, "default: best, else last"},
        {"data", "DIR", OPTION_TEXT, &e.data, "another dataset folder than the run's"},
        {"sheet", "FILE.png", OPTION_TEXT, &e.sheet_path,
         "draw up to eight explained images: image, saliency map, mask, masked image"},
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key of the run's configuration"},
    };
    const OptionTable table = OPTION_TABLE(usage, options, 1, 1);
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    RETURN_IF(choose_suites(suite, &e.metrics, err));
    RETURN_IF(locate(&e, positional.items[0], err));
    RETURN_IF(load_config(&e, &sets, err));
    Status status = run(&e, err);
    evaluator_free(&e.evaluator);
    model_free(&e.model);
    dataset_close(&e.dataset);
    sheet_free(&e.sheet);
    free(e.ids);
    return runtime_close(&e.runtime, status, err);
}
