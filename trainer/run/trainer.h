/* A training run: everything it owns, its position, and the operations on it. One process, one Trainer. */
#ifndef EXCON_TRAINER_TRAINER_H
#define EXCON_TRAINER_TRAINER_H

#include "io/checkpoint/checkpoint.h"
#include "io/records/records.h"
#include "trainer/evaluate/evaluator.h"
#include "trainer/method/step.h"
#include "trainer/run/runtime.h"

typedef enum RunPhase { RUN_ENCODER = 0, RUN_CLASSIFIER = 1 } RunPhase;

/* Sums since the last progress line or epoch. */
typedef struct Tally {
    CheckpointTally sums; /* of an epoch: also over its steps before a resume or a rollback */
    int64_t images;       /* trained in `seconds` */
    double seconds, phase[PHASE_COUNT];
} Tally;

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
    double last_lr;
    Tally interval, epoch;
    double last_loss, last_classifier_loss; /* means of the last interval that had one, else NaN */
    double started;                         /* monotonic seconds */
    int64_t steps_at_start;
    int bar;              /* draw a progress bar instead of lines */
    int trial;            /* leaves no trace on disk */
    int64_t would_resume; /* trial: step of the checkpoint that a run would go on from, -1: none; rank 0 */
    int idle;             /* nothing is left to train: the folder stays as it is */
    int recording;        /* config.yaml and records are this run's */
    /* rank 0 only */
    int lock;
    char made[1024]; /* the topmost folder that was made for run.dir; "": it was there */
    Metrics *metrics;
    Events *events;
    Sheet sheet; /* of the last evaluation */
    Error lost;  /* the first record (metrics, events, status) that could not be written; its code is 0: none */
    /* every rank */
    FILE *log;   /* logs/rank-NNNN.log */
    char *early; /* what was said before there was a log; malloc'ed */
} Trainer;

enum { EARLY_LOG_BYTES = 1 << 16 };

/* Opens everything, resumes from the newest valid checkpoint of the run folder, prints the banner. When it refuses, the
 * folder is as it was, and so it stays when the run is complete already (t->idle). `trial`: looks whether the run could
 * go on from what its folder holds, trains from the seed all the same, and writes nothing. */
Status trainer_open(Trainer *t, const Config *config, int bar, int trial, Error *err);
/* Trains to the end, to train.max_steps, or until a signal (STATUS_RERUN after saving). */
Status trainer_run(Trainer *t, Error *err);
Status trainer_close(Trainer *t, Status status, Error *err);

/* ---- parts, each its own file ---- */
/* data.c: images of a whole batch over all ranks: train.batch, or all there are. */
int64_t trainer_batch(const Trainer *t);
/* Chooses the way of the training images, and opens feed and loader for it; and the banner's line about it. */
Status trainer_open_loader(Trainer *t, Error *err);
void trainer_data_line(const Trainer *t, FILE *out);
/* folder.c: claims run.dir for this run (73 when another holds it); makes what is in it, logs and watchdog among that;
 * then config.yaml and records. Releasing removes what claiming made, when nothing more came of it. */
Status trainer_claim_folder(Trainer *t, Error *err);
Status trainer_furnish_folder(Trainer *t, Error *err);
Status trainer_open_records(Trainer *t, Error *err);
Status trainer_open_metrics(Trainer *t, Error *err); /* again after a rollback; rank 0 */
void trainer_release_folder(Trainer *t);
/* STATUS_CONFIG when `path` is the config.yaml of a run folder that was moved or copied: its run.dir, which no --set
 * replaces, is another folder. */
Status folder_check_moved(const char *path, const char *run_dir, char *const *sets, int set_count, Error *err);
/* identity.c: whether a checkpoint belongs to this run (a CheckpointReader's accept with the Trainer as ctx).
 * STATUS_CONFIG names the settings that must not change, STATUS_DATA other classes or images. */
Status trainer_accept(void *trainer, const CheckpointFile *file, Error *err);
/* STATUS_DATA when the checkpoint's classes are not the dataset's first ones, by number and, where it holds them, by
 * name; `who` names the checkpoint. */
Status identity_classes(const char *who, const CheckpointFile *file, const Dataset *dataset, Error *err);
/* resume.c: rank 0 loads, everyone gets the model and t->at. */
Status trainer_restore(Trainer *t, int *found, Error *err);
Status trainer_look(Trainer *t, Error *err); /* of a trial */
Status trainer_save(Trainer *t, int is_best, Error *err);
/* banner.c */
void trainer_banner(Trainer *t);
/* tensorboard.c, on rank 0: opens the event file (after a resume the steps beyond the position are void) and writes the
 * configuration; what record_step and the epoch's record say; `split` names what `selection` (NULL: not evaluated) and
 * `sheet` are of. */
Status trainer_board_open(Trainer *t, Error *err);
void trainer_board_step(Trainer *t);
void trainer_board_epoch(Trainer *t, const char *split, const EvalResult *selection, const Sheet *sheet);
/* To stderr and the log. */
void trainer_note(Trainer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* report.c */
void trainer_log(Trainer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A record could not be written: said at once, and the run ends with STATUS_IO if nothing worse happens. Rank 0. */
void trainer_lost(Trainer *t, const Error *what);
void trainer_report_step(Trainer *t, const StepReport *report);
void trainer_report_epoch(Trainer *t, int64_t epoch, const EvalResult *selection);
/* Means over the steps that had such a loss and were not skipped; NaN when there was none. */
double tally_loss(const Tally *tally);
double tally_classifier_loss(const Tally *tally);
/* status.json; `state` is a token: training, saved, done or failed. A signal makes it stopping (signals.h). */
void trainer_report_status(Trainer *t, const char *state);
/* The last line of a run that came to its end. */
void trainer_report_end(const Trainer *t);

#endif
