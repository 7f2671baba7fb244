/* Opens the CPU device and owns its state: oneDNN engine and stream, scratch memory, and the operator table. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/processors.h"
#include "kernels/base/round.h"
#include "kernels/cpu/device/cpu_device.h"
#include "kernels/cpu/device/levels.h"
#include "kernels/cpu/products/onednn.h"
#include "kernels/ops.h"

/* Primitives oneDNN keeps compiled, about 50 kB each: layers x passes x some row counts of a large model. */
enum { PRIMITIVES_KEPT = 1024 };

static void cpu_model(char *out, size_t size) {
    snprintf(out, size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    }
    fclose(file);
}

/* AMX multiplies bf16 many times as fast as AVX-512 does f32. AVX-512's own bf16 dot product takes twice the numbers of
 * an f32 product: on AMD's Zen 4 at the same rate, but on Intel's Sapphire and Emerald Rapids, where a guest may see
 * them without AMX, at a quarter of it (measured: 83 against 170 GFLOP/s a core). Anything less has no bf16 products.
 */
static int multiplies_bf16_faster(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    return onednn_has_amx() || (onednn_has_avx512_bf16() && __builtin_cpu_is("amd"));
#else
    return 0;
#endif
}

static void describe(Device *device, int level) {
    char model[80];
    cpu_model(model, sizeof model);
    snprintf(device->name, sizeof device->name, "%s, %d thread%s, level %s, oneDNN %s", model, device->threads,
             device->threads == 1 ? "" : "s", cpu_level_name(level), onednn_isa_name());
    const dnnl_version_t *dnnl = dnnl_version();
    snprintf(device->libraries, sizeof device->libraries, "oneDNN %d.%d.%d (header %d.%d.%d)", dnnl->major, dnnl->minor,
             dnnl->patch, DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
}

void cpu_use_threads(const Device *device) {
    if (omp_get_max_threads() != device->threads)
        omp_set_num_threads(device->threads);
    if (omp_get_dynamic())
        omp_set_dynamic(0);
}

static void close_cpu(Device *device) {
    CpuDevice *cpu = cpu_of(device);
    device->ops->memory->release(device, cpu->scratch, cpu->scratch_bytes);
    dnnl_stream_destroy(cpu->stream);
    dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

Status device_open_cpu(Device *device, int threads, int level, Error *err) {
    *device = (Device){.kind = DEVICE_CPU};
    device->threads = processors_team(threads > 0 ? threads : omp_get_max_threads());
    if (level == 0)
        RETURN_IF(cpu_level_best(&level, err));
    CpuDevice *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return error_set(err, STATUS_SYSTEM, "cannot open the CPU device: out of memory");
    device->ops = cpu_level_ops(level);
    cpu_use_threads(device);
    dnnl_status_t made = dnnl_engine_create(&cpu->engine, dnnl_cpu, 0);
    if (made != dnnl_success)
        goto fail_engine;
    made = dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags);
    if (made != dnnl_success)
        goto fail_stream;
    dnnl_set_primitive_cache_capacity(PRIMITIVES_KEPT);
    device->impl = cpu;
    device->close = close_cpu;
    device->fast_bf16 = multiplies_bf16_faster();
    describe(device, level);
    return STATUS_OK;

fail_stream:
    dnnl_engine_destroy(cpu->engine);
fail_engine:
    free(cpu);
    device->ops = NULL;
    return error_set(err, STATUS_SYSTEM, "cannot open the CPU device: oneDNN says %d; check the oneDNN package",
                     (int)made);
}

void *cpu_scratch(Device *device, size_t bytes) {
    CpuDevice *cpu = cpu_of(device);
    if (bytes > cpu->scratch_bytes) {
        Error err;
        void *grown;
        device->ops->memory->release(device, cpu->scratch, cpu->scratch_bytes);
        cpu->scratch = NULL;
        cpu->scratch_bytes = 0;
        if (device->ops->memory->alloc(device, bytes, &grown, &err) != STATUS_OK)
            device_fatal(device, err.code, "%s", err.message);
        cpu->scratch = grown;
        cpu->scratch_bytes = bytes;
    }
    return cpu->scratch;
}

void cpu_scratch_parts(Device *device, int count, const size_t *bytes, void **parts) {
    const size_t gap = 64, page = 4096;
    size_t first[SCRATCH_PARTS + 1] = {0};
    for (int i = 0; i < count; i++)
        first[i + 1] = round_up(first[i] + bytes[i] + gap, page);
    char *scratch = cpu_scratch(device, first[count]);
    CpuDevice *cpu = cpu_of(device);
    memset(cpu->parts, 0, sizeof cpu->parts);
    for (int i = 0; i < count; i++) {
        parts[i] = scratch + first[i];
        cpu->parts[i] = (ScratchPart){parts[i], bytes[i]};
    }
}
