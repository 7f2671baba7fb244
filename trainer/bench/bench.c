#include "trainer/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/base/philox.h"

enum { BENCH_SETS = 64 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *seconds, int64_t n) {
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    return n % 2 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
}

double bench_peak_mb(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss * 1024e-6;
}

double bench_resident_mb(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%ld %ld", &pages, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE) * 1e-6;
}

void bench_fill(float *values, int64_t n, uint64_t stream) {
    PhiloxReader reader = philox_reader(1, PHILOX_INIT, stream, 7);
    for (int64_t i = 0; i < n; i++) {
        const double u = 1.0 - (double)philox_next_uniform(&reader), v = (double)philox_next_uniform(&reader);
        values[i] = (float)(sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v));
    }
}

static Status configure(BenchContext *b, Error *err) {
    const BenchOptions *o = b->options;
    char text[8][96];
    char *sets[8 + BENCH_SETS];
    int count = 0;
#define SET(...) snprintf(text[count], sizeof text[count], __VA_ARGS__), sets[count] = text[count], count++
    SET("profile=%.60s", o->profile);
    SET("method=%.60s", o->method);
    SET("backend=%.60s", o->backend);
    SET("precision=%.60s", o->precision);
    SET("model.encoder=%.60s", o->model);
    SET("model.width=%lld", (long long)o->width);
    SET("model.projection=%lld", (long long)o->dim);
    SET("train.batch=%lld", (long long)o->batch);
#undef SET
    if (o->set_count > BENCH_SETS)
        return error_set(err, STATUS_USAGE, "bench takes up to %d --set", (int)BENCH_SETS);
    for (int i = 0; i < o->set_count; i++)
        sets[count++] = o->sets[i];
    return config_load(&b->config, NULL, sets, count, err);
}

Status bench_run(const char *what, const BenchOptions *options, Error *err) {
    static const struct {
        const char *name;
        Status (*run)(BenchContext *, Error *);
    } benches[] = {{"step", bench_step}, {"loss", bench_loss}, {"loader", bench_loader}, {"ops", bench_ops}};
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
        if (strcmp(benches[i].name, what) != 0)
            continue;
        BenchContext b = {.options = options};
        RETURN_IF(configure(&b, err));
        RETURN_IF(runtime_open(&b.runtime, &b.config, NULL, 0, err));
        json_init(&b.json);
        json_begin_object(&b.json, NULL);
        json_string(&b.json, "bench", what);
        json_string(&b.json, "device", b.runtime.device.name);
        json_string(&b.json, "backend", b.runtime.device.kind == DEVICE_CUDA ? "cuda" : "cpu");
        json_string(&b.json, "libraries", b.runtime.device.libraries);
        json_integer(&b.json, "ranks", b.runtime.comm.size);
        json_integer(&b.json, "threads", b.runtime.device.threads);
        const Status status = benches[i].run(&b, err);
        json_number(&b.json, "peak_mb", bench_peak_mb());
        json_number(&b.json, "device_mb", (double)b.runtime.device.bytes_peak * 1e-6);
        json_end_object(&b.json);
        if (status == STATUS_OK && b.runtime.comm.rank == 0 && options->json)
            printf("%s\n", b.json.text);
        json_free(&b.json);
        return runtime_close(&b.runtime, status, err);
    }
    return error_set(err, STATUS_USAGE, "unknown bench '%.40s'; there are step, loss, loader, ops", what);
}
