/* Which views a method draws, from the configuration. View numbers: 1 the first view (ExCon's backup crop), 2 the
 * second, 3 the classifier's own pass. */
#ifndef EXCON_TRAINER_VIEW_SPECS_H
#define EXCON_TRAINER_VIEW_SPECS_H

#include "kernels/contract/views.h"
#include "trainer/config/config.h"

enum { VIEW_FIRST = 1, VIEW_SECOND = 2, VIEW_CLASSIFIER = 3 };

/* How the kernel draws and normalises one view of images with the channel statistics `mean` and `std`. */
ViewSpec view_spec(const Config *config, ViewKind kind, uint32_t epoch, uint32_t view, const float mean[3],
                   const float std[3]);

#endif
