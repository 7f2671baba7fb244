/* Where tensors and gradient buffers lie: one arena, offsets found once from lifetimes.
 *
 * A plan walks the layer list in the order a pass will, notes at which step every buffer is first and last touched, and
 * packs buffers whose lives do not overlap into the same memory (first fit, largest first). */
#ifndef EXCON_TRAINER_PLAN_H
#define EXCON_TRAINER_PLAN_H

#include "trainer/model/model.h"

typedef enum PlanKind {
    PLAN_TRAIN,   /* forward, full backward */
    PLAN_EXPLAIN, /* forward; keeps what partial backward from the pool down to `keep_from` needs */
    PLAN_INFER    /* forward only */
} PlanKind;

typedef struct Plan {
    PlanKind kind;
    int keep_from;   /* PLAN_EXPLAIN: layer index of the explained convolution; -1: down to the input */
    int fold_before; /* layers below run folded (convolution, norm, add and ReLU as one); 0: none */
    int64_t max_rows;
    size_t *offset; /* [tensor_count + buffer_count] bytes, tensors first; SIZE_MAX: not part of this plan */
    size_t bytes;   /* of the arena */
} Plan;

Status plan_init(Plan *plan, const Model *model, PlanKind kind, int keep_from, int fold_before, int64_t max_rows,
                 Error *err);
void plan_free(Plan *plan);

/* Bytes of one row of tensor or gradient buffer `id` (ids of gradient buffers start at tensor_count). */
size_t plan_row_bytes(const Model *model, int id);

#endif
