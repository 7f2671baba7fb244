/* What stands on the pooled features: the projection head (Linear-ReLU-Linear, unit norm) and the linear classifier.
 * Everything is f32. Buffers hold up to max_rows rows; gradients of weights accumulate into the model's arena. */
#ifndef EXCON_TRAINER_HEADS_H
#define EXCON_TRAINER_HEADS_H

#include "trainer/model/model.h"

typedef struct Heads {
    Model *model; /* borrowed */
    int64_t max_rows;
    float *features;   /* [rows, F] */
    float *hidden;     /* [rows, F] after ReLU */
    float *projected;  /* [rows, D] */
    float *z;          /* [rows, D] unit norm */
    float *inv_norm;   /* [rows] */
    float *logits;     /* [rows, C] */
    float *dlogits;    /* [rows, C] */
    float *dz;         /* [rows, D] */
    float *dprojected; /* [rows, D] */
    float *dhidden;    /* [rows, F] */
    float *dfeatures;  /* [rows, F] */
    float *losses;     /* [rows] */
} Heads;

/* Adds the parameters of both to a model whose encoder is built: those of the head, then the classifier's. */
void heads_describe(Model *model);

Status heads_init(Heads *heads, Model *model, int64_t max_rows, Error *err);
void heads_free(Heads *heads);

/* features -> z, for rows [0, rows). */
void heads_project(Heads *heads, int64_t rows);
/* dz -> dfeatures, and the head's weight gradients. */
void heads_project_backward(Heads *heads, int64_t rows);

/* features -> logits. */
void heads_classify(Heads *heads, int64_t rows);
/* dlogits -> dfeatures (overwritten). */
void heads_classify_backward_data(Heads *heads, int64_t rows);
/* dlogits, features -> the classifier's weight gradients. */
void heads_classify_backward_weights(Heads *heads, int64_t rows);

#endif
