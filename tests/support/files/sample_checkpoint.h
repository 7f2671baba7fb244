/* Checkpoints whose contents follow from their step, for tests: made, saved, and recognised when loaded. */
#ifndef EXCON_TESTS_SAMPLE_CHECKPOINT_H
#define EXCON_TESTS_SAMPLE_CHECKPOINT_H

#include "io/checkpoint/checkpoint.h"
#include "tests/support/files/folder.h"

enum { SAMPLE_TENSORS = 6 };

/* State that depends on the step, so that one checkpoint is never mistaken for another. */
void sample_make(int64_t step, CheckpointMeta *meta, CheckpointTensor tensors[SAMPLE_TENSORS]);
void sample_free(CheckpointTensor tensors[SAMPLE_TENSORS]);
size_t sample_values(const CheckpointTensor *tensor);

Status sample_save_best(const char *dir, int64_t step, int keep, int is_best, int64_t best_step, int64_t resumed_from,
                        Error *err);
Status sample_save(const char *dir, int64_t step, Error *err); /* keeps three, none of them the best */

/* 1 when the loaded state is exactly that of its step. */
int sample_right(const CheckpointFile *file);
/* 1 when the file loads, and then rightly; 0 when it is refused by name. Anything else fails the test. */
int sample_loads(const char *path, Error *err);

typedef struct Notes {
    int count;
    char last[4096];
} Notes;

/* Step of the newest valid checkpoint, checked to be right; -1: none there; -2: STATUS_DATA. */
int64_t sample_newest(const char *dir, Notes *notes);

/* DIR/step-NNNNNNNN.h5SUFFIX in the folder, and the step that DIR/NAME points to (-1: to none). */
const char *sample_file(Folder *folder, const char *dir, int64_t step, const char *suffix);
int64_t sample_link(const char *dir, const char *name);

#endif
