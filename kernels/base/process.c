#include "kernels/base/process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANCESTORS_MAX = 64 };

int process_look(int id, Process *process) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", id);
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT ? 0 : -1;
    const size_t n = fread(line, 1, sizeof line - 1, file);
    const int error = errno;
    fclose(file);
    if (n == 0)
        return error == ESRCH ? 0 : -1;
    line[n] = '\0';
    /* "id (name) state parent ...": the name may hold blanks, brackets and newlines, so its end is the last bracket. */
    char *name = strchr(line, '('), *end = strrchr(line, ')');
    if (!name || !end || end < name)
        return -1;
    process->id = id;
    *end = '\0';
    snprintf(process->name, sizeof process->name, "%s", name + 1);
    return sscanf(end + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &process->state, &process->parent, &process->started) == 3
               ? 1
               : -1;
}

/* Whether process `id` was started with `setting` ("NAME=value") in its environment. */
static int has_setting(int id, const char *setting) {
    char path[64], *entry = NULL;
    size_t size = 0;
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/environ", id);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (!found && getdelim(&entry, &size, '\0', file) > 0)
        found = strcmp(entry, setting) == 0;
    free(entry);
    fclose(file);
    return found;
}

int process_launcher(Process *launcher) {
    const char *job = getenv("PMIX_NAMESPACE");
    char setting[512];
    if (!job || !*job)
        return 0;
    snprintf(setting, sizeof setting, "PMIX_NAMESPACE=%s", job);
    int id = getppid();
    for (int i = 0; i < ANCESTORS_MAX && id > 1 && process_look(id, launcher) == 1; i++) {
        if (!has_setting(id, setting))
            return 1;
        id = launcher->parent;
    }
    return 0;
}
