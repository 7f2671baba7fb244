/* Saving and restoring a run: rank 0 does the files, everyone agrees. */
#include <stdio.h>
#include <string.h>

#include "trainer/run/resume/state.h"
#include "trainer/run/trainer.h"

static void folder(const Trainer *t, char *path, size_t size) {
    snprintf(path, size, "%s/checkpoints", t->config.run.dir);
}

static void note(void *ctx, const char *text) {
    Trainer *t = ctx;
    log_note(&t->report.log, "%s", text);
}

/* Where every run begins with a checkpoint of step 0, records of steps without a checkpoint are what is left of one. */
static Status none_found(Trainer *t, Error *err) {
    char path[1200];
    snprintf(path, sizeof path, "%s/metrics.jsonl", t->config.run.dir);
    const int64_t step = metrics_last_step(path);
    if (step <= 0)
        return STATUS_OK;
    return error_set(err, STATUS_DATA,
                     "%s holds records up to step %lld, but no checkpoint to go on from: bring checkpoints/ back, or "
                     "remove the folder, or choose another run.dir",
                     t->config.run.dir, (long long)step);
}

static void share(Trainer *t) {
    Model *m = &t->model;
    const Collectives *collectives = t->runtime.comm.collectives;
    collectives->broadcast(&t->runtime.comm, m->master, sizeof(float) * (size_t)m->total, 0);
    for (int s = 0; s < OPTIMISER_SLOTS; s++)
        if (t->optimiser.slots[s])
            collectives->broadcast(&t->runtime.comm, t->optimiser.slots[s], sizeof(float) * (size_t)m->total, 0);
    collectives->broadcast(&t->runtime.comm, m->running, sizeof(float) * (size_t)m->running_total, 0);
    model_sync_low(m);
}

static Status load(Trainer *t, int *found, Error *err) {
    char dir[1200];
    CheckpointFile file;
    folder(t, dir, sizeof dir);
    const CheckpointReader reader = {.note = note, .accept = trainer_accept, .ctx = t};
    RETURN_IF(checkpoint_load_newest(dir, &file, found, &reader, err));
    if (!*found)
        return none_found(t, err);
    Status status = state_restore(&t->model, &t->optimiser, &file, err);
    if (status == STATUS_OK) {
        const CheckpointMeta fresh = t->at;
        t->at = file.meta;
        t->at.world_size = fresh.world_size;
        memcpy(t->at.config_hash, fresh.config_hash, sizeof fresh.config_hash);
        memcpy(t->at.data_hash, fresh.data_hash, sizeof fresh.data_hash);
        memcpy(t->at.settings, fresh.settings, sizeof fresh.settings);
    }
    checkpoint_free(&file);
    return status;
}

/* Rank 0 of a trial: would the run go on from what its folder holds? */
static Status look(Trainer *t, Error *err) {
    char dir[1200];
    CheckpointFile file;
    int found;
    const CheckpointReader reader = {.note = note, .accept = trainer_accept, .ctx = t, .look_only = 1};
    folder(t, dir, sizeof dir);
    RETURN_IF(checkpoint_load_newest(dir, &file, &found, &reader, err));
    if (!found)
        return none_found(t, err);
    t->would_resume = file.meta.step;
    checkpoint_free(&file);
    return STATUS_OK;
}

Status trainer_look(Trainer *t, Error *err) {
    t->would_resume = -1;
    return comm_agree(&t->runtime.comm, t->runtime.comm.rank == 0 ? look(t, err) : STATUS_OK, err);
}

Status trainer_restore(Trainer *t, int *found, Error *err) {
    Status status = STATUS_OK;
    *found = 0;
    if (t->trial)
        return STATUS_OK;
    if (t->runtime.comm.rank == 0)
        status = load(t, found, err);
    RETURN_IF(comm_agree(&t->runtime.comm, status, err));
    comm_host_broadcast(&t->runtime.comm, found, sizeof *found, 0);
    if (*found) {
        comm_host_broadcast(&t->runtime.comm, &t->at, sizeof t->at, 0);
        t->report.epoch = (Tally){.sums = t->at.tally};
        share(t);
    }
    return STATUS_OK;
}

static Status save(Trainer *t, bool is_best, Error *err) {
    char dir[1200];
    CheckpointFile file = {.meta = t->at, .class_names = t->dataset.class_names};
    folder(t, dir, sizeof dir);
    RETURN_IF(state_capture(&t->model, &t->optimiser, &file.tensors, &file.count, err));
    Status status = checkpoint_save(dir, &file, (int)t->config.checkpoint.keep, is_best, t->resumed_from, err);
    state_free(file.tensors, file.count);
    return status;
}

Status trainer_save(Trainer *t, bool is_best, Error *err) {
    Status status = STATUS_OK;
    if (t->trial)
        return STATUS_OK;
    t->at.tally = t->report.epoch.sums;
    loader_pause(t->loader); /* HDF5 belongs to one thread at a time */
    if (t->runtime.comm.rank == 0)
        status = save(t, is_best, err);
    loader_resume(t->loader);
    RETURN_IF(comm_agree(&t->runtime.comm, status, err));
    t->last_saved = t->at.step;
    log_line(&t->report.log, "saved step %lld (epoch %lld, batch %lld)", (long long)t->at.step, (long long)t->at.epoch,
             (long long)t->at.cursor);
    return STATUS_OK;
}
