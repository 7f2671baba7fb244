#include "tests/support/numbers/block.h"

#include <stdlib.h>

void *block(int64_t n, size_t size) {
    void *memory = calloc((size_t)(n > 0 ? n : 1), size);
    if (!memory)
        abort();
    return memory;
}

double *zeros(int64_t n) {
    return block(n, sizeof(double));
}
