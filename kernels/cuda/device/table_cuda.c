/* Gathers the CUDA families' tables into one operator table. */
#include "kernels/ops.h"

#define X(Type, family) extern const Type family##_ops_cuda;
OPS_FAMILIES(X)
#undef X

extern const Ops ops_cuda; /* device_cuda.c opens devices with it */

const Ops ops_cuda = {
#define X(Type, family) .family = &family##_ops_cuda,
    OPS_FAMILIES(X)
#undef X
};
