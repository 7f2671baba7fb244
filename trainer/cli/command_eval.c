/* excon eval RUN: one checkpoint of a run on the official validation split, distributed over the ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files/files.h"
#include "io/records/records.h"
#include "trainer/cli/commands.h"
#include "trainer/cli/options.h"
#include "trainer/evaluate/evaluator.h"
#include "trainer/run/runtime.h"
#include "trainer/run/state.h"

typedef struct EvalRun {
    const char *run;        /* run folder */
    const char *checkpoint; /* best | last | a file */
    const char *data;       /* dataset folder instead of the run's */
    int reductions, json;
    char path[1200]; /* of the checkpoint */
    Config config;
    Runtime runtime;
    Dataset dataset;
    Model model;
    CheckpointMeta meta;
    Evaluator evaluator;
    int64_t *ids, count;
} EvalRun;

/* The checkpoint asked for; without a choice best.h5, or last.h5 when no epoch was evaluated. */
static Status find_checkpoint(EvalRun *e, Error *err) {
    const char *names[] = {"best", "last"};
    const int chosen = strcmp(e->checkpoint, "auto") != 0;
    for (int i = 0; i < 2; i++) {
        if (chosen && strcmp(e->checkpoint, names[i]) != 0)
            continue;
        snprintf(e->path, sizeof e->path, "%s/checkpoints/%s.h5", e->run, names[i]);
        if (files_exists(e->path))
            return STATUS_OK;
    }
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
    if (status == STATUS_OK) {
        e->model.bn_eps = (float)e->config.bn.eps;
        status = state_restore(&e->model, &file, 0, err);
    }
    checkpoint_free(&file);
    return status;
}

static Status open_data(EvalRun *e, Error *err) {
    RETURN_IF(dataset_open(&e->dataset, e->data ? e->data : e->config.data.dir, 0, err));
    if (e->dataset.height != e->model.shape.size || e->dataset.classes < e->model.shape.classes)
        return error_set(err, STATUS_DATA, "%s has %d classes of %d pixels, the model %d of %d", e->dataset.dir,
                         e->dataset.classes, e->dataset.height, e->model.shape.classes, e->model.shape.size);
    RETURN_IF(dataset_select_classes(&e->dataset, SPLIT_VAL, e->model.shape.classes, &e->ids, &e->count, err));
    if (e->count == 0)
        return error_set(err, STATUS_DATA, "%s has no val images", e->dataset.dir);
    return STATUS_OK;
}

static void result_json(const EvalRun *e, const EvalResult *r, Json *json) {
    json_init(json);
    json_begin_object(json, NULL);
    json_string(json, "event", "eval");
    json_string(json, "checkpoint", e->path);
    json_integer(json, "step", e->meta.step);
    json_integer(json, "epoch", checkpoint_epoch(&e->meta));
    json_string(json, "method", e->meta.method);
    json_string(json, "split", "val");
    json_integer(json, "count", r->count);
    json_number(json, "top1", r->top1);
    json_number(json, "top5", r->top5);
    json_number(json, "nll", r->nll);
    if (r->reductions & EVAL_TOP) {
        json_number(json, "drop", r->top.drop);
        json_number(json, "increase", r->top.increase);
        json_number(json, "gain", r->top.gain);
        json_number(json, "decrease", r->top.decrease);
    }
    if (r->reductions & EVAL_SOFT) {
        json_number(json, "soft_drop", r->soft.drop);
        json_number(json, "soft_increase", r->soft.increase);
        json_number(json, "soft_gain", r->soft.gain);
        json_number(json, "soft_decrease", r->soft.decrease);
    }
    json_end_object(json);
}

static void print_faithfulness(const char *title, const Faithfulness *f) {
    printf("  %s:\n"
           "  drop       %6.2f %%   mean relative loss of confidence\n"
           "  increase   %6.2f %%   images whose confidence rises\n"
           "  gain       %6.2f %%   mean relative rise\n"
           "  decrease   %6.2f %%   images whose confidence falls\n",
           title, 100 * f->drop, 100 * f->increase, 100 * f->gain, 100 * f->decrease);
}

static void print_table(const EvalRun *e, const EvalResult *r) {
    printf("%s, epoch %lld, step %lld: %s on %lld val images of %s (%d rank%s, %s)\n", e->path,
           (long long)checkpoint_epoch(&e->meta), (long long)e->meta.step, e->meta.method, (long long)r->count,
           e->dataset.dir, e->runtime.comm.size, e->runtime.comm.size == 1 ? "" : "s", runtime_precision(&e->runtime));
    printf("  val top-1  %6.2f %%\n", 100 * r->top1);
    if (e->meta.classes > 5)
        printf("  val top-5  %6.2f %%\n", 100 * r->top5);
    printf("  val nll    %8.4f\n", r->nll);
    if (r->reductions & EVAL_TOP)
        print_faithfulness("the most salient 15 % of pixels kept (as published)", &r->top);
    if (r->reductions & EVAL_SOFT)
        print_faithfulness("the image times its saliency map (as Grad-CAM++ measures)", &r->soft);
}

/* eval.json is replaced, metrics.jsonl gets a line. */
static Status record(const EvalRun *e, const EvalResult *r, Error *err) {
    char path[1200];
    Json json;
    Metrics *metrics = NULL;
    result_json(e, r, &json);
    if (e->json)
        printf("%s\n", json.text);
    else
        print_table(e, r);
    snprintf(path, sizeof path, "%s/eval.json", e->run);
    Status status = files_write_atomic(path, json.text, json.size, 0, err);
    snprintf(path, sizeof path, "%s/metrics.jsonl", e->run);
    if (status == STATUS_OK)
        status = metrics_open(&metrics, path, -1, err);
    if (status == STATUS_OK)
        status = metrics_write(metrics, &json, err);
    metrics_close(metrics);
    json_free(&json);
    return status;
}

static Status run(EvalRun *e, Error *err) {
    Comm *comm = &e->runtime.comm;
    EvalResult result;
    RETURN_IF(runtime_open(&e->runtime, &e->config, NULL, 0, err));
    RETURN_IF(comm_agree(comm, load_model(e, err), err));
    RETURN_IF(comm_agree(comm, open_data(e, err), err));
    RETURN_IF(
        comm_agree(comm, evaluator_init(&e->evaluator, &e->config, &e->model, e->meta.mean, e->meta.std, err), err));
    RETURN_IF(evaluator_run(&e->evaluator, &e->dataset, SPLIT_VAL, e->ids, e->count, e->reductions, &result, err));
    return comm_agree(comm, comm->rank == 0 ? record(e, &result, err) : STATUS_OK, err);
}

/* A comma-separated list of accuracy, faithfulness, soft and all. */
static Status choose_suite(const char *suite, int *reductions, Error *err) {
    char copy[256], *state = NULL;
    *reductions = 0;
    snprintf(copy, sizeof copy, "%s", suite);
    for (char *name = strtok_r(copy, ",", &state); name; name = strtok_r(NULL, ",", &state)) {
        if (strcmp(name, "all") == 0)
            *reductions |= EVAL_TOP | EVAL_SOFT;
        else if (strcmp(name, "faithfulness") == 0)
            *reductions |= EVAL_TOP;
        else if (strcmp(name, "soft") == 0)
            *reductions |= EVAL_SOFT;
        else if (strcmp(name, "accuracy") != 0)
            return error_set(err, STATUS_USAGE, "unknown suite '%.40s'; there are accuracy, faithfulness, soft, all",
                             name);
    }
    return STATUS_OK;
}

Status command_eval(int argc, char **argv, Error *err) {
    EvalRun e = {.checkpoint = "auto"};
    OptionList sets = {0}, positional = {0};
    const char *suite = "all";
    const Option options[] = {
        {"suite", "LIST", OPTION_TEXT, &suite,
         "accuracy; faithfulness (drop, increase: top 15 % of pixels kept); soft (image times map); all"},
        {"json", NULL, OPTION_FLAG, &e.json, "print one JSON object instead of the table"},
        {"checkpoint", "best|last|FILE", OPTION_TEXT, &e.checkpoint, "default: best, else last"},
        {"data", "DIR", OPTION_TEXT, &e.data, "another dataset folder than the run's"},
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key of the run's configuration"},
    };
    const OptionTable table = {.usage = "eval RUN [--suite all|accuracy,faithfulness,soft] [--json]",
                               .options = options,
                               .option_count = sizeof options / sizeof *options,
                               .positional_min = 1,
                               .positional_max = 1};
    int help = 0;
    RETURN_IF(options_parse(&table, argc, argv, &positional, &help, err));
    if (help)
        return STATUS_OK;
    RETURN_IF(choose_suite(suite, &e.reductions, err));
    e.run = positional.items[0];
    char path[1200];
    snprintf(path, sizeof path, "%s/config.yaml", e.run);
    if (!files_exists(path))
        return error_set(err, STATUS_NO_INPUT, "%s is no run folder: it has no config.yaml", e.run);
    RETURN_IF(config_load(&e.config, path, sets.items, sets.count, err));
    Status status = run(&e, err);
    evaluator_free(&e.evaluator);
    model_free(&e.model);
    dataset_close(&e.dataset);
    free(e.ids);
    return runtime_close(&e.runtime, status, err);
}
