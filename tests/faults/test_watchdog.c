/* The watchdog, with ranks that hang on purpose: this program starts itself under mpirun, once per scene. What a scene
 * must print follows from who hangs and where, not from what the watchdog measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/watchdog.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"

/* Seconds of silence allowed; the promise is an end within SLACK seconds more (start and end of mpirun included). */
enum { LIMIT = 2, SLACK = 5 };

/* ---- a rank of a scene ------------------------------------------------------------------------------------------- */

static void pass(double seconds) {
    usleep((useconds_t)(1e6 * seconds));
}

/* The main thread gets stuck; the process runs on. Ends by itself where no watchdog ends it. */
static void get_stuck(void) {
    pass(LIMIT + 2 * SLACK);
}

static void play(Comm *comm, const char *scene, const char *folder) {
    watchdog_phase(comm->watchdog, "training", 7);
    comm_barrier(comm);
    if (!strcmp(scene, "steady")) /* silences below the limit, three times as long in all */
        for (int i = 0; i < 5; i++) {
            pass(0.6 * LIMIT);
            comm_barrier(comm);
        }
    else if (!strcmp(scene, "staggered")) /* rank 0 waits first, rank 2 later, for rank 1 that works on and on */
        for (int i = 0; comm->rank == 1 && i < 10 * (LIMIT + 2 * SLACK); i++) {
            watchdog_phase(comm->watchdog, "polishing", 7);
            pass(0.1);
        }
    else if (comm->rank == comm->size - 1)
        get_stuck();
    if (!strcmp(scene, "staggered") && comm->rank == 2)
        pass(0.2 * LIMIT);
    if (!strcmp(scene, "lost-folder") && comm->rank == 0) {
        char away[1200];
        snprintf(away, sizeof away, "%s-away", folder);
        rename(folder, away);
    }
    comm_barrier(comm);
}

static int rank_main(const char *scene, const char *folder, double seconds) {
    Comm comm;
    Error err = {.code = STATUS_OK};
    char own[1200];
    if (comm_init(&comm, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return (int)err.code;
    }
    const int refused = !strcmp(scene, "refused") && comm.rank == 1; /* its folder is not there */
    snprintf(own, sizeof own, "%s%s", folder, refused ? "/absent" : "");
    if (watchdog_start(&comm, own, -1, seconds, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n%s\n", err.message, comm.watchdog ? "still watched" : "not watched");
        comm_finalize(&comm);
        return (int)err.code;
    }
    play(&comm, scene, folder);
    comm_finalize(&comm);
    watchdog_stop(&comm);
    return 0;
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

typedef struct Scene {
    int status;
    double seconds;
    char said[16384];
    int heartbeats; /* left behind */
} Scene;

static Scene run_scene(const char *name, int ranks, double seconds) {
    char folder[FOLDER_BYTES], path[1200];
    folder_make(folder);
    Scene scene = {0};
    snprintf(path, sizeof path, "%s.said", folder);
    scene.status = launch_ranks(ranks, path, &scene.seconds, "%s '%s' %g", name, folder, seconds);
    launch_take(path, scene.said, sizeof scene.said);
    for (int r = 0; r < ranks; r++)
        for (int away = 0; away < 2; away++) {
            snprintf(path, sizeof path, "%s%s/heartbeat-%04d", folder, away ? "-away" : "", r);
            scene.heartbeats += unlink(path) == 0;
        }
    snprintf(path, sizeof path, "%s-away", folder);
    folder_remove(path);
    folder_remove(folder);
    print_message("%s: exit status %d after %.1f s\n", name, scene.status, scene.seconds);
    return scene;
}

static void assert_says(const Scene *scene, const char *what) {
    if (!strstr(scene->said, what)) {
        print_error("not said: %s\nbut: %s\n", what, scene->said);
        fail();
    }
}

static void assert_not_said(const Scene *scene, const char *what) {
    if (strstr(scene->said, what)) {
        print_error("said: %s\nin: %s\n", what, scene->said);
        fail();
    }
}

static void assert_hang_noticed(const Scene *scene) {
    if (scene->status != STATUS_HANG)
        print_error("%s\n", scene->said);
    assert_int_equal(scene->status, STATUS_HANG);
    assert_true(scene->seconds <= LIMIT + SLACK);
    assert_true(scene->seconds >= LIMIT);
}

static void stuck_rank_is_named_by_all(void **state) {
    (void)state;
    const Scene scene = run_scene("stuck", 3, LIMIT);
    assert_hang_noticed(&scene);
    for (int r = 0; r < 3; r++) {
        char line[64];
        snprintf(line, sizeof line, "excon: rank %d on ", r);
        assert_says(&scene, line);
    }
    assert_says(&scene, "waits in a barrier");
    assert_says(&scene,
                "step 7, training; absent: rank 2 (it runs, but does not get to the collective; step 7, training");
    assert_not_said(&scene, "absent: rank 0");
    assert_not_said(&scene, "absent: rank 1");
    assert_not_said(&scene, ", rank 1 (");
}

static void busy_rank_that_never_comes_is_named(void **state) {
    (void)state;
    const Scene scene = run_scene("staggered", 3, LIMIT);
    assert_hang_noticed(&scene);
    assert_says(&scene, "excon: rank 0 on ");
    assert_says(&scene, "excon: rank 2 on ");
    assert_says(&scene, "absent: rank 1 (it runs, but does not get to the collective; step 7, polishing");
    assert_null(strstr(scene.said, "excon: rank 1 on "));
    assert_null(strstr(scene.said, "absent: rank 0"));
    assert_null(strstr(scene.said, "absent: rank 2"));
}

static void single_rank_ends_too(void **state) {
    (void)state;
    const Scene scene = run_scene("stuck", 1, LIMIT);
    assert_hang_noticed(&scene);
    assert_says(&scene, "absent: rank 0 (it runs");
}

static void lost_folder_names_nobody(void **state) {
    (void)state;
    const Scene scene = run_scene("lost-folder", 2, LIMIT);
    assert_hang_noticed(&scene);
    assert_says(&scene, "cannot be written, so absent ranks are unknown");
    assert_null(strstr(scene.said, "absent: rank"));
}

static void silence_below_the_limit_is_fine(void **state) {
    (void)state;
    const Scene scene = run_scene("steady", 2, LIMIT);
    assert_int_equal(scene.status, 0);
    assert_null(strstr(scene.said, "no progress"));
    assert_int_equal(scene.heartbeats, 0);
    assert_true(scene.seconds > 2 * LIMIT);
}

static void zero_is_off(void **state) {
    (void)state;
    const Scene scene = run_scene("steady", 2, 0);
    assert_int_equal(scene.status, 0);
    assert_int_equal(scene.heartbeats, 0);
}

/* The other rank's watchdog has started then, and is stopped again. */
static void one_that_cannot_start_leaves_none(void **state) {
    (void)state;
    const Scene scene = run_scene("refused", 2, LIMIT);
    assert_int_equal(scene.status, STATUS_CANNOT_CREATE);
    assert_says(&scene, "/absent/heartbeat-0001");
    assert_says(&scene, "not watched");
    assert_not_said(&scene, "still watched");
    assert_int_equal(scene.heartbeats, 0);
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "rank"))
        return rank_main(argv[2], argv[3], atof(argv[4]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stuck_rank_is_named_by_all),
        cmocka_unit_test(busy_rank_that_never_comes_is_named),
        cmocka_unit_test(single_rank_ends_too),
        cmocka_unit_test(lost_folder_names_nobody),
        cmocka_unit_test(silence_below_the_limit_is_fine),
        cmocka_unit_test(zero_is_off),
        cmocka_unit_test(one_that_cannot_start_leaves_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
