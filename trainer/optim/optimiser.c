#include "trainer/optim/optimiser.h"

/* The table of optimisers. */
static const OptimiserKind *const kinds[] = {&optimiser_sgd};

static size_t slot_bytes(const Optimiser *o) {
    return sizeof(float) * (size_t)o->model->total;
}

static Status init_parts(Optimiser *o, Error *err) {
    for (int s = 0; s < OPTIMISER_SLOTS; s++)
        if (o->kind->slots[s])
            RETURN_IF(
                o->model->device->ops->memory->alloc(o->model->device, slot_bytes(o), (void **)&o->slots[s], err));
    return o->kind->init ? o->kind->init(o, err) : STATUS_OK;
}

Status optimiser_init(Optimiser *o, const Config *config, Model *model, Error *err) {
    *o = (Optimiser){.kind = kinds[0], .config = config, .model = model};
    const Status status = init_parts(o, err);
    if (status != STATUS_OK)
        optimiser_free(o);
    return status;
}

void optimiser_free(Optimiser *o) {
    if (!o->kind)
        return;
    if (o->kind->free)
        o->kind->free(o);
    for (int s = 0; s < OPTIMISER_SLOTS; s++)
        if (o->slots[s])
            o->model->device->ops->memory->release(o->model->device, o->slots[s], slot_bytes(o));
    *o = (Optimiser){0};
}

void optimiser_update(const Optimiser *o, double lr, int64_t begin, int64_t end) {
    o->kind->update(o, lr, begin, end);
}

void *optimiser_low(const Optimiser *o, int64_t begin) {
    const Model *m = o->model;
    return m->dtype == DTYPE_F32 ? NULL : (char *)m->low + (size_t)begin * dtype_size(m->dtype);
}
