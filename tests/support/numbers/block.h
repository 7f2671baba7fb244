/* Host memory for tests of numbers, to be freed by the caller; the program ends when there is none. */
#ifndef EXCON_TESTS_BLOCK_H
#define EXCON_TESTS_BLOCK_H

#include <stddef.h>
#include <stdint.h>

/* n elements of `size` bytes, all zero; n = 0 gives a block, too. */
void *block(int64_t n, size_t size);
double *zeros(int64_t n);

#endif
