/* The rows of a step: how many each rank brings, and what they are. Private to trainer/method. */
#ifndef EXCON_TRAINER_STEP_ROWS_H
#define EXCON_TRAINER_STEP_ROWS_H

#include "trainer/method/step.h"

/* What the row counts that convolutions are told are multiples of, above 2 * max_samples; 0: they get any count. From
 * max_samples and max_background. */
int64_t step_rows_granularity(const Step *step);

/* The count that convolutions are told for `rows` rows: not below it, not above max_rows. */
int64_t step_rows_told(const Step *step, int64_t rows);

/* Sets step->rows_of: two views of each rank's share of the samples, and where this step may append background rows
 * (`masked`) those, as many as background.max allows. Then it waits for the device, and talks to the other ranks. */
ContrastRows step_rows_decide(Step *step, const StepInput *input, bool masked);

/* [view 1 | view 2 | background | background], as the explanation decided, into `out`, the encoder's input. */
void step_rows_compose(Step *step, const StepInput *input, const StepViews *views, int64_t background, bool masked,
                       char *out);

#endif
