/* Gathers the CPU families' tables into one operator table. Compiled once per instruction set level (CPU_LEVEL: its
 * name; see levels.h). */
#include "kernels/ops.h"

#ifndef CPU_LEVEL
#define CPU_LEVEL native
#endif
#define TABLE_OF(level) ops_cpu_##level
#define TABLE(level) TABLE_OF(level)

#define X(Type, family) extern const Type family##_ops_cpu;
OPS_FAMILIES(X)
#undef X

extern const Ops TABLE(CPU_LEVEL); /* levels_cpu.c looks for it */

const Ops TABLE(CPU_LEVEL) = {
#define X(Type, family) .family = &family##_ops_cpu,
    OPS_FAMILIES(X)
#undef X
};
