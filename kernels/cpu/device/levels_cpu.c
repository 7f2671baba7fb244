#include "kernels/cpu/device/levels.h"

#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

/* X(name) for each level, lowest first. */
#ifndef CPU_LEVELS
#define CPU_LEVELS X(native)
#endif

#define X(name) extern const Ops ops_cpu_##name;
CPU_LEVELS
#undef X

static const struct {
    const char *name;
    const Ops *ops;
} levels[] = {
#define X(level) {#level, &ops_cpu_##level},
    CPU_LEVELS
#undef X
};

enum { LEVELS = sizeof levels / sizeof levels[0] };

const char *cpu_level_name(int level) {
    return levels[level - 1].name;
}

const Ops *cpu_level_ops(int level) {
    return levels[level - 1].ops;
}

#ifdef __x86_64__
/* LZCNT, MOVBE and F16C, which compilers before gcc 11 and clang 16 have no names for. */
static int has_small_extensions_of_v3(void) {
    unsigned a, b, c, d;
    const int lzcnt = __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c & 1u << 5);
    return lzcnt && __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 22) && (c & 1u << 29);
}
#endif

/* Whether processor and operating system have what the psABI's level of that name asks for. */
static int processor_has(const char *name) {
#ifdef __x86_64__
    __builtin_cpu_init();
    const int v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    const int v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_small_extensions_of_v3();
    const int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
    return strcmp(name, "v2") == 0 ? v2 : strcmp(name, "v3") == 0 ? v3 : strcmp(name, "v4") == 0 ? v4 : 1;
#else
    (void)name;
    return 1;
#endif
}

Status cpu_level_best(int *level, Error *err) {
    int best = 0, asked = 0;
    for (int i = 1; i <= LEVELS; i++)
        if (processor_has(cpu_level_name(i)))
            best = i;
    if (best == 0)
        return error_set(err, STATUS_SYSTEM,
                         "this processor has no x86-64-%s (SSE4.2 and POPCNT for v2): excon cannot run on it; take "
                         "another machine, or build on this one with make ARCH=native",
                         cpu_level_name(1));
    const char *name = getenv("EXCON_CPU");
    if (!name || !*name) {
        *level = best;
        return STATUS_OK;
    }
    for (int i = 1; i <= LEVELS; i++)
        if (strcmp(name, cpu_level_name(i)) == 0)
            asked = i;
    if (asked == 0 || asked > best) {
        char here[64] = "";
        for (int i = 1; i <= best; i++) {
            strcat(here, i > 1 ? ", " : "");
            strcat(here, cpu_level_name(i));
        }
        return error_set(err, asked ? STATUS_SYSTEM : STATUS_USAGE, "EXCON_CPU=%.20s: %s; this %s has %s", name,
                         asked ? "the processor lacks that level" : "no such level",
                         asked ? "processor" : "program, on this processor,", here);
    }
    *level = asked;
    return STATUS_OK;
}
