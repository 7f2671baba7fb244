/* Where tensors and gradient buffers lie: one arena, offsets found once from lifetimes.
 *
 * A plan walks the layer list in the order a pass will, notes at which step every buffer is first and last touched, and
 * packs buffers whose lives do not overlap into the same memory (first fit, largest first). */
#ifndef EXCON_TRAINER_PLAN_H
#define EXCON_TRAINER_PLAN_H

#include "trainer/model/model.h"

typedef enum PlanKind {
    PLAN_TRAIN,   /* forward, full backward */
    PLAN_EXPLAIN, /* forward; partial backward, without parameter gradients, from the pool down to `tensor` */
    PLAN_INFER    /* forward only */
} PlanKind;

typedef struct Plan {
    PlanKind kind;
    int tensor;      /* PLAN_EXPLAIN: whose gradient is wanted; 0: the input */
    int fold_before; /* norms are folded into convolutions that make tensors below this one; 0: none */
    int64_t max_rows;
    size_t *offset; /* [tensor_count + gradient_count] bytes, tensors first; SIZE_MAX: not part of this plan */
    size_t bytes;   /* of the arena */
} Plan;

/* STATUS_SYSTEM when memory for planning is short. */
Status plan_init_train(Plan *plan, const Model *model, int64_t max_rows, Error *err);
/* `tensor` is one of model_explain_tensor, or 0 for the input. With `fold`, for walks with running statistics: norms
 * before the tensor are folded, those after it have a gradient to pass. */
Status plan_init_explain(Plan *plan, const Model *model, int tensor, bool fold, int64_t max_rows, Error *err);
/* With `fold`, for walks with running statistics: all norms that can be are folded. */
Status plan_init_infer(Plan *plan, const Model *model, bool fold, int64_t max_rows, Error *err);
void plan_free(Plan *plan);

/* Bytes of one row of tensor or gradient buffer `id` (ids of gradient buffers start at tensor_count). */
size_t plan_row_bytes(const Model *model, int id);

/* ---- for layer kinds: a plan in the making ---- */

typedef struct Trace {
    const Model *model;
    const Plan *plan; /* kind, tensor, fold_before */
    int step;
    struct Life *lives; /* by id */
    int *shares;        /* id -> id whose memory it shares */
} Trace;

/* A tensor is read or written at this step; -1: nothing. */
void plan_touch(Trace *trace, int tensor);
/* The same for a gradient buffer. */
void plan_touch_gradient(Trace *trace, int buffer);
/* The tensor lies where another, touched before, does. */
void plan_share(Trace *trace, int tensor, int other);

#endif
