/* The tables behind an evaluation: names of metrics and explainers, and an evaluator that takes any explainer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/import/import.h"
#include "tests/support/files/folder.h"
#include "tests/support/numbers/device_fixture.h"
#include "trainer/evaluate/results.h"
#include "trainer/method/explainers/explainers.h"

enum { CLASSES = 6, SIDE = 16, IMAGES = 5 * CLASSES };

static void test_metric_names(void **state) {
    const char *names[METRIC_COUNT * METRIC_NUMBERS];
    int count = 0;
    (void)state;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const Metric *metric = metric_at(m);
        assert_non_null(metric->add);
        assert_non_null(metric->finish);
        assert_true(!metric->open == !metric->close);
        assert_true(metrics_of_suite(metric->suite) >> m & 1);
        assert_non_null(metric->numbers[0].name);
        for (int n = 0; n < METRIC_NUMBERS && metric->numbers[n].name; n++) {
            assert_non_null(metric->numbers[n].label);
            for (int i = 0; i < count; i++)
                assert_string_not_equal(names[i], metric->numbers[n].name);
            names[count++] = metric->numbers[n].name;
        }
    }
    assert_true(metrics_of_suite("all") == ((MetricSet)1 << METRIC_COUNT) - 1);
    assert_true(metrics_of_suite("") == 0 && metrics_of_suite("accurac") == 0);
}

static void test_suite_lists(void **state) {
    char list[200], cut[10];
    (void)state;
    metrics_list_suites(", ", false, list, sizeof list);
    assert_ptr_equal(strstr(list, "accuracy, calibration, faithfulness, soft"), list);
    metrics_list_suites(", ", true, cut, sizeof cut);
    assert_string_equal(cut, "accuracy,");
}

static void test_explainer_names(void **state) {
    (void)state;
    for (int method = 0; method < EXPLAIN_METHOD_COUNT; method++) {
        assert_non_null(explainer_kind(method)->saliency);
        assert_string_not_equal(config_name("explain.method", method), "?");
    }
    assert_string_equal(config_name("explain.method", EXPLAIN_METHOD_COUNT), "?");
    assert_string_equal(config_name("explain.method", EXPLAIN_INTEGRATED), "integrated");
}

enum { BATCH = 12, PIXELS = SIDE * SIDE };

/* The sheet of `n` images in one batch, their labels explained. */
static void take_sheet(Model *model, const Dataset *dataset, const int64_t *ids, int64_t n, Sheet *sheet) {
    static Evaluator e;
    EvalResult result;
    Config config;
    Error err = {0};
    config_defaults(&config, PROFILE_RECOMMENDED);
    ExplainOptions options = evaluator_explanation(&config, dataset->mean, dataset->std);
    options.target = TARGET_LABEL;
    assert_int_equal(sheet_init(sheet, SIDE, &err), STATUS_OK);
    assert_int_equal(evaluator_init(&e, &config, model, n, metrics_of_suite("accuracy"), &options, dataset->mean,
                                    dataset->std, &err),
                     STATUS_OK);
    e.sheet = sheet;
    assert_int_equal(evaluator_run(&e, dataset, SPLIT_VAL, ids, n, &result, &err), STATUS_OK);
    evaluator_free(&e);
}

/* Of a batch larger than the sheet, images from all over it are explained, each with its own label. */
static void check_sheet(Model *model, const Dataset *dataset) {
    int64_t all[BATCH], chosen[SHEET_ROWS];
    Sheet of_all, of_chosen;
    for (int64_t i = 0; i < BATCH; i++)
        all[i] = 2 * i;
    for (int i = 0; i < SHEET_ROWS; i++)
        chosen[i] = all[i * BATCH / SHEET_ROWS];
    take_sheet(model, dataset, all, BATCH, &of_all);
    take_sheet(model, dataset, chosen, SHEET_ROWS, &of_chosen);
    assert_int_equal(of_all.rows, SHEET_ROWS);
    assert_memory_equal(of_all.images, of_chosen.images, SHEET_ROWS * PIXELS * 3);
    for (int row = 0; row < SHEET_ROWS; row++) {
        const float *map = of_all.maps + row * PIXELS, *other = of_chosen.maps + row * PIXELS;
        double difference = 0, size = 0;
        for (int p = 0; p < PIXELS; p++) {
            difference += pow((double)map[p] - (double)other[p], 2);
            size += pow((double)map[p], 2);
        }
        assert_true(size > 0 && difference <= 1e-8 * size);
    }
    sheet_free(&of_all);
    sheet_free(&of_chosen);
}

/* Numbers of the val split with maps by `method`. */
static EvalResult evaluate(Model *model, const Dataset *dataset, int method, const char *suite) {
    static Evaluator e;
    EvalResult result = {0};
    Config config;
    Error err = {0};
    int64_t ids[IMAGES];
    config_defaults(&config, PROFILE_RECOMMENDED);
    config.eval.batch = 7;
    config.explain.steps = 2;
    for (int64_t i = 0; i < IMAGES; i++)
        ids[i] = i;
    ExplainOptions options = evaluator_explanation(&config, dataset->mean, dataset->std);
    options.method = method;
    if (evaluator_init(&e, &config, model, IMAGES, metrics_of_suite(suite), &options, dataset->mean, dataset->std,
                       &err) != STATUS_OK ||
        evaluator_run(&e, dataset, SPLIT_VAL, ids, IMAGES, &result, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    evaluator_free(&e);
    return result;
}

static Status refuse(Device *device, size_t bytes, void **out, Error *err) {
    (void)device, (void)out;
    return error_set(err, STATUS_SYSTEM, "no %zu bytes", bytes);
}

/* A device without memory, and a stage that there is none of. */
static void check_failed_init(Device *d, Comm *comm) {
    const ModelShape shape = {.encoder = "wrn-40-2", .width = 4, .classes = CLASSES, .projection = 4, .size = SIDE};
    const Ops *all = d->ops;
    Ops ops = *all;
    MemoryOps memory = *all->memory;
    Model model;
    Heads heads;
    Explainer e;
    Error err;
    ExplainOptions options = {.method = EXPLAIN_GRADCAM, .bn = EXPLAIN_BN_RUNNING, .stage = 3};
    assert_int_equal(model_init(&model, d, comm, &shape, DTYPE_F32, 3, &err), STATUS_OK);
    assert_int_equal(heads_init(&heads, &model, 1, &err), STATUS_OK);
    memory.alloc = refuse;
    ops.memory = &memory;
    d->ops = &ops;
    assert_int_equal(explainer_init(&e, &options, &model, &heads, 1, &err), STATUS_SYSTEM);
    d->ops = all;
    assert_true(!e.model && !e.explain.offset && !e.infer.offset);
    options.stage = 4;
    assert_int_equal(explainer_init(&e, &options, &model, &heads, 1, &err), STATUS_CONFIG);
    assert_null(e.model);
    explainer_free(&e);
    heads_free(&heads);
    model_free(&model);
}

/* A model whose outputs are NaN: no measure of its probabilities is a number. */
static void check_nan(Model *model, const Dataset *dataset) {
    const float bad = NAN;
    const Metric *calibration = metric_at(METRIC_calibration);
    model->device->ops->memory->copy_in(model->device, model->master, &bad, sizeof bad);
    const EvalResult result = evaluate(model, dataset, EXPLAIN_GRADCAM, "calibration");
    assert_int_equal(result.nonfinite, IMAGES);
    for (int n = 0; n < METRIC_NUMBERS && calibration->numbers[n].name; n++)
        if (!isnan(results_value(&result, calibration->numbers[n].name)))
            fail_msg("%s is a number", calibration->numbers[n].name);
}

static void check_any_explainer(Device *d, const Dataset *dataset) {
    const ModelShape shape = {.encoder = "resnet10", .width = 8, .classes = CLASSES, .projection = 4, .size = SIDE};
    Comm comm;
    Model model;
    Error err;
    assert_int_equal(comm_init(&comm, &err), STATUS_OK);
    assert_int_equal(model_init(&model, d, &comm, &shape, DTYPE_F32, 3, &err), STATUS_OK);
    const EvalResult plain = evaluate(&model, dataset, EXPLAIN_GRADCAM, "accuracy");
    const EvalResult calibrated = evaluate(&model, dataset, EXPLAIN_GRADCAM, "calibration");
    double before = NAN;
    assert_int_equal(plain.count, IMAGES);
    assert_int_equal(plain.nonfinite, 0);
    assert_true(isnan(results_value(&plain, "drop")));
    const double ece = results_value(&calibrated, "ece");
    assert_true(ece > 0 && ece < 1);
    for (int method = 0; method < EXPLAIN_METHOD_COUNT; method++) {
        const EvalResult result = evaluate(&model, dataset, method, "all");
        const double drop = results_value(&result, "drop");
        assert_true(results_value(&result, "top1") == results_value(&plain, "top1"));
        assert_true(results_value(&result, "nll") == results_value(&plain, "nll"));
        assert_true(results_value(&result, "ece") == ece); /* other metrics' passes leave the logits alone */
        assert_true(drop >= 0 && drop <= 1 && results_value(&result, "soft_drop") <= 1);
        assert_true(drop != before); /* other maps keep other pixels */
        before = drop;
    }
    check_sheet(&model, dataset);
    check_nan(&model, dataset);
    model_free(&model);
    check_failed_init(d, &comm);
    comm_finalize(&comm);
}

static void test_explainers(void **state) {
    const SyntheticOptions synthetic = {7, CLASSES, SIDE, 2, IMAGES / CLASSES, 0.5};
    const ImportOptions options = {.threads = 1, .shard_rows = 16, .chunk_rows = 16};
    char dir[FOLDER_BYTES];
    Dataset dataset;
    Error err;
    folder_make(dir);
    assert_int_equal(import_synthetic(dir, &synthetic, &options, &err), STATUS_OK);
    assert_int_equal(dataset_open(&dataset, dir, 0, &err), STATUS_OK);
    check_any_explainer(*state, &dataset);
    dataset_close(&dataset);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metric_names),
        cmocka_unit_test(test_suite_lists),
        cmocka_unit_test(test_explainer_names),
        cmocka_unit_test(test_explainers),
    };
    return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
