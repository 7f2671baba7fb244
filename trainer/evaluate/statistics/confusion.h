/* Which classes are taken for which. */
#ifndef EXCON_TRAINER_CONFUSION_H
#define EXCON_TRAINER_CONFUSION_H

#include <stdint.h>

/* counts [classes, classes], label by prediction, over labels and predicted [n]. Samples whose label or prediction is
 * no class (-1 for logits with a NaN) are in no cell; returns their number. */
int64_t confusion_count(int64_t n, const int32_t *labels, const int32_t *predicted, int classes, int64_t *counts);

/* Share of each class's samples that were predicted as that class, from the diagonal; NaN for a class without samples.
 */
void confusion_class_accuracy(int classes, const int64_t *counts, double *accuracy);

#endif
