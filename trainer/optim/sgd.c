/* Stochastic gradient descent with momentum, as torch.optim.SGD has it: no Nesterov, no dampening; weight decay on
 * every parameter. */
#include "trainer/optim/optimiser.h"

static void update(const Optimiser *o, double lr, int64_t begin, int64_t end) {
    const Model *m = o->model;
    const SgdStep sgd = {.lr = (float)lr,
                         .momentum = (float)o->config->optim.momentum,
                         .weight_decay = (float)o->config->optim.weight_decay};
    m->device->ops->optimise->sgd(m->device, end - begin, &sgd, m->gradient + begin, o->slots[0] + begin,
                                  m->master + begin, optimiser_low(o, begin));
}

const OptimiserKind optimiser_sgd = {.name = "sgd", .slots = {"momentum"}, .update = update};
