#include "tests/support/programs/rank_device.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"

int rank_on_cuda(void) {
    const char *backend = getenv("EXCON_TEST_BACKEND");
    return backend && strcmp(backend, "cuda") == 0;
}

int rank_on_standin(void) {
    const char *path = getenv("EXCON_CUDA_LIBRARY");
    void *library = rank_on_cuda() && path ? dlopen(path, RTLD_LAZY | RTLD_LOCAL) : NULL;
    return library && dlsym(library, "simt_set_order");
}

static void on_fatal(void *comm, Status code, const char *message) {
    (void)message;
    comm_abort(comm, code);
}

static CommTransport transport_of(const char *name) {
    if (strcmp(name, "nccl") == 0)
        return TRANSPORT_NCCL;
    return strcmp(name, "mpi") == 0 ? TRANSPORT_MPI : TRANSPORT_AUTO;
}

Status rank_open(Comm *comm, Device *device, const char *transport, int connect_seconds, Error *err) {
    const CommOptions options = {.transport = transport_of(transport), .connect_seconds = connect_seconds};
    RETURN_IF(comm_init(comm, err));
    if (rank_on_cuda()) {
        const int devices = device_count_cuda(NULL, 0);
        RETURN_IF(device_open_cuda(device, comm->local_rank % (devices > 0 ? devices : 1), err));
    } else {
        RETURN_IF(device_open_cpu(device, 1, 0, err));
    }
    device->fatal = on_fatal;
    device->fatal_ctx = comm;
    return comm_attach(comm, device, &options, err);
}
