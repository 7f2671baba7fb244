/* Layer-wise adaptive rate scaling, for large batches (You, Gitman and Ginsburg 2017, "Large Batch Training of
 * Convolutional Networks", algorithm 1): each tensor's step is scaled to a share of the tensor's own length,
 * optim.trust. Biases and the parameters of batch norm, all that have one dimension, take plain steps without weight
 * decay.
 *
 * The learning rate is within the velocity, as in the paper, so a change of the rate acts from the next gradient on. */
#include <stdlib.h>

#include "kernels/buffers.h"
#include "trainer/optim/optimiser.h"

/* Tensors are worked on in pieces of so many parameters at most: enough of them for every processor of a device. */
enum { PIECE = 1 << 15 };

typedef struct Lars {
    int count;
    LarsPiece *pieces; /* [count] in the order of the arena */
    void *on_device;   /* [count] the same */
    double *sums;      /* device [2*count] */
} Lars;

static int pieces_of(const Span *span) {
    return (int)((span->count + PIECE - 1) / PIECE);
}

static int cut(const Model *m, LarsPiece *pieces) {
    int count = 0;
    for (int s = 0; s < m->param_count; s++) {
        const Span *span = &m->params[s];
        const int n = pieces_of(span);
        for (int i = 0; i < n && pieces; i++) {
            const int64_t at = (int64_t)i * PIECE, left = span->count - at;
            pieces[count + i] = (LarsPiece){.begin = span->offset + at,
                                            .count = left < PIECE ? left : PIECE,
                                            .before = i,
                                            .pieces = n,
                                            .adapted = span->rank > 1};
        }
        count += n;
    }
    return count;
}

static void list_buffers(Lars *l, Buffer list[2]) {
    list[0] = (Buffer){&l->on_device, sizeof(LarsPiece) * (size_t)l->count};
    list[1] = (Buffer){(void **)&l->sums, 2 * sizeof(double) * (size_t)l->count};
}

static Status init_pieces(Optimiser *o, Lars *l, Error *err) {
    Device *device = o->model->device;
    Buffer list[2];
    l->count = cut(o->model, NULL);
    l->pieces = calloc((size_t)l->count, sizeof *l->pieces);
    if (!l->pieces)
        return error_set(err, STATUS_SYSTEM, "out of memory for the optimiser");
    cut(o->model, l->pieces);
    list_buffers(l, list);
    RETURN_IF(buffers_alloc(device, list, 2, err));
    device->ops->memory->copy_in(device, l->on_device, l->pieces, sizeof(LarsPiece) * (size_t)l->count);
    device->ops->stream->sync(device);
    return STATUS_OK;
}

static void release(Optimiser *o) {
    Lars *l = o->own;
    Buffer list[2];
    if (!l)
        return;
    list_buffers(l, list);
    buffers_free(o->model->device, list, 2);
    free(l->pieces);
    free(l);
    o->own = NULL;
}

static Status init(Optimiser *o, Error *err) {
    Lars *l = o->own = calloc(1, sizeof *l);
    const Status status = l ? init_pieces(o, l, err) : error_set(err, STATUS_SYSTEM, "out of memory for the optimiser");
    if (status != STATUS_OK)
        release(o);
    return status;
}

static void update(const Optimiser *o, double lr, int64_t begin, int64_t end) {
    const Lars *l = o->own;
    const Model *m = o->model;
    const LarsStep step = {.lr = (float)lr,
                           .momentum = (float)o->config->optim.momentum,
                           .weight_decay = (float)o->config->optim.weight_decay,
                           .trust = (float)o->config->optim.trust};
    int first = 0, last;
    while (first < l->count && l->pieces[first].begin < begin)
        first++;
    for (last = first; last < l->count && l->pieces[last].begin < end;)
        last++;
    m->device->ops->optimise->lars(m->device, last - first, (const LarsPiece *)l->on_device + first, &step, m->gradient,
                                   o->slots[0], m->master, optimiser_low(o, 0), l->sums);
}

const OptimiserKind optimiser_lars = {
    .name = "lars", .slots = {"momentum"}, .init = init, .free = release, .update = update};
