/* CPU quotas as control groups write them (versions 1 and 2, nested, in and out of containers), on files of a scratch
 * folder; the choice of a thread count; OpenMP teams that come out smaller than asked. */
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/files/files.h"
#include "kernels/base/processors.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

static const char mount_v1[] =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu\\040time rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n";
static const char mount_v2[] = "24 23 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

typedef struct File {
    const char *path, *text;
} File;

typedef struct Case {
    const char *name, *groups, *mounts;
    File files[6];
    double quota;
} Case;

static const Case cases[] = {
    {"no control groups at all", NULL, NULL, {{NULL, NULL}}, 0},
    {"v2, limited",
     "0::/user.slice/job\n",
     mount_v2,
     {{"sys/fs/cgroup/user.slice/job/cpu.max", "150000 100000\n"}},
     1.5},
    {"v2, without a limit", "0::/job\n", mount_v2, {{"sys/fs/cgroup/job/cpu.max", "max 100000\n"}}, 0},
    {"v2, a parent is tighter",
     "0::/a/b/c\n",
     mount_v2,
     {{"sys/fs/cgroup/a/cpu.max", "max 100000\n"},
      {"sys/fs/cgroup/a/b/cpu.max", "50000 100000\n"},
      {"sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n"}},
     0.5},
    {"v2, in a container: its own group is the root",
     "0::/\n",
     mount_v2,
     {{"sys/fs/cgroup/cpu.max", "300000 100000\n"}},
     3},
    {"v2, the mount shows a part of the hierarchy",
     "0::/docker/abc/inner\n",
     "24 23 0:30 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
     {{"sys/fs/cgroup/cpu.max", "200000 100000\n"}, {"sys/fs/cgroup/inner/cpu.max", "max 100000\n"}},
     2},
    {"v1, limited",
     "9:cpuset:/other\n4:cpu,cpuacct:/job\n",
     mount_v1,
     {{"sys/fs/cgroup/cpu time/job/cpu.cfs_quota_us", "250000\n"},
      {"sys/fs/cgroup/cpu time/job/cpu.cfs_period_us", "100000\n"}},
     2.5},
    {"v1, without a limit",
     "4:cpu,cpuacct:/job\n",
     mount_v1,
     {{"sys/fs/cgroup/cpu time/job/cpu.cfs_quota_us", "-1\n"},
      {"sys/fs/cgroup/cpu time/job/cpu.cfs_period_us", "100000\n"}},
     0},
    {"v1, in a container without a name space: path and mount root agree",
     "4:cpuacct,cpu:/docker/abc\n",
     "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpuacct,cpu\n",
     {{"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"}, {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n"}},
     2},
    {"v1, the path names a group that the mount does not show",
     "4:cpu:/elsewhere\n",
     "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
     {{"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"}, {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
     1},
    {"both versions, the tighter one",
     "4:cpu:/a\n0::/b\n",
     "32 31 0:29 / /v1 rw - cgroup cgroup rw,cpu\n33 31 0:30 / /v2 rw - cgroup2 cgroup2 rw\n",
     {{"v1/a/cpu.cfs_quota_us", "400000\n"},
      {"v1/a/cpu.cfs_period_us", "100000\n"},
      {"v2/b/cpu.max", "300000 100000\n"}},
     3},
    {"cpuset is not cpu",
     "4:cpuset:/a\n",
     "32 31 0:29 / /v1 rw - cgroup cgroup rw,cpuset\n",
     {{"v1/a/cpu.cfs_quota_us", "100000\n"}, {"v1/a/cpu.cfs_period_us", "100000\n"}},
     0},
    {"files that say nothing",
     "0::/a\nnonsense\n",
     "half a line\n24 23 0:30 / /v2 rw - cgroup2 cgroup2 rw\n",
     {{"v2/a/cpu.max", ""}, {"v2/cpu.max", "lots\n"}},
     0},
};

static void put(const char *root, const char *path, const char *text) {
    char whole[PATH_BYTES];
    folder_join(whole, root, path);
    char *slash = strrchr(whole, '/');
    *slash = '\0';
    assert_int_equal(files_make_dirs(whole, NULL), STATUS_OK);
    *slash = '/';
    file_write(whole, text, strlen(text));
}

static void test_quota(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char root[FOLDER_BYTES];
        folder_make(root);
        if (cases[c].groups)
            put(root, "proc/self/cgroup", cases[c].groups);
        if (cases[c].mounts)
            put(root, "proc/self/mountinfo", cases[c].mounts);
        for (const File *file = cases[c].files; file->path; file++)
            put(root, file->path, file->text);
        const double quota = processors_quota(root);
        folder_remove(root);
        if (!(quota > cases[c].quota - 1e-9 && quota < cases[c].quota + 1e-9))
            fail_msg("%s: %g, expected %g", cases[c].name, quota, cases[c].quota);
    }
}

static void test_choice(void **state) {
    (void)state;
    const struct {
        double share, quota;
        const char *wanted;
        int threads;
        const char *why;
    } choices[] = {
        {8, 0, NULL, 8, "COUNTED"},
        {8, 2.5, NULL, 2, "control group's quota of 2.5 processors"},
        {8, 0.3, NULL, 1, "control group's quota of 0.3 processor"},
        {2, 3, NULL, 2, "COUNTED"},
        {2.9999999, 0, NULL, 3, "COUNTED"},
        {0.5, 0, NULL, 1, "COUNTED"},
        {8, 2, "5", 5, "OMP_NUM_THREADS, more than the control group's quota of 2 processors"},
        {2, 0, "4,2", 4, "OMP_NUM_THREADS, more than the COUNTED"},
        {8, 0, "5", 5, "OMP_NUM_THREADS"},
        {8, 0, "", 8, "COUNTED"},
        {8, 0, "many", 8, "COUNTED"},
        {8, 0, "-3", 8, "COUNTED"},
    };
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        char why[THREADS_WHY_BYTES] = "";
        if (choices[i].wanted)
            setenv("OMP_NUM_THREADS", choices[i].wanted, 1);
        else
            unsetenv("OMP_NUM_THREADS");
        const int threads = processors_threads(choices[i].share, choices[i].quota, "COUNTED", why);
        if (threads != choices[i].threads || strcmp(why, choices[i].why) != 0)
            fail_msg("choice %zu: %d, '%s'", i, threads, why);
    }
}

/* The affinity alone decides in a program that runs alone, where no quota is set. */
static void test_affinity(void **state) {
    (void)state;
    cpu_set_t before, one;
    char why[THREADS_WHY_BYTES];
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    unsetenv("OMP_NUM_THREADS");
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    const int threads = processors_threads_alone(why);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(threads, 1);
}

static void test_team(void **state) {
    (void)state;
    omp_set_dynamic(1);
    const int given = processors_team(3);
    assert_in_range(given, 1, 3);
    assert_int_equal(omp_get_dynamic(), 0);
    assert_int_equal(processors_team(3), 3); /* and from now on as many as are asked for */
    omp_set_max_active_levels(0);
    assert_int_equal(processors_team(3), 1);
    omp_set_max_active_levels(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_affinity),
        cmocka_unit_test(test_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
