/* Forward, backward and partial backward: loops over the layer list. */
#ifndef EXCON_TRAINER_WALK_H
#define EXCON_TRAINER_WALK_H

#include "trainer/model/plan.h"

typedef enum NormMode { NORM_BATCH, NORM_RUNNING } NormMode;

typedef struct Walk {
    Model *model;
    const Plan *plan;
    char *base;          /* activation arena, plan->bytes long */
    int64_t rows;        /* this rank's, <= plan->max_rows; 0 is valid */
    int64_t conv_rows;   /* >= rows and <= plan->max_rows: what convolutions are told, see contract/conv.h; 0: rows */
    int64_t global_rows; /* of all ranks, for global statistics */
    NormMode norm;
    bool update_running; /* NORM_BATCH only */
} Walk;

/* Address of a tensor, or (tensor_count + buffer) of a gradient buffer; NULL for -1. */
void *walk_at(const Walk *walk, int id);
/* Address of a gradient buffer by its number; NULL for -1. */
void *walk_gradient_at(const Walk *walk, int buffer);
/* Rows that convolutions are told. */
int64_t walk_conv_rows(const Walk *walk);

/* Scale and shift of every norm from the running statistics and, with `fold`, the folded weights of convolutions: once
 * before NORM_RUNNING walks whenever parameters or statistics changed. */
void walk_prepare_running(Model *model, bool fold);

/* Input (tensor 0) must be in place; leaves features [rows, F] f32. */
void walk_forward(const Walk *walk, float *features);

/* After the forward of a PLAN_TRAIN walk, from dfeatures [rows, F] f32: accumulates gradients of every encoder
 * parameter. `buckets` may be NULL. */
void walk_backward(const Walk *walk, const float *dfeatures, Buckets *buckets);

/* After the forward of a PLAN_EXPLAIN walk, from dfeatures [rows, F] f32 down to the plan's tensor: its gradient
 * [rows, H, W, C] of dtype, and walk_at of the tensor still holds its values (but not those of the input). */
const void *walk_backward_to_tensor(const Walk *walk, const float *dfeatures);

/* Applies the running-statistics update of the last NORM_BATCH forward once more (its batch statistics are still in the
 * sums arena) for `rows` rows per norm (global or own, as the scope says): the published code's repeated pass over the
 * same images. `saved` from walk_save_moments. */
void walk_save_moments(const Model *model, double *saved);
void walk_update_running(Model *model, const double *saved, int64_t rows);

#endif
