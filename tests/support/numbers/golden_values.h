/* Named arrays of a golden file that tests compare with directly (those of `excon probe` are compared by probe.h). */
#ifndef EXCON_TESTS_GOLDEN_VALUES_H
#define EXCON_TESTS_GOLDEN_VALUES_H

#include "io/arrays/arrays.h"

/* Opens $GOLDEN/NAME (tests/golden/NAME); fails the test when it cannot. Close with array_file_close. */
ArrayFile *golden_open(const char *name);

/* A whole dataset, to be freed by array_free; fails the test when it is not there. */
Array golden_array(const ArrayFile *file, const char *name, ArrayType type);

/* Fails the test unless got [n] is the dataset's values, NaN for NaN, to 1e-5 of each value or of 1 if that is more:
 * they are stored as float32 but computed in double. */
void golden_equals(const ArrayFile *file, const char *name, int64_t n, const double *got);
/* The same for one value. */
void golden_equals_one(const ArrayFile *file, const char *name, double got);

#endif
