/* The choice of collectives. Every rank decides from the same facts, so that none waits for another that went a
 * different way. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_mpi.h"
#include "comm/nccl/transport.h"

/* NULL when the library was built without NCCL, or from other headers. */
static const NcclTransport *find_nccl(const Device *device) {
    const NcclTransport *nccl = device->library ? dlsym(device->library, "excon_nccl") : NULL;
    if (!nccl || nccl->comm_size != sizeof(Comm) || nccl->collectives_size != sizeof(Collectives))
        return NULL;
    return nccl;
}

/* ---- one device per rank ----------------------------------------------------------------------------------------- */

typedef struct DeviceCard {
    unsigned char device[NCCL_DEVICE_BYTES];
    char host[64];
    int index;
} DeviceCard;

/* All ranks see the same cards and return the same. */
static Status refuse_shared(const Comm *comm, const DeviceCard *cards, Error *err) {
    for (int b = 1; b < comm->size; b++)
        for (int a = 0; a < b; a++)
            if (memcmp(cards[a].device, cards[b].device, NCCL_DEVICE_BYTES) == 0)
                return error_set(err, STATUS_SYSTEM,
                                 "ranks %d and %d on host %s share CUDA device %d, and NCCL wants one for each rank; "
                                 "start fewer ranks per host, or let them share by comm.transport: mpi",
                                 a, b, cards[a].host, cards[a].index);
    return STATUS_OK;
}

static Status check_devices(Comm *comm, const NcclTransport *nccl, Error *err) {
    DeviceCard mine = {.index = comm->device->index};
    snprintf(mine.host, sizeof mine.host, "%.63s", comm->host);
    RETURN_IF(comm_agree(comm, nccl->identify(comm->device, mine.device, err), err));
    DeviceCard *cards = calloc((size_t)comm->size, sizeof *cards);
    int64_t *counts = calloc((size_t)comm->size, sizeof *counts);
    if (!cards || !counts)
        device_fatal(comm->device, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    for (int r = 0; r < comm->size; r++)
        counts[r] = 1;
    comm_host_gather_rows(comm, &mine, counts, sizeof mine, cards);
    const Status status = refuse_shared(comm, cards, err);
    free(cards);
    free(counts);
    return status;
}

/* ---- NCCL -------------------------------------------------------------------------------------------------------- */

/* Says why on the ranks that know, and ends all. */
static void __attribute__((noreturn)) give_up(Comm *comm, Status mine, const Error *err) {
    if (mine != STATUS_OK)
        fprintf(stderr, "excon: rank %d on %s: %s\n", comm->rank, comm->host, err->message);
    fflush(stderr);
    comm_barrier(comm);
    comm_abort(comm, STATUS_SYSTEM);
}

static Status connect_nccl(Comm *comm, const NcclTransport *nccl, double seconds, Error *err) {
    unsigned char id[NCCL_ID_BYTES] = {0};
    RETURN_IF(check_devices(comm, nccl, err));
    RETURN_IF(comm_agree(comm, comm->rank == 0 ? nccl->make_id(comm, id, err) : STATUS_OK, err));
    comm_host_broadcast(comm, id, sizeof id, 0);
    const Status mine = nccl->attach(comm, id, seconds, err);
    int64_t worst = (int64_t)mine;
    comm_host_max_i64(comm, &worst, 1);
    if (worst != STATUS_OK)
        give_up(comm, mine, err);
    return STATUS_OK;
}

/* ---- the choice -------------------------------------------------------------------------------------------------- */

typedef struct Facts {
    int cuda, cpu;    /* the lowest rank on that kind of device, or -1 */
    int without_nccl; /* the lowest rank on CUDA whose library has no NCCL, or -1 */
} Facts;

static Facts gather_facts(Comm *comm, const NcclTransport *nccl) {
    Facts facts = {.cuda = -1, .cpu = -1, .without_nccl = -1};
    int64_t mine[2] = {comm->device->kind == DEVICE_CUDA, nccl != NULL};
    int64_t *all = malloc(sizeof mine * (size_t)comm->size);
    if (!all)
        device_fatal(comm->device, STATUS_SYSTEM, "out of memory for %d ranks", comm->size);
    comm_host_gather_i64(comm, mine, 2, all);
    for (int r = comm->size - 1; r >= 0; r--) {
        *(all[2 * r] ? &facts.cuda : &facts.cpu) = r;
        if (all[2 * r] && !all[2 * r + 1])
            facts.without_nccl = r;
    }
    free(all);
    return facts;
}

Status comm_attach(Comm *comm, Device *device, const CommOptions *options, Error *err) {
    comm->device = device;
    const NcclTransport *nccl = find_nccl(device);
    const Facts facts = gather_facts(comm, nccl);
    if (facts.cuda >= 0 && facts.cpu >= 0)
        return error_set(err, STATUS_SYSTEM,
                         "rank %d runs on a CUDA device and rank %d on the CPU; set backend: cpu or backend: cuda",
                         facts.cuda, facts.cpu);
    if (options->transport == TRANSPORT_NCCL && (facts.cuda < 0 || facts.without_nccl >= 0))
        return error_set(err, STATUS_SYSTEM, "comm.transport: nccl, but %s; set comm.transport: auto or mpi%s",
                         facts.cuda < 0 ? "this run is on the CPU" : "the CUDA backend was built without NCCL",
                         facts.cuda < 0 ? "" : ", or rebuild with make NCCL=1");
    if (comm->size == 1 || facts.cuda < 0) {
        comm->collectives = comm->size == 1 ? &collectives_single : &collectives_mpi_host;
        return STATUS_OK;
    }
    if (options->transport != TRANSPORT_MPI && facts.without_nccl < 0)
        return connect_nccl(comm, nccl, options->connect_seconds, err);
    const char *name = options->transport == TRANSPORT_MPI
                           ? "MPI through pinned host memory"
                           : "MPI through pinned host memory (the CUDA backend was built without NCCL)";
    const Status status = comm_agree(comm, staged_attach(comm, name, err), err);
    if (status != STATUS_OK)
        comm_detach(comm);
    return status;
}

void comm_detach(Comm *comm) {
    if (comm->collectives && comm->collectives->detach)
        comm->collectives->detach(comm);
    comm->collectives = NULL;
    comm->impl = NULL;
}
