/* Finds and loads the CUDA backend's library. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device.h"
#include "kernels/ops.h"

static const char library_name[] = "libexcon_cuda.so";

/* Where the library lies: EXCON_CUDA_LIBRARY, else beside the program, else in ../lib. 0 when nowhere. */
static int find_library(char *path, size_t size) {
    const char *given = getenv("EXCON_CUDA_LIBRARY");
    if (given && *given)
        return snprintf(path, size, "%s", given) < (int)size;
    char program[3000];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return 0;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (!slash)
        return 0;
    *slash = '\0';
    static const char *const places[] = {"", "/../lib"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, size, "%s%s/%s", program, places[i], library_name);
        if (access(path, R_OK) == 0)
            return 1;
    }
    return 0;
}

/* The backend, or NULL with the reason. The library stays loaded: CUDA's own exit handlers live in it. */
static const CudaBackend *load_backend(void **library, char *why, size_t why_size) {
    char path[3100];
    *library = NULL;
    if (!find_library(path, sizeof path)) {
        snprintf(why, why_size, "this build has no CUDA (no %s beside the program)", library_name);
        return NULL;
    }
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*library) {
        snprintf(why, why_size, "cannot load %s: %s", library_name, dlerror());
        return NULL;
    }
    const CudaBackend *backend = dlsym(*library, "excon_cuda_backend");
    if (!backend || backend->ops_bytes != OPS_BYTES || backend->device_bytes != sizeof(Device)) {
        snprintf(why, why_size, "%.300s belongs to another version of excon: run make", path);
        return NULL;
    }
    return backend;
}

Status device_open_cuda(Device *device, int index, Error *err) {
    char why[512];
    void *library;
    const CudaBackend *backend = load_backend(&library, why, sizeof why);
    *device = (Device){.kind = DEVICE_CUDA, .index = index};
    if (!backend)
        return error_set(err, STATUS_SYSTEM,
                         "cannot open CUDA device %d: %s; use backend: cpu, or rebuild with make CUDA=1", index, why);
    RETURN_IF(backend->open(device, index, err));
    device->library = library;
    return STATUS_OK;
}

/* CUDA's driver belongs to the machine. Where it is not, there is no device, and loading the backend with CUDA's
 * libraries (some 160 MB) would only find that out. A library that was named may not need it. */
static int driver_present(void) {
    const char *given = getenv("EXCON_CUDA_LIBRARY");
    if (given && *given)
        return 1;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver)
        dlclose(driver);
    return driver != NULL;
}

int device_count_cuda(char *why, size_t why_size) {
    char unused[512], path[3100];
    void *library;
    if (!why) {
        why = unused;
        why_size = sizeof unused;
    }
    if (find_library(path, sizeof path) && !driver_present()) {
        snprintf(why, why_size, "this machine has no CUDA driver (libcuda.so.1)");
        return 0;
    }
    const CudaBackend *backend = load_backend(&library, why, why_size);
    return backend ? backend->count(why, why_size) : 0;
}
