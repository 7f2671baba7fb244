#include "trainer/optim/optimiser.h"

#include <string.h>

#include "kernels/buffers.h"

/* THE table of optimisers: NAME stands for optimiser_NAME, in NAME.c. */
#define OPTIMISERS(X) X(sgd) X(lars)

#define X(name) extern const OptimiserKind optimiser_##name;
OPTIMISERS(X)
#undef X
#define X(name) &optimiser_##name,
static const OptimiserKind *const kinds[] = {OPTIMISERS(X)};
#undef X

static const OptimiserKind *kind_of(const Config *config) {
    const char *name = config_name("optim.name", config->optim.name);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (strcmp(kinds[k]->name, name) == 0)
            return kinds[k];
    return NULL;
}

static void list_slots(Optimiser *o, Buffer list[OPTIMISER_SLOTS]) {
    for (int s = 0; s < OPTIMISER_SLOTS; s++)
        list[s] = (Buffer){(void **)&o->slots[s], o->kind->slots[s] ? sizeof(float) * (size_t)o->model->total : 0};
}

Status optimiser_init(Optimiser *o, const Config *config, Model *model, Error *err) {
    Buffer slots[OPTIMISER_SLOTS];
    *o = (Optimiser){0};
    const OptimiserKind *kind = kind_of(config);
    if (!kind)
        return error_set(err, STATUS_INTERNAL, "optim.name: %s is in no line of the table of optimisers",
                         config_name("optim.name", config->optim.name));
    *o = (Optimiser){.kind = kind, .config = config, .model = model};
    list_slots(o, slots);
    Status status = buffers_alloc(model->device, slots, OPTIMISER_SLOTS, err);
    if (status == STATUS_OK && kind->init)
        status = kind->init(o, err);
    if (status != STATUS_OK)
        optimiser_free(o);
    return status;
}

void optimiser_free(Optimiser *o) {
    Buffer slots[OPTIMISER_SLOTS];
    if (!o->kind)
        return;
    if (o->kind->free)
        o->kind->free(o);
    list_slots(o, slots);
    buffers_free(o->model->device, slots, OPTIMISER_SLOTS);
    *o = (Optimiser){0};
}

void optimiser_update(const Optimiser *o, double lr, int64_t begin, int64_t end) {
    o->kind->update(o, lr, begin, end);
}

void *optimiser_low(const Optimiser *o, int64_t begin) {
    const Model *m = o->model;
    return m->dtype == DTYPE_F32 ? NULL : (char *)m->low + (size_t)begin * dtype_size(m->dtype);
}
