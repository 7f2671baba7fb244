#include "trainer/method/contrastive.h"

#include <string.h>

#include "kernels/buffers.h"

enum { CONTRASTIVE_BUFFERS = 8 };

static void list_buffers(Contrastive *c, Buffer list[CONTRASTIVE_BUFFERS]) {
    const Buffer all[CONTRASTIVE_BUFFERS] = {
        {(void **)&c->z_all, sizeof(float) * (size_t)(c->max_rows * c->dim)},
        {(void **)&c->group_all, sizeof(int32_t) * (size_t)c->max_rows},
        {(void **)&c->lse_own, sizeof(float) * (size_t)c->max_own},
        {(void **)&c->lse_masked, sizeof(float) * (size_t)c->max_own},
        {(void **)&c->lse_all, sizeof(float) * (size_t)c->max_rows},
        {(void **)&c->sums, sizeof(float) * (size_t)c->max_groups * (size_t)c->dim},
        {(void **)&c->counts, sizeof(int32_t) * (size_t)c->max_groups},
        {&c->scratch, c->scratch_bytes},
    };
    memcpy(list, all, sizeof all);
}

Status contrastive_init(Contrastive *c, Device *device, Comm *comm, int64_t max_own, int64_t max_rows, int dim,
                        int max_groups, double temperature, double base_temperature, DType products, Error *err) {
    *c = (Contrastive){.device = device,
                       .comm = comm,
                       .max_own = max_own,
                       .max_rows = max_rows,
                       .dim = dim,
                       .max_groups = max_groups,
                       .temperature = (float)temperature,
                       .base_temperature = (float)base_temperature,
                       .products = products};
    c->scratch_bytes = device->ops->contrast->scratch(device, max_rows, max_groups, dim);
    Buffer list[CONTRASTIVE_BUFFERS];
    list_buffers(c, list);
    return buffers_alloc(device, list, CONTRASTIVE_BUFFERS, err);
}

void contrastive_free(Contrastive *c) {
    Buffer list[CONTRASTIVE_BUFFERS];
    if (!c->device)
        return;
    list_buffers(c, list);
    buffers_free(c->device, list, CONTRASTIVE_BUFFERS);
    *c = (Contrastive){0};
}

int contrastive_groups(const ContrastRows *rows, int method, int background_mode, int classes, const int32_t *labels,
                       int32_t *group) {
    const int64_t N = rows->real, B = rows->background;
    const int by_sample = method == METHOD_SIMCLR;
    for (int view = 0; view < 2; view++)
        for (int64_t i = 0; i < N; i++)
            group[view * N + i] = by_sample ? (int32_t)(rows->first_real + i) : labels[i];
    for (int copy = 0; copy < 2; copy++)
        for (int64_t i = 0; i < B; i++) {
            int32_t id = by_sample ? (int32_t)(rows->total_real + rows->first_background + i) : classes;
            group[2 * N + copy * B + i] = background_mode == BACKGROUND_CLASS ? id : -1;
        }
    return by_sample ? (int)(rows->total_real + rows->total_background) : classes + 1;
}

int64_t contrastive_anchors(const ContrastRows *rows, int background_mode) {
    return 2 * (rows->total_real + (background_mode == BACKGROUND_CLASS ? rows->total_background : 0));
}

void contrastive_run(Contrastive *c, const float *z, const int32_t *group, int groups, const int64_t *own_rows,
                     int64_t anchors, double *loss, float *dz) {
    const Ops *ops = c->device->ops;
    const Collectives *collectives = c->comm->collectives;
    ContrastShape shape = {.own_rows = own_rows[c->comm->rank],
                           .dim = c->dim,
                           .groups = groups,
                           .anchors = anchors,
                           .temperature = c->temperature,
                           .base_temperature = c->base_temperature,
                           .products = c->products};
    for (int r = 0; r < c->comm->size; r++) {
        shape.own_first += r < c->comm->rank ? own_rows[r] : 0;
        shape.rows += own_rows[r];
    }
    ops->memory->zero(c->device, loss, sizeof *loss);
    if (shape.rows == 0 || anchors == 0)
        return;
    int32_t *own_group = c->group_all + shape.own_first;
    ops->memory->copy_in(c->device, own_group, group, sizeof(int32_t) * (size_t)shape.own_rows);
    collectives->all_gather(c->comm, own_group, own_rows, sizeof(int32_t), c->group_all);
    collectives->all_gather(c->comm, z, own_rows, sizeof(float) * (size_t)c->dim, c->z_all);
    ops->contrast->groups(c->device, &shape, c->z_all, c->group_all, c->sums, c->counts);
    ops->contrast->lse(c->device, &shape, c->z_all, c->lse_own, c->scratch);
    ops->contrast->loss(c->device, &shape, c->z_all, c->group_all, c->sums, c->counts, c->lse_own, loss, c->lse_masked);
    collectives->all_gather(c->comm, c->lse_masked, own_rows, sizeof(float), c->lse_all);
    ops->contrast->gradient(c->device, &shape, c->z_all, c->group_all, c->sums, c->counts, c->lse_all, dz, c->scratch);
}
