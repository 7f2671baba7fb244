/* MPI launch and control messages. */
#include "comm/comm.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_mpi.h"
#include "comm/launcher.h"
#include "comm/watchdog.h"
#include "kernels/base/processors.h"

void comm_check(Comm *comm, int code, const char *expression, const char *file, int line) {
    if (code == MPI_SUCCESS)
        return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    fprintf(stderr, "excon: rank %d on %s: %s failed: %s (%s:%d)\n", comm->rank, comm->host, expression, text, file,
            line);
    comm_abort(comm, STATUS_SYSTEM);
}

Status comm_init(Comm *comm, Error *err) {
    *comm = (Comm){.size = 1, .local_size = 1};
    gethostname(comm->host, sizeof comm->host - 1);
    RETURN_IF(launcher_watch(comm->host, &comm->launcher, err));
    int provided = 0;
    cpu_set_t launcher;
    const int bound_by_launcher = processors_of_launcher(&launcher);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED)
        return error_set(err, STATUS_SYSTEM, "MPI_Init_thread failed; check the Open MPI installation and mpirun");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_CHECK(comm, MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank));
    MPI_CHECK(comm, MPI_Comm_size(MPI_COMM_WORLD, &comm->size));
    MPI_Comm node;
    MPI_CHECK(comm, MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &node));
    MPI_CHECK(comm, MPI_Comm_rank(node, &comm->local_rank));
    MPI_CHECK(comm, MPI_Comm_size(node, &comm->local_size));
    comm_choose_threads(comm, node, bound_by_launcher ? &launcher : NULL);
    MPI_CHECK(comm, MPI_Comm_free(&node));
    return STATUS_OK;
}

void comm_finalize(Comm *comm) {
    int done = 0;
    MPI_Finalized(&done);
    if (done)
        return;
    watchdog_enter(comm->watchdog, "the end of the job");
    MPI_Finalize();
    watchdog_leave(comm->watchdog);
}

/* Waits until the launcher has read what this process wrote to its standard error, half a second at most: Open MPI 5
 * drops the rest when a rank aborts, and with it the reason. */
static void await_launcher(void) {
    struct stat what;
    int unread;
    if (fstat(STDERR_FILENO, &what) != 0 || !S_ISFIFO(what.st_mode))
        return;
    for (int i = 0; i < 50 && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

void comm_abort(Comm *comm, Status code) {
    (void)comm;
    fflush(NULL);
    await_launcher();
    int started = 0, done = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&done);
    if (started && !done)
        MPI_Abort(MPI_COMM_WORLD, (int)code);
    _exit((int)code);
}

void comm_host_gather_i64(Comm *comm, const int64_t *mine, int n, int64_t *all) {
    watchdog_enter(comm->watchdog, "a gather of numbers");
    MPI_CHECK(comm, MPI_Allgather(mine, n, MPI_INT64_T, all, n, MPI_INT64_T, MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
}

void comm_host_sum_f64(Comm *comm, double *values, int n) {
    watchdog_enter(comm->watchdog, "a sum over ranks");
    MPI_CHECK(comm, MPI_Allreduce(MPI_IN_PLACE, values, n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
}

void comm_host_max_i64(Comm *comm, int64_t *values, int n) {
    watchdog_enter(comm->watchdog, "an agreement of all ranks");
    MPI_CHECK(comm, MPI_Allreduce(MPI_IN_PLACE, values, n, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
}

void comm_host_broadcast(Comm *comm, void *bytes, size_t size, int root) {
    char *at = bytes;
    watchdog_enter(comm->watchdog, "a broadcast");
    while (size > 0) {
        size_t part = size < COMM_PART_BYTES ? size : COMM_PART_BYTES;
        MPI_CHECK(comm, MPI_Bcast(at, (int)part, MPI_BYTE, root, MPI_COMM_WORLD));
        at += part;
        size -= part;
    }
    watchdog_leave(comm->watchdog);
}

void comm_barrier(Comm *comm) {
    watchdog_enter(comm->watchdog, "a barrier");
    MPI_CHECK(comm, MPI_Barrier(MPI_COMM_WORLD));
    watchdog_leave(comm->watchdog);
}

Status comm_agree(Comm *comm, Status mine, Error *err) {
    int64_t worst = (int64_t)mine;
    comm_host_max_i64(comm, &worst, 1);
    if (worst == STATUS_OK)
        return STATUS_OK;
    int64_t speaker =
        mine != STATUS_OK ? comm->size - comm->rank : 0; /* the lowest failing rank has the largest value */
    comm_host_max_i64(comm, &speaker, 1);
    int root = comm->size - (int)speaker;
    Error said = {.code = mine};
    if (comm->rank == root && err)
        said = *err;
    comm_host_broadcast(comm, &said, sizeof said, root);
    if (mine == STATUS_OK && err) {
        *err = said;
        error_prefix(err, "rank %d", root);
    }
    if (err)
        err->code = (Status)worst;
    return (Status)worst;
}

void comm_say_failure(const Comm *comm, Status status, Error *err) {
    if (status == STATUS_OK || !err)
        return;
    if (comm->rank == 0 && !err->silent) {
        fprintf(stderr, "excon: %s\n", err->message[0] ? err->message : status_text(status));
        fflush(stderr);
    }
    err->silent = 1;
}

/* What launchers put into the environment: Open MPI, PMIx (Open MPI 5, srun --mpi=pmix), PMI. */
static int64_t launched(const char *const names[], int64_t otherwise) {
    for (int i = 0; names[i]; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strtoll(value, NULL, 10);
    }
    return otherwise;
}

int comm_launched_rank(void) {
    return (int)launched((const char *const[]){"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", NULL}, 0);
}

Status comm_agree_early(Status mine, Error *err) {
    int started = 0;
    MPI_Initialized(&started);
    if (started || launched((const char *const[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", NULL}, 1) < 2)
        return mine;
    Comm comm;
    Error unused;
    if (comm_init(&comm, &unused) != STATUS_OK)
        return mine;
    const Status status = comm_agree(&comm, mine, err);
    comm_say_failure(&comm, status, err);
    comm_finalize(&comm);
    return status;
}

Status comm_agree_asleep(Comm *comm, Status mine, Error *err) {
    const struct timespec nap = {.tv_nsec = 20000000};
    MPI_Request request;
    int done = 0;
    MPI_CHECK(comm, MPI_Ibarrier(MPI_COMM_WORLD, &request));
    for (;;) {
        MPI_CHECK(comm, MPI_Test(&request, &done, MPI_STATUS_IGNORE));
        if (done)
            return comm_agree(comm, mine, err);
        nanosleep(&nap, NULL);
    }
}

int comm_launched(void) {
    return launched((const char *const[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", NULL}, 1) > 1 || getenv("PMIX_RANK");
}

void comm_versions(char *out, size_t size) {
    char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0, version = 0, subversion = 0;
    MPI_Get_library_version(library, &length);
    MPI_Get_version(&version, &subversion);
    library[strcspn(library, ",\n")] = '\0';
    snprintf(out, size, "%s (MPI %d.%d, header %d.%d.%d)", library, version, subversion, OMPI_MAJOR_VERSION,
             OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION);
}
