/* The operator table: every computation of a training step, one function pointer per operator, in families.
 *
 * A family has a contract header, which declares its table and documents each operator; a file under kernels/cpu and
 * one under kernels/cuda, each of which ends with that table filled. A new operator is an entry there and touches
 * nothing else; a new family is a line here too.
 *
 * All pointers are device pointers unless a name says `host`. Launchers never allocate per call (plans and scratch are
 * created once) and, memory->copy_out, stream->sync and upload->finish aside, never wait. "+=" marks outputs that are
 * accumulated; all others are overwritten. Reductions accumulate in f32 or wider. A count of 0 rows is always valid.
 * Failures no caller could handle end the job through device_fatal(). */
#ifndef EXCON_KERNELS_OPS_H
#define EXCON_KERNELS_OPS_H

#include "kernels/contract/classify.h"
#include "kernels/contract/contrast.h"
#include "kernels/contract/conv.h"
#include "kernels/contract/convert.h"
#include "kernels/contract/dense.h"
#include "kernels/contract/graph.h"
#include "kernels/contract/memory.h"
#include "kernels/contract/norm.h"
#include "kernels/contract/optimise.h"
#include "kernels/contract/pool.h"
#include "kernels/contract/saliency.h"
#include "kernels/contract/select.h"
#include "kernels/contract/stream.h"
#include "kernels/contract/unit.h"
#include "kernels/contract/upload.h"
#include "kernels/contract/views.h"
#include "kernels/device.h"

/* X(type of the table, name): contract/<name>.h declares it, <name>_ops_cpu and <name>_ops_cuda are it. */
// clang-format off
#define OPS_FAMILIES(X)       \
    X(MemoryOps,   memory)    \
    X(UploadOps,   upload)    \
    X(StreamOps,   stream)    \
    X(GraphOps,    graph)     \
    X(ConvertOps,  convert)   \
    X(ConvOps,     conv)      \
    X(NormOps,     norm)      \
    X(PoolOps,     pool)      \
    X(DenseOps,    dense)     \
    X(UnitOps,     unit)      \
    X(ViewsOps,    views)     \
    X(SaliencyOps, saliency)  \
    X(SelectOps,   select)    \
    X(ClassifyOps, classify)  \
    X(ContrastOps, contrast)  \
    X(OptimiseOps, optimise)
// clang-format on

/* Called as device->ops->norm->apply(device, ...). */
typedef struct Ops {
#define X(Type, family) const Type *family;
    OPS_FAMILIES(X)
#undef X
} Ops;

/* Bytes of all families' tables: another number where other operators are known. */
#define X(Type, family) +sizeof(Type)
enum { OPS_BYTES = 0 OPS_FAMILIES(X) };
#undef X

#endif
