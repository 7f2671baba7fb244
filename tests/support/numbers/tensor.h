/* Device tensors for operator tests: random contents, guard words around the data, and their values as doubles.
 *
 * A new tensor is poisoned with NaN (floats) or -1 (integers), so an output element that is never written is seen. */
#ifndef EXCON_TESTS_TENSOR_H
#define EXCON_TESTS_TENSOR_H

#include "kernels/ops.h"
#include "tests/support/numbers/compare.h"

typedef struct Tensor {
    Device *device;
    DType type;
    int64_t n;
    void *data; /* 64-byte aligned, on the device */
    void *base;
} Tensor;

/* Aborts the test when memory is out. */
Tensor tensor_new(Device *device, DType type, int64_t n);
void tensor_free(Tensor *tensor);

/* Uniform in [low, high) from a fixed generator; `salt` tells tensors of a test apart. Integers are floored. */
Tensor tensor_random(Device *device, DType type, int64_t n, double low, double high, uint64_t salt);
Tensor tensor_zero(Device *device, DType type, int64_t n);
void tensor_set(Tensor *tensor, const double *values);

/* The n values as doubles, to be freed by the caller. For bf16 tensors these are the rounded values. */
double *tensor_values(const Tensor *tensor);

/* 1 when no guard word was touched. */
int tensor_guards_hold(const Tensor *tensor);

/* 1 when the values agree with `want` and the guards hold. */
int tensor_equals(const char *what, const Tensor *tensor, const double *want, ToleranceKind kind);

#endif
