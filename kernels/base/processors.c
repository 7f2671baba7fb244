/* Threads that a process may run. See processors.h. */
#include "kernels/base/processors.h"

#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/process.h"

enum { LINE_BYTES = 4 * PATH_MAX, GROUPS = 2 };

/* The group of one hierarchy that controls this process's processor time. */
typedef struct Group {
    int version;         /* of control groups: 1 or 2 */
    char path[PATH_MAX]; /* in its hierarchy, from /proc/self/cgroup; empty: not there */
} Group;

/* ---- control groups ---------------------------------------------------------------------------------------------- */

/* 1 when `word` is an element of the comma-separated `list`. */
static int listed(const char *list, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return 1;
    return 0;
}

/* Lines "number:controllers:path"; version 2's is "0::path". */
static void read_groups(const char *root, char *line, Group groups[GROUPS]) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, LINE_BYTES, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *where = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!where)
            continue;
        *where++ = '\0';
        controllers++;
        if (*controllers == '\0')
            snprintf(groups[1].path, PATH_MAX, "%s", where);
        else if (listed(controllers, "cpu"))
            snprintf(groups[0].path, PATH_MAX, "%s", where);
    }
    if (file)
        fclose(file);
}

/* Undoes the octal escapes of /proc/self/mountinfo (blank, tab, newline, backslash), in place. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Limit of the group whose files lie in `folder`, in processors; 0: none. */
static double limit_of(const char *folder, int version) {
    char path[PATH_MAX + 32], quota_text[32] = "";
    double quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/%s", folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int found = fscanf(file, "%31s %lf", quota_text, &period);
    fclose(file);
    if (found < 1)
        return 0;
    if (version == 1) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        file = fopen(path, "re");
        if (!file)
            return 0;
        found = fscanf(file, "%lf", &period) + 1;
        fclose(file);
    }
    quota = strtod(quota_text, NULL); /* "max" and -1 are no limits */
    return found == 2 && quota > 0 && period > 0 ? quota / period : 0;
}

static double smaller_limit(double a, double b) {
    return a > 0 && (b <= 0 || a < b) ? a : b;
}

/* Smallest limit from the group down the mounted hierarchy up to its mount point. The mount may show a part of the
 * hierarchy only (`mount_root` and below); a group outside of it is looked up at the mount point itself. */
static double limit_upwards(const char *root, const Group *group, const char *mount_root, const char *mount_point) {
    char folder[PATH_MAX];
    const size_t skip = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    const char *below = "";
    if (strncmp(group->path, mount_root, skip) == 0 && (group->path[skip] == '/' || group->path[skip] == '\0'))
        below = group->path + skip;
    int length = snprintf(folder, sizeof folder, "%s%s", root, mount_point);
    const size_t top = (size_t)length;
    if (length < 0 || top + strlen(below) >= sizeof folder)
        return 0;
    strcat(folder, below);
    double limit = 0;
    for (;;) {
        limit = smaller_limit(limit_of(folder, group->version), limit);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= top || !slash)
            return limit;
        *slash = '\0';
    }
}

/* A line of mountinfo: number parent device root mount-point options [tags] - type source super-options. */
static double limit_of_mount(const char *root, char *line, const Group groups[GROUPS]) {
    char *fields[5] = {NULL}, *rest[3] = {NULL}, *save = NULL, *dash = strstr(line, " - ");
    if (!dash)
        return 0;
    *dash = '\0';
    rest[0] = strtok_r(dash + 3, " \n", &save);
    for (int i = 1; i < 3 && rest[i - 1]; i++)
        rest[i] = strtok_r(NULL, " \n", &save);
    fields[0] = strtok_r(line, " ", &save);
    for (int i = 1; i < 5 && fields[i - 1]; i++)
        fields[i] = strtok_r(NULL, " ", &save);
    if (!fields[4] || !rest[2])
        return 0;
    const Group *group = strcmp(rest[0], "cgroup2") == 0                            ? &groups[1]
                         : strcmp(rest[0], "cgroup") == 0 && listed(rest[2], "cpu") ? &groups[0]
                                                                                    : NULL;
    if (!group || !group->path[0])
        return 0;
    unescape(fields[3]);
    unescape(fields[4]);
    return limit_upwards(root, group, fields[3], fields[4]);
}

double processors_quota(const char *root) {
    char path[PATH_MAX];
    Group *groups = calloc(GROUPS, sizeof *groups);
    char *line = malloc(LINE_BYTES);
    double limit = 0;
    if (groups && line) {
        groups[0].version = 1;
        groups[1].version = 2;
        read_groups(root, line, groups);
        snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
        FILE *file = fopen(path, "re");
        while (file && fgets(line, LINE_BYTES, file))
            limit = smaller_limit(limit_of_mount(root, line, groups), limit);
        if (file)
            fclose(file);
    }
    free(groups);
    free(line);
    return limit;
}

/* ---- the launcher's binding -------------------------------------------------------------------------------------- */

static int is_launcher(const char *name) {
    static const char *const names[] = {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prte", "prted"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return 0;
}

int processors_of_launcher(cpu_set_t *allowed) {
    static const char *const chosen[] = {"OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy",
                                         "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"};
    const char *mapping = getenv("OMPI_MCA_rmaps_base_mapping_policy");
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
        if (getenv(chosen[i]))
            return 0;
    if (!getenv("OMPI_COMM_WORLD_SIZE") || (mapping && (strstr(mapping, "PE=") || strstr(mapping, "pe="))))
        return 0;
    Process launcher;
    return process_launcher(&launcher) && is_launcher(launcher.name) &&
           sched_getaffinity(launcher.id, sizeof *allowed, allowed) == 0;
}

/* ---- the choice -------------------------------------------------------------------------------------------------- */

int processors_threads(double share, double quota, const char *counted, char why[THREADS_WHY_BYTES]) {
    const char *text = getenv("OMP_NUM_THREADS");
    const long wanted = text ? strtol(text, NULL, 10) : 0;
    const int by_quota = quota > 0 && quota < share;
    const double most = by_quota ? quota : share;
    const int threads = most >= 1 ? (int)(most + 1e-6) : 1;
    char limit[THREADS_WHY_BYTES];
    if (by_quota)
        snprintf(limit, sizeof limit, "control group's quota of %.3g processor%s", quota, quota > 1 ? "s" : "");
    else
        snprintf(limit, sizeof limit, "%s", counted);
    if (wanted <= 0 || wanted > INT_MAX) {
        snprintf(why, THREADS_WHY_BYTES, "%s", limit);
        return threads;
    }
    if (wanted > threads)
        snprintf(why, THREADS_WHY_BYTES, "OMP_NUM_THREADS, more than the %.80s", limit);
    else
        snprintf(why, THREADS_WHY_BYTES, "OMP_NUM_THREADS");
    return (int)wanted;
}

int processors_threads_alone(char why[THREADS_WHY_BYTES]) {
    cpu_set_t mask;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int all = online > 0 ? (int)online : 1;
    const int mine = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : all;
    char counted[64];
    snprintf(counted, sizeof counted, "%d of %d processor%s", mine, all, all == 1 ? "" : "s");
    return processors_threads(mine, processors_quota(""), counted, why);
}

int processors_team(int wanted) {
    int given = 1;
#pragma omp parallel num_threads(wanted)
#pragma omp single
    given = omp_get_num_threads();
    omp_set_dynamic(0);
    return given;
}
