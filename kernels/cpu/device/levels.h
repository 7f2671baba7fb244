/* Instruction set levels of the CPU backend.
 *
 * The program is compiled for any x86-64 processor; what a step spends its time in (kernels/cpu/network, method and
 * products) is compiled once for each level of the x86-64 psABI that the Makefile lists in CPU_LEVELS, each copy with
 * an operator table of its own, and a device opens with one of them. A build for one processor (make ARCH=native) has
 * one level, "native".
 *
 * Levels differ in vector width and in fused multiply-add, so sums may differ in their last bits: runs are equal bit
 * for bit only at the same level. */
#ifndef EXCON_KERNELS_CPU_LEVELS_H
#define EXCON_KERNELS_CPU_LEVELS_H

#include "kernels/ops.h"

/* "v2", "v3", "v4" for x86-64-v2 and so on, or "native". `level` as cpu_level_best gives it. */
const char *cpu_level_name(int level);

/* That level's operator table. */
const Ops *cpu_level_ops(int level);

#endif
