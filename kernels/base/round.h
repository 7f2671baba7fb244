/* Rounding of sizes: rows of a buffer, parts of a scratch. */
#ifndef EXCON_BASE_ROUND_H
#define EXCON_BASE_ROUND_H

#include <stddef.h>

/* The least multiple of `multiple` (above 0) that is not below n. */
static inline size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

#endif
