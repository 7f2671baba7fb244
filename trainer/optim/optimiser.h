/* Optimisers: what turns a reduced gradient into a change of the parameters.
 *
 * A kind of optimiser is a file of this folder, a line of the table in optimiser.c, and its value of optim.name. It
 * works on the model's flat arenas, whole ranges of them at once, and may keep numbers of its own for each parameter:
 * its slots, arenas of the same layout, which checkpoints hold. */
#ifndef EXCON_TRAINER_OPTIMISER_H
#define EXCON_TRAINER_OPTIMISER_H

#include "trainer/config/config.h"
#include "trainer/model/model.h"

enum { OPTIMISER_SLOTS = 2 };

typedef struct Optimiser Optimiser;

typedef struct OptimiserKind {
    const char *name;                   /* the value of optim.name */
    const char *slots[OPTIMISER_SLOTS]; /* what each is called in a checkpoint: slots[0]/PARAMETER; NULL: not used */
    /* Device memory and tables of its own (Optimiser.own); NULL when it needs none. A failed `init` leaves nothing to
     * free, and `free` does nothing where nothing is. */
    Status (*init)(Optimiser *optimiser, Error *err);
    void (*free)(Optimiser *optimiser);
    /* Changes the parameters of the arena's range [begin, end), which begins and ends where spans do. */
    void (*update)(const Optimiser *optimiser, double lr, int64_t begin, int64_t end);
} OptimiserKind;

struct Optimiser {
    const OptimiserKind *kind;
    const Config *config;          /* borrowed */
    Model *model;                  /* borrowed */
    float *slots[OPTIMISER_SLOTS]; /* device [model->total] each; NULL: not used */
    void *own;                     /* of the kind */
};

/* The optimiser of config->optim.name over the model's parameters, slots zero. STATUS_SYSTEM when memory is short; then
 * nothing is left to free. */
Status optimiser_init(Optimiser *optimiser, const Config *config, Model *model, Error *err);
/* Fine when not initialised. */
void optimiser_free(Optimiser *optimiser);

/* One step of the range [begin, end) of the parameter arena, which begins and ends where spans do. Queues work on the
 * device and waits for nothing. */
void optimiser_update(const Optimiser *optimiser, double lr, int64_t begin, int64_t end);

/* The low-precision copy of the parameters from `begin` on; NULL for a model in f32. */
void *optimiser_low(const Optimiser *optimiser, int64_t begin);

#endif
