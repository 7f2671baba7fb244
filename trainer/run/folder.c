/* The run folder. A run claims it (makes it if need be, takes its lock) before anything in it is read, and furnishes it
 * once nothing stands against the run; whoever is refused in between leaves it as it was. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/launcher.h"
#include "comm/watchdog.h"
#include "io/files/files.h"
#include "trainer/run/trainer.h"

static void in_folder(const Trainer *t, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/%s", t->config.run.dir, name);
}

/* The topmost folder that making PATH would make; "" when it is there. */
static void first_missing(const char *path, char *out, size_t size) {
    out[0] = '\0';
    for (size_t n = 1; path[n - 1]; n++) {
        if (path[n] && path[n] != '/')
            continue;
        snprintf(out, size, "%.*s", (int)n, path);
        if (!files_exists(out))
            return;
    }
    out[0] = '\0';
}

static Status check_moved(const char *path, const char *run_dir, char *const *sets, int set_count, Error *err) {
    char folder[PATH_MAX], checkpoints[PATH_MAX], here[PATH_MAX], there[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (strcmp(name, "config.yaml") != 0)
        return STATUS_OK;
    for (int i = 0; i < set_count; i++)
        if (strncmp(sets[i], "run.dir=", strlen("run.dir=")) == 0)
            return STATUS_OK;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    const int n = snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", folder);
    if (n < 0 || n >= (int)sizeof checkpoints || !files_exists(checkpoints) || !realpath(folder, here) ||
        (realpath(run_dir, there) && strcmp(here, there) == 0))
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s belongs to the run in %s, but names run.dir %s (was the folder moved or copied?): add --set "
                     "run.dir=%s to go on with it, or another run.dir to begin one",
                     path, folder, run_dir, folder);
}

Status trainer_load_config(Config *config, const char *path, char *const *sets, int set_count, Error *err) {
    RETURN_IF(config_load(config, path, sets, set_count, err));
    if (!config->data.dir[0] || !config->run.dir[0])
        return error_set(err, STATUS_CONFIG, "%s: data.dir and run.dir must be set", path);
    return check_moved(path, config->run.dir, sets, set_count, err);
}

Status trainer_claim_folder(Trainer *t, Error *err) {
    char path[1200];
    Status status = STATUS_OK;
    t->lock = -1;
    if (t->runtime.comm.rank == 0) {
        in_folder(t, "index.h5", path, sizeof path);
        if (files_exists(path))
            status = error_set(err, STATUS_CONFIG, "run.dir %s is a dataset folder; choose another", t->config.run.dir);
        first_missing(t->config.run.dir, t->made, sizeof t->made);
        if (status == STATUS_OK)
            status = files_make_dirs(t->config.run.dir, err);
        in_folder(t, "lock", path, sizeof path);
        if (status == STATUS_OK)
            status = files_lock(path, &t->lock, err);
    }
    return comm_agree(&t->runtime.comm, status, err);
}

/* Removes the folders this run made, from the innermost on, as far as they are empty. */
static void unmake_folders(const Trainer *t) {
    char path[1024];
    snprintf(path, sizeof path, "%s", t->config.run.dir);
    for (;;) {
        size_t n = strlen(path);
        while (n > 1 && path[n - 1] == '/')
            path[--n] = '\0';
        if (n < strlen(t->made) || rmdir(path) != 0 || n == strlen(t->made))
            return;
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return;
        *slash = '\0';
    }
}

void trainer_release_folder(Trainer *t) {
    char path[1200];
    if (t->lock >= 0) {
        in_folder(t, "lock", path, sizeof path);
        files_unlock(path, t->lock);
        t->lock = -1;
    }
    if (t->made[0] && !t->report.log.file)
        unmake_folders(t);
}

Status trainer_furnish_folder(Trainer *t, Error *err) {
    char path[1200];
    Status status = STATUS_OK;
    if (t->runtime.comm.rank == 0) {
        static const char *const parts[] = {"checkpoints", "events", "logs"};
        for (size_t i = 0; i < 3 && status == STATUS_OK; i++) {
            in_folder(t, parts[i], path, sizeof path);
            status = files_make_dirs(path, err);
        }
    }
    RETURN_IF(comm_agree(&t->runtime.comm, status, err));
    snprintf(path, sizeof path, "%s/logs/rank-%04d.log", t->config.run.dir, t->runtime.comm.rank);
    RETURN_IF(comm_agree(&t->runtime.comm, log_open(&t->report.log, path, err), err));
    const int log = fileno(t->report.log.file);
    launcher_log(t->runtime.comm.launcher, log);
    in_folder(t, "logs", path, sizeof path);
    return watchdog_start(&t->runtime.comm, path, log, t->config.watchdog.step_seconds, err);
}

/* Rank 0: records of steps beyond the position belong to a past that was given up, and go. */
Status trainer_open_metrics(Trainer *t, Error *err) {
    char path[1200];
    metrics_close(t->report.metrics);
    t->report.metrics = NULL;
    in_folder(t, "metrics.jsonl", path, sizeof path);
    return metrics_open(&t->report.metrics, path, t->at.step, err);
}

static Status write_config(Trainer *t, Error *err) {
    char path[1200];
    char *yaml = config_to_yaml(&t->config);
    if (!yaml)
        return error_set(err, STATUS_SYSTEM, "out of memory for config.yaml");
    in_folder(t, "config.yaml", path, sizeof path);
    Status status = files_write_atomic(path, yaml, strlen(yaml), 0, err);
    free(yaml);
    return status;
}

Status trainer_open_records(Trainer *t, Error *err) {
    Status status = STATUS_OK;
    if (t->runtime.comm.rank == 0) {
        status = write_config(t, err);
        if (status == STATUS_OK)
            status = trainer_open_metrics(t, err);
        if (status == STATUS_OK)
            status = report_open_events(&t->report, t->resumed_from >= 0, err);
    }
    status = comm_agree(&t->runtime.comm, status, err);
    t->recording = status == STATUS_OK;
    return status;
}
