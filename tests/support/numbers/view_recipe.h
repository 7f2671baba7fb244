/* The published augmentation, for tests of the views operator. */
#ifndef EXCON_TESTS_VIEW_RECIPE_H
#define EXCON_TESTS_VIEW_RECIPE_H

#include "kernels/contract/views.h"

/* Seed 3, epoch 2, view 1; channel statistics that differ, so that a swapped channel is seen. */
ViewSpec view_recipe(ViewKind kind);

#endif
