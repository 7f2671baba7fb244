#include "trainer/method/step_rows.h"

#include "kernels/base/share.h"

/* With background rows the row count differs from step to step. Where few different ones are wanted, convolutions get
 * 2 * max_samples or one of these many above: each costs a search of plans once, and half a step between two counts is
 * computed for nothing on average, a hundredth of the rows. */
enum { ROW_STEPS = 32, ROW_STEP_LEAST = 16 };

int64_t step_rows_granularity(const Step *s) {
    if (!s->max_background || !s->device->slow_to_plan || s->device->plain_conv)
        return 0;
    const int64_t step = (2 * s->max_background + ROW_STEPS - 1) / ROW_STEPS;
    return step < ROW_STEP_LEAST ? ROW_STEP_LEAST : step;
}

int64_t step_rows_told(const Step *s, int64_t rows) {
    if (!s->row_step || rows == 0)
        return rows;
    const int64_t least = 2 * s->max_samples, more = rows > least ? rows - least : 0;
    const int64_t rounded = least + (more + s->row_step - 1) / s->row_step * s->row_step;
    return rounded < s->max_rows ? rounded : s->max_rows;
}

/* Background rows this rank would append. Waits for the device. */
static int64_t background_rows(Step *s) {
    int32_t rejected = 0;
    s->comm->collectives->settle(s->comm);
    s->device->ops->memory->copy_out(s->device, &rejected, &s->scalars->rejected, sizeof rejected);
    return rejected < s->max_background ? rejected : s->max_background;
}

/* Every rank's background rows, from one small message. */
static void exchange_background(Step *s, int64_t mine, ContrastRows *rows) {
    int64_t *all = s->background_of;
    comm_host_gather_i64(s->comm, &mine, 1, all);
    int64_t room = s->config->background.max > 0 ? s->config->background.max : INT64_MAX;
    for (int r = 0; r < s->comm->size; r++) { /* the first background.max in sample order, whatever the rank count */
        const int64_t kept = all[r] < room ? all[r] : room;
        room -= kept;
        s->rows_of[r] += 2 * kept;
        if (r < s->comm->rank)
            rows->first_background += kept;
        if (r == s->comm->rank)
            rows->background = kept;
        rows->total_background += kept;
    }
}

ContrastRows step_rows_decide(Step *s, const StepInput *input, bool masked) {
    ContrastRows rows = {.real = input->rows, .first_real = input->first, .total_real = input->global_rows};
    for (int r = 0; r < s->comm->size; r++) {
        int64_t first, share;
        share_of(input->global_rows, r, s->comm->size, &first, &share);
        s->rows_of[r] = 2 * share;
    }
    if (masked && s->max_background > 0)
        exchange_background(s, background_rows(s), &rows);
    return rows;
}

void step_rows_compose(Step *s, const StepInput *input, const StepViews *views, int64_t background, bool masked,
                       char *out) {
    const Ops *ops = s->device->ops;
    const size_t row = plan_row_bytes(s->model, 0), view = row * (size_t)input->rows;
    if (masked)
        ops->select->rows(s->device, input->rows, row, s->explainer.accept, s->explainer.masked, views->backup, out);
    else
        ops->memory->copy(s->device, out, views->backup, view);
    ops->memory->copy(s->device, out + view, views->random, view);
    const void *source = s->complement ? s->complement : s->explainer.masked;
    for (int copy = 0; copy < 2 && background > 0; copy++)
        ops->convert->gather_rows(s->device, background, row, source, s->rejected,
                                  out + 2 * view + (size_t)copy * row * (size_t)background);
}
