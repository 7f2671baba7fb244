/* The encoders' lists of layers: parameters by the published counts, wiring and stages, a net deeper than any of the
 * table, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/model/encoders/encoders.h"

static Model built(const Encoder *encoder, int width, int side) {
    Model m = {.dtype = DTYPE_F32, .shape = {.width = width, .classes = 2, .projection = 2, .size = side}};
    Error err;
    if (encoder_build_as(&m, encoder, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return m;
}

static int64_t parameters(const Model *m) {
    int64_t sum = 0;
    for (int i = 0; i < m->param_count; i++)
        sum += m->params[i].count;
    return sum;
}

/* torchvision's counts without fc, and with 3x3 instead of 7x7 weights in the stem; for WideResNets those of the common
 * PyTorch implementation for CIFAR-10, without fc. */
static void test_published_counts(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t count;
    } known[] = {{"resnet18", 11689512 - 513 * 1000 - 3 * 64 * (49 - 9)},
                 {"resnet34", 21797672 - 513 * 1000 - 3 * 64 * (49 - 9)},
                 {"resnet50", 25557032 - 2049 * 1000 - 3 * 64 * (49 - 9)},
                 {"resnet101", 44549160 - 2049 * 1000 - 3 * 64 * (49 - 9)},
                 {"wrn-28-10", 36479194 - 641 * 10},
                 {"wrn-40-2", 2243546 - 129 * 10}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        const Encoder *encoder = encoders;
        while (encoder->name && strcmp(encoder->name, known[k].name) != 0)
            encoder++;
        assert_non_null(encoder->name);
        Model m = built(encoder, 64, 32);
        assert_int_equal(parameters(&m), known[k].count);
        model_free(&m);
    }
}

/* More layers than any encoder of the table has; resnet152 is torchvision's again. */
static void test_deeper_than_the_table(void **state) {
    (void)state;
    static const Encoder deep = {"resnet152", resnet_build, {3, 8, 36, 3, 1}},
                         deeper = {"resnet1202", resnet_build, {100, 100, 200, 200, 0}};
    Model m = built(&deep, 64, 32);
    assert_int_equal(m.layer_count, 2 * (1 + 3 * 50 + 4));
    assert_int_equal(parameters(&m), 60192808 - 2049 * 1000 - 3 * 64 * (49 - 9));
    Plan plan;
    Error err;
    assert_int_equal(plan_init_train(&plan, &m, 4, &err), STATUS_OK);
    assert_true(plan.bytes > 0);
    plan_free(&plan);
    model_free(&m);
    m = built(&deeper, 4, 8);
    assert_int_equal(m.layer_count, 2 * (1 + 2 * 600 + 3));
    model_free(&m);
}

static void check_wiring(const Model *m) {
    for (int i = 0; i < m->layer_count; i++) {
        const Layer *layer = &m->layers[i];
        assert_int_equal(layer->out, i + 1);
        assert_ptr_equal(model_producer(m, layer->out), layer);
        assert_true(layer->dy >= 0 && layer->dx >= 0 && layer->dy2 != layer->dy);
        assert_memory_equal(&m->gradients[layer->dy], &m->tensors[layer->out], sizeof(TensorShape));
        assert_memory_equal(&m->gradients[layer->dx], &m->tensors[layer->in], sizeof(TensorShape));
        if (layer->dy2 >= 0)
            assert_memory_equal(&m->gradients[layer->dy2], &m->tensors[layer->out], sizeof(TensorShape));
        if (layer->residual >= 0)
            assert_memory_equal(&m->tensors[layer->residual], &m->tensors[layer->out], sizeof(TensorShape));
    }
    for (int i = 0; i < m->param_count; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(m->params[i].name, m->params[j].name);
}

static void check_stages(const Model *m) {
    Error err;
    int tensor, before = 0;
    for (int stage = 1; stage <= m->stage_count; stage++) {
        assert_int_equal(model_explain_tensor(m, stage, &tensor, &err), STATUS_OK);
        assert_true(tensor > before);
        assert_int_equal(model_readers(m, tensor, NULL), 1);
        before = tensor;
    }
    assert_true(m->stage_count >= 2);
    assert_int_equal(model_explain_tensor(m, 0, &tensor, &err), STATUS_OK);
    assert_int_equal(tensor, m->stage[m->shape.size >= 64 ? m->stage_count - 1 : 1]);
}

static void test_every_encoder(void **state) {
    (void)state;
    static const int sides[] = {8, 9, 32, 64};
    for (const Encoder *encoder = encoders; encoder->name; encoder++)
        for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
            Model m = built(encoder, 64, sides[s]);
            check_wiring(&m);
            check_stages(&m);
            model_free(&m);
        }
}

static void test_refused(void **state) {
    (void)state;
    Model m = {.shape = {.encoder = "resnet19", .width = 64, .classes = 2, .projection = 2, .size = 32}};
    Error err;
    int tensor;
    assert_int_equal(encoder_build(&m, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.message, "model.encoder 'resnet19' is not one of resnet10, resnet18"));
    for (const Encoder *encoder = encoders; encoder->name; encoder++)
        assert_non_null(strstr(err.message, encoder->name));
    m = (Model){.shape = {.encoder = "wrn-40-2", .width = 6, .classes = 2, .projection = 2, .size = 32}};
    assert_int_equal(encoder_build(&m, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.message, "model.width 6: a WideResNet"));
    model_free(&m);
    m = (Model){.shape = {.encoder = "three", .size = 32}, .stage = {3, 5, 7}, .stage_count = 3};
    assert_int_equal(model_explain_tensor(&m, 3, &tensor, &err), STATUS_OK);
    assert_int_equal(tensor, 7);
    assert_int_equal(model_explain_tensor(&m, 4, &tensor, &err), STATUS_CONFIG);
    assert_string_equal(err.message, "explain.layer: layer4, but model.encoder three has layer1 to layer3 only");
}

/* ---- lists of layers that cannot be walked backward ---- */

static Status three_readers(Model *model, const int *depth, int *output, Error *err) {
    (void)depth, (void)err;
    int x = model_add_norm(model, "a", model_add_conv(model, "b", 0, 4, 3, 1), -1, true);
    int y = model_add_norm(model, "d", model_add_conv(model, "c", x, 4, 3, 1), x, true);
    *output = model_add_norm(model, "f", model_add_conv(model, "e", x, 4, 3, 1), y, true);
    return STATUS_OK;
}

static Status conv_with_two_readers(Model *model, const int *depth, int *output, Error *err) {
    (void)depth, (void)err;
    int x = model_add_conv(model, "a", 0, 4, 3, 1);
    *output = model_add_norm(model, "c", model_add_conv(model, "b", x, 4, 3, 1), x, true);
    return STATUS_OK;
}

static void test_unwalkable(void **state) {
    (void)state;
    static const Encoder wrong[] = {{"three_readers", three_readers, {0}}, {"two", conv_with_two_readers, {0}}};
    static const char *const messages[] = {"three_readers: more than two layers read the output of layer 1",
                                           "two: two layers read the output of convolution a.weight"};
    for (int i = 0; i < 2; i++) {
        Model m = {.shape = {.width = 64, .classes = 2, .projection = 2, .size = 8}};
        snprintf(m.shape.encoder, sizeof m.shape.encoder, "%s", wrong[i].name);
        Error err;
        assert_int_equal(encoder_build_as(&m, &wrong[i], &err), STATUS_INTERNAL);
        assert_non_null(strstr(err.message, messages[i]));
        model_free(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_counts), cmocka_unit_test(test_deeper_than_the_table),
        cmocka_unit_test(test_every_encoder), cmocka_unit_test(test_refused), cmocka_unit_test(test_unwalkable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
