/* A training run: everything it owns, its position, and the operations on it. One process, one Trainer. */
#ifndef EXCON_TRAINER_TRAINER_H
#define EXCON_TRAINER_TRAINER_H

#include <stdbool.h>

#include "io/checkpoint/checkpoint.h"
#include "trainer/evaluate/evaluator.h"
#include "trainer/method/step.h"
#include "trainer/report/training/report.h"
#include "trainer/run/runtime.h"

typedef struct Trainer {
    Config config;
    Runtime runtime;
    char backend_choice[256];
    Dataset dataset;
    int64_t *train_ids, *select_ids; /* trained on; best epoch is chosen on */
    int64_t train_count, select_count;
    Split select_split;
    Model model;
    Optimiser optimiser;
    Step step;
    Feed feed;
    StepViews views;
    Evaluator evaluator;
    LoaderMode loader_mode;
    Loader *loader;
    Resident resident; /* training images on the device, in ids mode */
    double resident_seconds;
    int64_t batches;      /* of an epoch */
    CheckpointMeta at;    /* position; a checkpoint is this plus the model */
    int64_t resumed_from; /* step, -1: fresh */
    int64_t last_saved;   /* step, -1: none by this process */
    int64_t skipped_in_row, rollbacks;
    Report report;        /* lines, records and log; the sums of the epoch */
    char setup[512];      /* of the report */
    bool trial;           /* leaves no trace on disk */
    int64_t would_resume; /* trial: step of the checkpoint that a run would go on from, -1: none; rank 0 */
    bool idle;            /* nothing is left to train: the folder stays as it is */
    bool recording;       /* config.yaml and records are this run's */
    /* rank 0 only */
    int lock;
    char made[1024]; /* the topmost folder that was made for run.dir; "": it was there */
} Trainer;

typedef struct TrainerOptions {
    bool bar;   /* draw a progress bar instead of lines */
    bool trial; /* look whether the run could go on from what its folder holds, train from the seed, write nothing */
} TrainerOptions;

/* config_load for a run: data.dir and run.dir must be set. STATUS_CONFIG, too, when `path` is the config.yaml of a run
 * folder that was moved or copied: its run.dir, which no --set replaces, is another folder. */
Status trainer_load_config(Config *config, const char *path, char *const *sets, int set_count, Error *err);

/* Opens everything, resumes from the newest valid checkpoint of the run folder, prints the banner. When it refuses, the
 * folder is as it was, and so it stays when the run is complete already (t->idle). A failed open has closed what it
 * opened, and said why, as trainer_close does. */
Status trainer_open(Trainer *t, const Config *config, const TrainerOptions *options, Error *err);
/* Trains to the end, to train.max_steps, or until a signal (STATUS_RERUN after saving). */
Status trainer_run(Trainer *t, Error *err);
/* `status` is how the run ended, and what is returned, unless something of it was lost. */
Status trainer_close(Trainer *t, Status status, Error *err);

/* ---- parts, each its own file ---- */
/* loop.c: train.max_steps is reached. */
bool trainer_at_limit(const Trainer *t);
/* data.c: images of a whole batch over all ranks: train.batch, or all there are. */
int64_t trainer_batch(const Trainer *t);
/* Chooses the way of the training images, and opens feed and loader for it; the banner's line about it; and a warning
 * where the loader has too little memory, on rank 0. */
Status trainer_open_loader(Trainer *t, Error *err);
void trainer_data_line(const Trainer *t, char *out, size_t bytes);
void trainer_warn_of_cache(Trainer *t);
/* folder.c: claims run.dir for this run (73 when another holds it); makes what is in it, logs and watchdog among that;
 * then config.yaml and records. Releasing removes what claiming made, when nothing more came of it. */
Status trainer_claim_folder(Trainer *t, Error *err);
Status trainer_furnish_folder(Trainer *t, Error *err);
Status trainer_open_records(Trainer *t, Error *err);
Status trainer_open_metrics(Trainer *t, Error *err); /* again after a rollback; rank 0 */
void trainer_release_folder(Trainer *t);
/* resume/identity.c: whether a checkpoint belongs to this run (a CheckpointReader's accept with the Trainer as ctx).
 * STATUS_CONFIG names the settings that must not change, STATUS_DATA other classes or images. */
Status trainer_accept(void *trainer, const CheckpointFile *file, Error *err);
/* STATUS_DATA when the checkpoint's classes are not the dataset's first ones, by number and, where it holds them, by
 * name; `who` names the checkpoint. */
Status identity_classes(const char *who, const CheckpointFile *file, const Dataset *dataset, Error *err);
/* resume/resume.c: rank 0 loads, everyone gets the model and t->at. */
Status trainer_restore(Trainer *t, int *found, Error *err);
Status trainer_look(Trainer *t, Error *err); /* of a trial */
Status trainer_save(Trainer *t, bool is_best, Error *err);
/* status.c: status.json; `state` is a token: training, saved, done or failed. A signal makes it stopping (signals.h).
 */
void trainer_write_status(Trainer *t, const char *state);

#endif
