/* Who ends with the launcher. Ranks that compute and never call MPI are gone soon after a kill -9 of mpirun, be there a
 * script between the two or not; nobody is ended whose launcher lives on, or who never had one. This program starts
 * itself, under mpirun and without. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mpi.h>

#include "comm/comm.h"
#include "comm/launcher.h"
#include "kernels/base/process.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"

/* Seconds: the promise; what a rank that nobody ends computes for; how long those must go on that nothing may end. */
enum { PROMISE = 10, FOREVER = 60, LONG_ENOUGH = 4 };

static void pass(double seconds) {
    usleep((useconds_t)(1e6 * seconds));
}

/* ---- a rank ------------------------------------------------------------------------------------------------------ */

/* Writes its process number to FOLDER/rank-R, computes for `seconds`, writes FOLDER/done-R. */
static int rank_main(const char *folder, int seconds) {
    Comm comm;
    Error err = {.code = STATUS_OK};
    char path[1100], text[1200];
    if (comm_init(&comm, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return (int)err.code;
    }
    snprintf(path, sizeof path, "%s/log-%d", folder, comm.rank);
    FILE *log = fopen(path, "a");
    if (!log)
        return STATUS_CANNOT_CREATE;
    launcher_log(comm.launcher, fileno(log));
    snprintf(path, sizeof path, "%s/rank-%d", folder, comm.rank);
    snprintf(text, sizeof text, "%s.new", path);
    FILE *file = fopen(text, "w");
    if (!file || fprintf(file, "%d", (int)getpid()) < 0 || fclose(file) != 0 || rename(text, path) != 0)
        return STATUS_IO;
    for (int i = 0; i < 10 * seconds; i++)
        pass(0.1);
    snprintf(path, sizeof path, "%s/done-%d", folder, comm.rank);
    fclose(fopen(path, "w"));
    comm_finalize(&comm);
    fclose(log);
    return 0;
}

/* ---- the test's side --------------------------------------------------------------------------------------------- */

static int exists(const char *folder, const char *name, int rank) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s-%d", folder, name, rank);
    return access(path, F_OK) == 0;
}

/* The process number that rank `rank` has written; waits for it. */
static int await_rank(const char *folder, int rank) {
    char path[1200], text[32];
    snprintf(path, sizeof path, "%s/rank-%d", folder, rank);
    for (int i = 0; i < 600 && !exists(folder, "rank", rank); i++)
        pass(0.1);
    assert_true(exists(folder, "rank", rank));
    launch_take(path, text, sizeof text);
    return atoi(text);
}

static int runs(int id) {
    Process process;
    return process_look(id, &process) == 1 && !strchr("ZX", process.state);
}

/* Runs a line of shell, with "$self" for "this program rank FOLDER" and "$mpirun"; returns the shell's process number,
 * which is that of the line's only command or of its last one, by exec. */
static pid_t start(const char *folder, const char *line) {
    char self[1024], rank[2200];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(rank, sizeof rank, "%s rank %s", self, folder);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const char *mpirun = getenv("MPIRUN");
        setenv("self", rank, 1);
        setenv("mpirun", mpirun ? mpirun : "mpirun", 1);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return child;
}

/* Kills mpirun, of which `line` makes a job of `ranks` ranks, and waits for their end. */
static void check_ended(const char *folder, const char *line, int ranks) {
    int id[2], left = 0, status;
    const pid_t job = start(folder, line);
    for (int r = 0; r < ranks; r++)
        id[r] = await_rank(folder, r);
    kill(job, SIGKILL);
    waitpid(job, &status, 0);
    for (int i = 0; i < 10 * PROMISE; i++) {
        left = 0;
        for (int r = 0; r < ranks; r++)
            left += runs(id[r]);
        if (!left)
            break;
        pass(0.1);
    }
    for (int r = 0; r < ranks; r++)
        if (runs(id[r]))
            kill(id[r], SIGKILL);
    assert_int_equal(left, 0);
    for (int r = 0; r < ranks; r++) {
        assert_false(exists(folder, "done", r));
#if OMPI_MAJOR_VERSION >= 5 /* before, Open MPI itself may have been the first to end it */
        char path[1200], said[4096];
        snprintf(path, sizeof path, "%s/log-%d", folder, r);
        launch_take(path, said, sizeof said);
        assert_non_null(strstr(said, "the launcher ("));
        assert_non_null(strstr(said, ") is gone, so this rank ends too"));
#endif
    }
}

#define MPIRUN "exec env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 $mpirun "

/* The path of the test's own folder. */
static const char *here(void **state) {
    return ((const Folder *)*state)->path;
}

static void ranks_end(void **state) {
    char line[200];
    snprintf(line, sizeof line, MPIRUN "-n 2 --oversubscribe $self %d", FOREVER);
    check_ended(here(state), line, 2);
}

/* The shell stays, as it has something to do afterwards; it knows nothing of its parent's end. */
static void rank_of_a_script_ends(void **state) {
    char line[200];
    snprintf(line, sizeof line, MPIRUN "-n 1 sh -c '$self %d; sleep 1'", FOREVER);
    check_ended(here(state), line, 1);
}

static void no_launcher_no_end(void **state) {
    char line[200];
    int status;
    snprintf(line, sizeof line, "unset PMIX_NAMESPACE; $self %d & sleep 1", LONG_ENOUGH);
    const pid_t shell = start(here(state), line);
    assert_int_equal(waitpid(shell, &status, 0), shell); /* its child is init's now */
    await_rank(here(state), 0);
    for (int i = 0; i < 100 * LONG_ENOUGH && !exists(here(state), "done", 0); i++)
        pass(0.1);
    assert_true(exists(here(state), "done", 0));
}

/* The rank's parent goes, mpirun stays. */
static void launcher_lives_no_end(void **state) {
    char line[200];
    int status;
    snprintf(line, sizeof line, MPIRUN "-n 1 sh -c '($self %d &); sleep %d'", LONG_ENOUGH, 2 * LONG_ENOUGH);
    const pid_t job = start(here(state), line);
    await_rank(here(state), 0);
    assert_int_equal(waitpid(job, &status, 0), job);
    assert_true(exists(here(state), "done", 0));
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "rank") == 0)
        return rank_main(argv[2], atoi(argv[3]));
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(ranks_end),
        FOLDER_TEST(rank_of_a_script_ends),
        FOLDER_TEST(no_launcher_no_end),
        FOLDER_TEST(launcher_lives_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
