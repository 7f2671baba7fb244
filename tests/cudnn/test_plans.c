/* The plans that the real cuDNN offers for the convolutions of the shipped encoders, on GPUs that need not be here:
 * cuDNN 9.8 and newer choose for a device that is only described. Nothing is executed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#ifdef EXCON_CUDNN
#include "kernels/cuda/products/cudnn_plan.h"
#endif

#if defined EXCON_CUDNN && CUDNN_VERSION >= 90800

static const char *const devices[] = {
    "{\"deviceName\":\"A100\",\"cudaDeviceId\":0,\"deviceVer\":800,\"driverVer\":13000,\"isTccDriver\":0,"
    "\"l2CacheSize\":41943040,\"maxCtasPerSM\":32,\"maxRegistersPerSM\":65536,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":166912,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"
    "\"memClockRateKHz\":1215000,\"multiProcessorCount\":108,\"pciDeviceId\":0,\"regsPerBlock\":65536,"
    "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":1410000,\"supportCoopLaunch\":1,"
    "\"totalGlobalMem\":42949672960,\"warpSize\":32,\"maxBlockSize\":[1024,1024,64],"
    "\"maxGridSize\":[2147483647,65535,65535]}",
    "{\"deviceName\":\"H100\",\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,\"isTccDriver\":0,"
    "\"l2CacheSize\":52428800,\"maxCtasPerSM\":32,\"maxRegistersPerSM\":65536,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"
    "\"memClockRateKHz\":2619000,\"multiProcessorCount\":132,\"pciDeviceId\":0,\"regsPerBlock\":65536,"
    "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":1980000,\"supportCoopLaunch\":1,"
    "\"totalGlobalMem\":85899345920,\"warpSize\":32,\"maxBlockSize\":[1024,1024,64],"
    "\"maxGridSize\":[2147483647,65535,65535]}",
};
enum { DEVICES = sizeof devices / sizeof *devices };

static CudnnTarget target_of(const char *device) {
    CudnnTarget target = {NULL, NULL};
    assert_int_equal(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &target.properties), 0);
    assert_int_equal(cudnnBackendSetAttribute(target.properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                              CUDNN_TYPE_CHAR, (int64_t)strlen(device) + 1, device),
                     0);
    assert_int_equal(cudnnBackendFinalize(target.properties), 0);
    return target;
}

static const size_t WORKSPACE_LIMIT = (size_t)512 << 20;

static void check_plan(const CudnnTarget *target, const ConvGeometry *g, DType type, int64_t N, ConvPass pass,
                       int epilogue) {
    const ConvPlan conv = {.geometry = *g,
                           .type = type,
                           .P = conv_out(g->H, g->R, g->stride, g->pad),
                           .Q = conv_out(g->W, g->R, g->stride, g->pad)};
    CudnnVariant variants[2];
    CudnnPlan plan;
    char why[CUDNN_WHY], text[256];
    const int count = cudnn_variants(pass, type, epilogue, variants);
    snprintf(text, sizeof text, "%dx%d, %d -> %d, %dx%d, stride %d, %s, %lld rows, pass %d, epilogue %d", g->R, g->R,
             g->C, g->K, g->H, g->W, g->stride, type == DTYPE_BF16 ? "bf16" : "f32", (long long)N, (int)pass, epilogue);
    if (!cudnn_plan_find(target, &conv, pass, N, variants, count, WORKSPACE_LIMIT, &plan, why))
        fail_msg("%s: no plan: %s", text, why);
    if (plan.compiled || plan.workspace > WORKSPACE_LIMIT || plan.tensor_cores != (type == DTYPE_BF16) ||
        plan.variant.epilogue != epilogue)
        fail_msg("%s: compiled at run time %d, tensor cores %d, workspace %zu, epilogue %d", text, plan.compiled,
                 plan.tensor_cores, plan.workspace, plan.variant.epilogue);
    cudnn_plan_free(&plan);
    assert_null(plan.descriptor);
}

static void check_convolution(const CudnnTarget *target, ConvGeometry g, DType type, int64_t N) {
    static const int epilogues[] = {0, EPILOGUE_BIAS, EPILOGUE_BIAS | EPILOGUE_RELU, EPILOGUE_BIAS | EPILOGUE_ADD,
                                    EPILOGUE_BIAS | EPILOGUE_ADD | EPILOGUE_RELU};
    for (size_t i = 0; i < sizeof epilogues / sizeof *epilogues; i++)
        check_plan(target, &g, type, N, CONV_FORWARD, epilogues[i]);
    check_plan(target, &g, type, N, CONV_BACKWARD_DATA, 0);
    check_plan(target, &g, type, N, CONV_BACKWARD_WEIGHT, 0);
}

/* The stem, and what the stages of ResNet-18 and ResNet-50 consist of, for 64x64 pixels. */
static void check_encoders(const CudnnTarget *target, DType type, int64_t N) {
    check_convolution(target, (ConvGeometry){64, 64, 3, 64, 3, 1, 1}, type, N);
    for (int stage = 0; stage < 4; stage++) {
        const int C = 64 << stage, side = 64 >> stage, stride = stage ? 2 : 1, before = side * stride;
        check_convolution(target, (ConvGeometry){side, side, C, C, 3, 1, 1}, type, N);
        check_convolution(target, (ConvGeometry){side, side, C, 4 * C, 1, 1, 0}, type, N);
        check_convolution(target, (ConvGeometry){side, side, 4 * C, C, 1, 1, 0}, type, N);
        if (stage == 0)
            continue;
        check_convolution(target, (ConvGeometry){before, before, C / 2, C, 3, 2, 1}, type, N);
        check_convolution(target, (ConvGeometry){before, before, C / 2, C, 1, 2, 0}, type, N);
        check_convolution(target, (ConvGeometry){before, before, 2 * C, 4 * C, 1, 2, 0}, type, N);
    }
}

static void test_bf16(void **state) {
    (void)state;
    for (int i = 0; i < DEVICES; i++) {
        const CudnnTarget target = target_of(devices[i]);
        check_encoders(&target, DTYPE_BF16, 512);
        check_encoders(&target, DTYPE_BF16, 37);
        cudnnBackendDestroyDescriptor(target.properties);
    }
}

static void test_f32(void **state) {
    (void)state;
    for (int i = 0; i < DEVICES; i++) {
        const CudnnTarget target = target_of(devices[i]);
        check_encoders(&target, DTYPE_F32, 256);
        cudnnBackendDestroyDescriptor(target.properties);
    }
}

/* The odd shapes of tests/unit/kernels/test_conv.c. */
static void test_odd_shapes(void **state) {
    (void)state;
    static const ConvGeometry odd[] = {{7, 5, 3, 8, 3, 1, 1},  {9, 9, 16, 32, 3, 2, 1},  {8, 8, 16, 24, 1, 2, 0},
                                       {8, 6, 17, 5, 1, 1, 0}, {11, 13, 3, 16, 7, 2, 3}, {3, 3, 5, 7, 3, 1, 0}};
    for (int i = 0; i < DEVICES; i++) {
        const CudnnTarget target = target_of(devices[i]);
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++)
            for (DType type = DTYPE_F32; type <= DTYPE_BF16; type++)
                check_convolution(&target, odd[k], type, 3);
        cudnnBackendDestroyDescriptor(target.properties);
    }
}

/* What cannot be is said, with the call that said so. */
static void test_refusal(void **state) {
    (void)state;
    const CudnnTarget target = target_of(devices[0]);
    ConvPlan conv = {.geometry = {8, 8, 16, 16, 3, 1, 1}, .type = DTYPE_BF16, .P = 5, .Q = 8}; /* P is 8 */
    CudnnVariant variants[2];
    CudnnPlan plan;
    char why[CUDNN_WHY];
    const int count = cudnn_variants(CONV_FORWARD, DTYPE_BF16, 0, variants);
    assert_int_equal(cudnn_plan_find(&target, &conv, CONV_FORWARD, 4, variants, count, WORKSPACE_LIMIT, &plan, why), 0);
    assert_null(plan.descriptor);
    assert_non_null(strstr(why, "cudnnBackend"));
    conv.P = 8;
    assert_int_equal(cudnn_plan_find(&target, &conv, CONV_FORWARD, 4, variants, count, WORKSPACE_LIMIT, &plan, why), 1);
    cudnn_plan_free(&plan);
    cudnnBackendDestroyDescriptor(target.properties);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16), cmocka_unit_test(test_f32),
                                       cmocka_unit_test(test_odd_shapes), cmocka_unit_test(test_refusal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_plans(void **state) {
    (void)state;
    print_message("no cuDNN 9.8 or newer was found when this was built\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
