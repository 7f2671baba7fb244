#include "trainer/run/runtime.h"

#include <stdio.h>
#include <stdlib.h>

static void on_fatal(void *ctx, Status code, const char *message) {
    (void)message; /* device_fatal has printed it */
    Runtime *runtime = ctx;
    comm_abort(&runtime->comm, code);
}

static Status choose_conv(Device *device, int conv, Error *err) {
    if (conv == CONV_CUDNN && !device->fast_conv)
        return error_set(
            err, STATUS_SYSTEM,
            "cuda.conv: cudnn, but the CUDA backend was built without cuDNN; rebuild with make CUDNN=1, or "
            "set cuda.conv: auto");
    device->plain_conv = conv == CONV_GEMM;
    return STATUS_OK;
}

/* OpenMP gave fewer threads than this rank asked for. */
static void note_team(Comm *comm, int given) {
    if (given >= comm->threads)
        return;
    const char *limit = getenv("OMP_THREAD_LIMIT"), *dynamic = getenv("OMP_DYNAMIC");
    snprintf(comm->threads_why, sizeof comm->threads_why, "OpenMP gave %d of %d%s%.20s%s%.20s", given, comm->threads,
             limit ? ", OMP_THREAD_LIMIT=" : "", limit ? limit : "", dynamic ? ", OMP_DYNAMIC=" : "",
             dynamic ? dynamic : "");
    comm->threads = given;
}

/* The instruction set level of the oldest processor in the job: every rank updates its own copy of the parameters, and
 * copies must stay equal bit for bit. */
static Status common_level(Runtime *runtime, int *level, Error *err) {
    Status status = cpu_level_best(level, err);
    RETURN_IF(comm_agree(&runtime->comm, status, err));
    int64_t lowest = -*level;
    comm_host_max_i64(&runtime->comm, &lowest, 1);
    *level = (int)-lowest;
    return STATUS_OK;
}

static Status open_device(Runtime *runtime, const Config *config, int level, char *why, size_t why_size, Error *err) {
    char reason[160] = "";
    const int backend = config->backend;
    const int devices = backend == BACKEND_CPU ? 0 : device_count_cuda(reason, sizeof reason);
    if (backend == BACKEND_CUDA || devices > 0) {
        if (devices == 0)
            return error_set(err, STATUS_SYSTEM, "backend cuda: host %s has no usable device (%s); set backend: cpu",
                             runtime->comm.host, reason);
        RETURN_IF(device_open_cuda(&runtime->device, runtime->comm.local_rank % devices, err));
        RETURN_IF(choose_conv(&runtime->device, config->cuda.conv, err));
        snprintf(why, why_size, "cuda");
    } else {
        RETURN_IF(device_open_cpu(&runtime->device, runtime->comm.threads, level, err));
        note_team(&runtime->comm, runtime->device.threads);
        if (backend == BACKEND_CPU)
            snprintf(why, why_size, "cpu, as configured");
        else
            snprintf(why, why_size, "cpu, chosen by auto: %s", reason);
    }
    return STATUS_OK;
}

/* The same on all ranks: they work on one batch. */
static DType choose_precision(Runtime *runtime, int precision) {
    int64_t slow_ranks = !runtime->device.fast_bf16;
    comm_host_max_i64(&runtime->comm, &slow_ranks, 1);
    return precision == PRECISION_BF16 || (precision == PRECISION_AUTO && !slow_ranks) ? DTYPE_BF16 : DTYPE_F32;
}

const char *runtime_precision(const Runtime *runtime) {
    return runtime->dtype == DTYPE_BF16 ? "bf16" : "f32";
}

static Status open_parts(Runtime *runtime, const Config *config, char *why, size_t why_size, Error *err) {
    const CommOptions options = {.transport = (CommTransport)config->comm.transport,
                                 .connect_seconds = config->comm.connect_seconds};
    int level;
    RETURN_IF(common_level(runtime, &level, err));
    Status status = open_device(runtime, config, level, why, why_size, err);
    RETURN_IF(comm_agree(&runtime->comm, status, err));
    runtime->dtype = choose_precision(runtime, config->precision);
    runtime->device.fatal = on_fatal;
    runtime->device.fatal_ctx = runtime;
    return comm_attach(&runtime->comm, &runtime->device, &options, err);
}

Status runtime_open(Runtime *runtime, const Config *config, char *why, size_t why_size, Error *err) {
    char unused[256];
    *runtime = (Runtime){0};
    RETURN_IF(comm_init(&runtime->comm, err));
    runtime->open = true;
    const Status status = open_parts(runtime, config, why ? why : unused, why ? why_size : sizeof unused, err);
    return status == STATUS_OK ? STATUS_OK : runtime_close(runtime, status, err);
}

Status runtime_close(Runtime *runtime, Status status, Error *err) {
    if (!runtime->open)
        return status;
    comm_say_failure(&runtime->comm, status, err);
    comm_detach(&runtime->comm);
    if (runtime->device.ops)
        device_close(&runtime->device);
    comm_finalize(&runtime->comm);
    runtime->open = false;
    return status;
}

void runtime_abort(Runtime *runtime, Status status, const Error *err) {
    fprintf(stderr, "excon: rank %d on %s: %s\n", runtime->comm.rank, runtime->comm.host, err->message);
    comm_abort(&runtime->comm, status);
}
