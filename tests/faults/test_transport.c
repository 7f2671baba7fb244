/* Ranks that fail in the collectives of CUDA devices: the others must end too, soon, with the exit status that says
 * what happened, and somebody must say which rank it was. The program starts itself under mpirun, once per scene; the
 * scenes that need a fault inside NCCL run on the stand-in of tests/simt. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/watchdog.h"
#include "kernels/ops.h"
#include "tests/support/files/folder.h"
#include "tests/support/programs/launch.h"
#include "tests/support/programs/rank_device.h"

/* Seconds: of silence that the watchdog allows, and until every scene must be over. */
enum { LIMIT = 2, OVER = 20 };

/* ---- a rank of a scene ------------------------------------------------------------------------------------------- */

/* Steps of collectives; the last rank does not get far. */
static void play(Comm *comm, const char *scene) {
    enum { STEPS = 10, N = 1000 };
    const Collectives *c = comm->collectives;
    void *block;
    Error err;
    if (comm->device->ops->memory->alloc(comm->device, N * sizeof(float), &block, &err) != STATUS_OK)
        comm_abort(comm, STATUS_INTERNAL);
    for (int step = 0; step < STEPS; step++) {
        CommRequest request;
        watchdog_phase(comm->watchdog, "training", step);
        if (comm->rank == comm->size - 1 && step == 3 && strcmp(scene, "killed") == 0)
            raise(SIGKILL);
        if (comm->rank == comm->size - 1 && step == 3 && strcmp(scene, "stuck") == 0)
            sleep(2 * OVER);
        c->all_reduce(comm, block, N, DTYPE_F32);
        c->reduce_start(comm, block, N, &request);
        if (step % 2 == 0)
            c->reduce_poll(comm, &request);
        c->reduce_wait(comm, &request);
        c->settle(comm);
    }
    comm->device->ops->memory->release(comm->device, block, N * sizeof(float));
}

static int be_a_rank(const char *scene, const char *transport, const char *folder) {
    Comm comm;
    Device device;
    Error err = {.code = STATUS_OK};
    Status status = rank_open(&comm, &device, transport, 1, &err);
    if (status == STATUS_OK)
        status = watchdog_start(&comm, folder, -1, LIMIT, &err);
    if (status == STATUS_OK)
        play(&comm, scene);
    else
        fprintf(stderr, "rank %d: %s\n", comm.rank, err.message);
    comm_detach(&comm);
    device_close(&device);
    comm_finalize(&comm);
    watchdog_stop(&comm);
    return (int)status;
}

/* ---- scenes ------------------------------------------------------------------------------------------------------ */

typedef struct Scene {
    const char *name, *transport;
    const char *devices, *fault;
    int status;           /* -1: any but 0 */
    const char *says[2];  /* NULL: nothing in particular */
    const char *blocking; /* NCCL_COMM_BLOCKING; NULL: not set */
} Scene;

/* NULL: can run here. */
static const char *missing(const Scene *scene) {
    if (!rank_on_cuda() || rank_on_standin() || strcmp(scene->transport, "nccl") != 0)
        return NULL;
    if (scene->fault)
        return "faults inside NCCL are made by its stand-in only";
    const int devices = device_count_cuda(NULL, 0);
    if (scene->devices[0] == '1')
        return devices == 1 ? NULL : "wants a host with one device";
    return devices > 1 ? NULL : "wants two devices";
}

static void ends_for_all(void **state) {
    enum { RANKS = 2 };
    const Scene *scene = *state;
    static char said[16384];
    char folder[FOLDER_BYTES], path[PATH_BYTES];
    double seconds;
    launch_skip_for(missing(scene));
    folder_make(folder);
    setenv("EXCON_SIMT_DEVICES", scene->devices, 1);
    setenv("EXCON_SIMT_NCCL_FAULT", scene->fault ? scene->fault : "", 1);
    if (scene->blocking)
        setenv("NCCL_COMM_BLOCKING", scene->blocking, 1);
    folder_join(path, folder, "said");
    const int status = launch_ranks(RANKS, path, &seconds, "%s %s '%s'", scene->name, scene->transport, folder);
    unsetenv("NCCL_COMM_BLOCKING");
    launch_take(path, said, sizeof said);
    folder_remove(folder);
    print_message("%s, %s: exit status %d after %.1f s\n", scene->name, scene->transport, status, seconds);
    int good = scene->status < 0 ? status != 0 : status == scene->status;
    good = good && seconds < OVER;
    for (int i = 0; i < 2; i++)
        good = good && (!scene->says[i] || strstr(said, scene->says[i]));
    if (!good)
        fail_msg("it said: %s", said);
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "rank") == 0)
        return be_a_rank(argv[2], argv[3], argv[4]);
    static Scene scenes[] = {
        {"goes", "nccl", "2", NULL, 0, {NULL}, NULL},
        {"goes", "mpi", "1", NULL, 0, {NULL}, NULL},
        {"killed", "nccl", "2", NULL, -1, {NULL}, NULL},
        {"killed", "mpi", "1", NULL, -1, {NULL}, NULL},
        {"stuck", "nccl", "2", NULL, STATUS_HANG, {"absent: rank 1 (it runs", "step 3"}, NULL},
        {"stuck", "mpi", "1", NULL, STATUS_HANG, {"absent: rank 1 (it runs", "step 3"}, NULL},
        {"goes", "nccl", "1", NULL, STATUS_SYSTEM, {"ranks 0 and 1 on host ", "share CUDA device 0"}, NULL},
        {"goes", "nccl", "2", "1 error 7", STATUS_SYSTEM, {"rank 1 on ", "at step 3: ncclAllReduce: "}, NULL},
        {"goes", "nccl", "2", "1 error 8", STATUS_SYSTEM, {"rank 1 on ", "at step 3: a collective: "}, NULL},
        {"goes",
         "nccl",
         "2",
         "1 connect",
         STATUS_SYSTEM,
         {"rank 0 on ", "not done after 1 s (comm.connect_seconds)"},
         NULL},
        {"goes", "nccl", "2", NULL, STATUS_SYSTEM, {"NCCL_COMM_BLOCKING=0 makes it", "unset"}, "0"},
        {"goes", "nccl", "1", NULL, STATUS_SYSTEM, {"comm.transport: nccl, but this run is on the CPU", NULL}, NULL},
    };
    const struct CMUnitTest on_devices[] = {
        {"two ranks on NCCL", ends_for_all, NULL, NULL, &scenes[0]},
        {"two ranks on MPI", ends_for_all, NULL, NULL, &scenes[1]},
        {"a killed rank, NCCL", ends_for_all, NULL, NULL, &scenes[2]},
        {"a killed rank, MPI", ends_for_all, NULL, NULL, &scenes[3]},
        {"a stuck rank, NCCL", ends_for_all, NULL, NULL, &scenes[4]},
        {"a stuck rank, MPI", ends_for_all, NULL, NULL, &scenes[5]},
        {"two ranks on one device, NCCL", ends_for_all, NULL, NULL, &scenes[6]},
        {"an error in NCCL, seen at the next call", ends_for_all, NULL, NULL, &scenes[7]},
        {"an error in NCCL, seen in a wait", ends_for_all, NULL, NULL, &scenes[8]},
        {"a rank that does not connect", ends_for_all, NULL, NULL, &scenes[9]},
        {"NCCL told not to block", ends_for_all, NULL, NULL, &scenes[10]},
    };
    const struct CMUnitTest on_host[] = {{"NCCL on the CPU", ends_for_all, NULL, NULL, &scenes[11]}};
    return rank_on_cuda() ? cmocka_run_group_tests(on_devices, NULL, NULL)
                          : cmocka_run_group_tests(on_host, NULL, NULL);
}
