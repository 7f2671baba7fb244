/* One training step: explain, select, encode, loss, backward, optimise. What ExCon is.
 *
 * It is the same code for one rank and many, for the training loop, the probe and the benchmark. The step allocates its
 * buffers at the beginning and nothing while it runs; what devices and collectives take below it (plans of
 * convolutions, recorded captures, staging memory, the sizes of a gather) is theirs.
 *
 * What the host learns of a step are the StepScalars, once, before the update; where background rows are appended their
 * number, before the training pass; and with local batch norm on several ranks the running statistics, which it
 * averages. For each of these it waits for the device, and once more at the end, for the times of the phases. An
 * explainer may wait too (integrated).
 *
 * The explanation, and the passes from the encoder's input to the reduced gradient, are captures that a device may
 * record and replay (kernels/contract/graph.h) when the row counts and the views' places are those of an earlier step.
 */
#ifndef EXCON_TRAINER_STEP_H
#define EXCON_TRAINER_STEP_H

#include "trainer/data/step_views.h"
#include "trainer/method/contrastive.h"
#include "trainer/method/explain.h"
#include "trainer/optim/optimiser.h"

typedef enum Phase {
    PHASE_DATA,     /* waiting for the loader, copies in */
    PHASE_VIEWS,    /* augmentation */
    PHASE_EXPLAIN,  /* saliency, mask, masked classification, selection */
    PHASE_FORWARD,  /* encoder and heads */
    PHASE_LOSS,     /* both passes and their gathers */
    PHASE_BACKWARD, /* with the overlapped all-reduce */
    PHASE_REDUCE,   /* what of the all-reduce was left to wait for */
    PHASE_OPTIMISE,
    PHASE_COUNT
} Phase;
extern const char *const PHASE_NAMES[PHASE_COUNT];

typedef struct StepInput {
    int64_t rows, first, global_rows; /* this rank's samples, how many lower ranks have, all */
    const int32_t *labels;            /* [rows] host; read until the step ends */
    bool mask;                        /* explanations are on in this epoch (excon, exconb) */
    double lr;
} StepInput;

typedef struct StepReport {
    double loss;            /* global: contrastive, or cross-entropy for ce */
    double classifier_loss; /* global mean cross-entropy of the joint classifier; NAN when it was not trained */
    int64_t accepted, masked, background; /* global samples: accepted, explained, appended */
    bool finite;                          /* false: the step was skipped on every rank, state as before */
    double seconds[PHASE_COUNT];
} StepReport;

/* A step's results, gathered on the device. */
typedef struct StepScalars {
    double loss, classifier_loss; /* shares of this rank, then sums over ranks */
    int64_t nonfinite;            /* in the reduced gradient */
    int32_t rejected;             /* of this rank, then of all; not capped */
    int32_t padding;
} StepScalars;

typedef struct Step {
    const Config *config;       /* borrowed */
    Model *model;               /* borrowed */
    const Optimiser *optimiser; /* borrowed; of this model */
    Comm *comm;
    Device *device;
    Heads heads;
    Explainer explainer;
    Contrastive contrastive;
    Buckets *buckets;
    Plan train;
    char *arena;
    size_t arena_bytes;
    int64_t max_samples; /* of this rank */
    int64_t max_background, max_rows;
    int64_t row_step; /* of the row counts that convolutions are told, above 2 * max_samples; 0: they get any count */
    void *complement; /* [max_samples,H,W,3] of dtype, background.source complement only */
    int32_t *labels, *labels_twice, *rejected; /* device */
    StepScalars *scalars;                      /* device [1] */
    float *running_before;                     /* device: statistics to go back to when a step is not finite */
    int32_t *group_host;                       /* [max_rows], host_alloc's */
    int64_t *rows_of, *background_of;          /* [size]: rows, and background samples, of every rank in this step */
    float *running_host;                       /* [running_total], to average over ranks */
    double *running_sums;                      /* [running_total + 1] */
    bool recordable;                           /* captures of this step's launches may be recorded */
} Step;

/* `batch` is the largest global batch. mean/std of the normalisation (for black fill). On failure nothing is left to
 * free. */
Status step_init(Step *step, const Config *config, Model *model, const Optimiser *optimiser, int64_t batch,
                 const float mean[3], const float std[3], Error *err);
/* Fine when not initialised. */
void step_free(Step *step);

/* Trains on `views` (plain methods: backup and random; ce: random), whose rows are this rank's samples; they stay as
 * they are. Fills the report. Without `update` the optimiser does not run; the reduced gradient stays in the arena
 * either way. */
void step_run(Step *step, const StepInput *input, const StepViews *views, bool update, StepReport *report);

/* The optimiser half of step_run alone: over what the method trains. */
void step_update(Step *step, double lr);

/* One step of the classifier on frozen features of views->random (alternate schedule): running statistics, its own
 * update. walk_prepare_running(model, true) must have been called since the encoder last changed. */
void step_classifier(Step *step, const StepInput *input, const StepViews *views, StepReport *report);

#endif
