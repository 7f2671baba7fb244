/* Saving and restoring a run: rank 0 does the files, everyone agrees. */
#include <stdio.h>
#include <string.h>

#include "trainer/run/state.h"
#include "trainer/run/trainer.h"

static void folder(const Trainer *t, char *path, size_t size) {
    snprintf(path, size, "%s/checkpoints", t->config.run.dir);
}

static void note(void *ctx, const char *text) {
    Trainer *t = ctx;
    trainer_log(t, "%s", text);
    fprintf(stderr, "excon: %s\n", text);
}

static void share(Trainer *t) {
    Model *m = &t->model;
    const Collectives *collectives = t->runtime.comm.collectives;
    collectives->broadcast(&t->runtime.comm, m->master, sizeof(float) * (size_t)m->total, 0);
    collectives->broadcast(&t->runtime.comm, m->velocity, sizeof(float) * (size_t)m->total, 0);
    collectives->broadcast(&t->runtime.comm, m->running, sizeof(float) * (size_t)m->running_total, 0);
    model_sync_low(m);
}

static Status load(Trainer *t, int *found, Error *err) {
    char dir[1200];
    CheckpointFile file;
    folder(t, dir, sizeof dir);
    RETURN_IF(checkpoint_load_newest(dir, &file, found, note, t, err));
    if (!*found)
        return STATUS_OK;
    char hash[65];
    config_hash(&t->config, hash);
    if (strcmp(hash, file.meta.config_hash) != 0)
        note(t, "the configuration differs from the one this run was started with; continuing with the new one");
    Status status = state_restore(&t->model, &file, 1, err);
    if (status == STATUS_OK) {
        const CheckpointMeta fresh = t->at;
        t->at = file.meta;
        t->at.world_size = fresh.world_size;
        memcpy(t->at.config_hash, fresh.config_hash, sizeof fresh.config_hash);
    }
    checkpoint_free(&file);
    return status;
}

Status trainer_restore(Trainer *t, int *found, Error *err) {
    Status status = STATUS_OK;
    *found = 0;
    if (t->runtime.comm.rank == 0)
        status = load(t, found, err);
    RETURN_IF(comm_agree(&t->runtime.comm, status, err));
    comm_host_broadcast(&t->runtime.comm, found, sizeof *found, 0);
    if (*found) {
        comm_host_broadcast(&t->runtime.comm, &t->at, sizeof t->at, 0);
        t->epoch = (Tally){.sums = t->at.tally};
        share(t);
    }
    return STATUS_OK;
}

static Status save(Trainer *t, int is_best, Error *err) {
    char dir[1200];
    CheckpointTensor *tensors = NULL;
    int count = 0;
    folder(t, dir, sizeof dir);
    RETURN_IF(state_capture(&t->model, &tensors, &count, err));
    Status status =
        checkpoint_save(dir, &t->at, tensors, count, (int)t->config.checkpoint.keep, is_best, t->resumed_from, err);
    state_free(tensors, count);
    return status;
}

Status trainer_save(Trainer *t, int is_best, Error *err) {
    Status status = STATUS_OK;
    t->at.tally = t->epoch.sums;
    loader_pause(t->loader); /* HDF5 belongs to one thread at a time */
    if (t->runtime.comm.rank == 0)
        status = save(t, is_best, err);
    loader_resume(t->loader);
    RETURN_IF(comm_agree(&t->runtime.comm, status, err));
    t->last_saved = t->at.step;
    trainer_log(t, "saved step %lld (epoch %lld, batch %lld)", (long long)t->at.step, (long long)t->at.epoch,
                (long long)t->at.cursor);
    return STATUS_OK;
}
