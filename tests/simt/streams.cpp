/* Memory, streams, events and graphs of the stand-in GPU.
 *
 * A stream is a queue of work that runs only when the host waits for it, or when work that it waits for (an event of
 * another stream) is needed. Several streams are drained in an order that is a setting (simt.h). What the host may rely
 * on is thus exactly what CUDA promises:
 *   - copies from the host read their source when their turn comes, from pageable memory too: CUDA stages that at once
 * or later, as it likes
 *   - copies to the host have arrived after a wait, not before
 *   - streams are ordered by events alone
 * Device memory cannot be touched by the host: its pages are accessible while queued work runs, and no longer. Under
 * AddressSanitizer blocks come from the heap instead, so that kernels' own mistakes are found.
 *
 * A captured stream's work goes into a list that a launch queues again. Streams join a capture by waiting for an event
 * of it, and must be joined back by one. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "internal.h"

struct SimtEvent {
    unsigned long long recorded = 0, done = 0; /* how often */
    SimtStream *stream = nullptr;              /* of the last record */
    double time = 0;
    bool timed = true;
    SimtGraph *captured = nullptr; /* last recorded in this capture */
    SimtStream *captured_stream = nullptr;
    unsigned long long captured_at = 0; /* works of that stream when it was recorded */
};

namespace {

enum OpKind { OP_WORK, OP_RECORD, OP_WAIT };

struct Op {
    OpKind kind;
    std::function<void()> work;
    SimtEvent *event;
    unsigned long long version;
    bool prompt = false; /* other processes wait for it */
};

} // namespace

struct SimtGraph {
    std::vector<Op> ops;
    SimtStream *origin = nullptr;
    bool invalid = false;
    std::map<SimtStream *, unsigned long long> joined; /* forked streams: their works the origin waits for */
};

struct SimtStream {
    std::deque<Op> queue;
    SimtGraph *capture = nullptr;
    unsigned long long works = 0; /* queued in the capture under way */
};

namespace {

std::vector<SimtStream *> streams;
std::map<const char *, size_t> device_blocks, pinned_blocks;
unsigned long long captured, launched;
cudaError_t last_error = cudaSuccess;
int running; /* depth of queued work being run */

cudaError_t fail(cudaError_t error) {
    last_error = error;
    return error;
}

const size_t POISONED_BYTES = static_cast<size_t>(1) << 20; /* of a new block: more would only take time */

double seconds() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/* ---- device memory ----------------------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
void open_memory() {}
void close_memory() {}
void *take(size_t bytes) {
    void *p = nullptr;
    return posix_memalign(&p, 256, bytes) == 0 ? p : nullptr;
}
void give(const char *p, size_t) {
    free(const_cast<char *>(p));
}
#else
/* All blocks lie in one range of addresses, whose pages up to the highest block are opened and closed together: one
 * system call each way, however many blocks there are. */
enum { ALIGN = 256 };
const size_t RANGE_BYTES = static_cast<size_t>(9) << 30, OPEN_STEP = static_cast<size_t>(1) << 20;
char *range;
size_t opened; /* bytes from `range` that have been in use */

void protect(int flags) {
    if (opened && mprotect(range, opened, flags) != 0) {
        perror("simt: mprotect");
        abort();
    }
}
void open_memory() {
    if (running++ == 0)
        protect(PROT_READ | PROT_WRITE);
}
void close_memory() {
    if (--running == 0)
        protect(PROT_NONE);
}
/* The lowest gap between blocks that is wide enough. */
void *take(size_t bytes) {
    if (!range) {
        void *mapped = mmap(nullptr, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED)
            return nullptr;
        range = static_cast<char *>(mapped);
    }
    char *at = range;
    for (const auto &block : device_blocks) {
        if (block.first >= at + bytes + ALIGN)
            break;
        at = range + (static_cast<size_t>(block.first - range) + block.second + 2 * ALIGN - 1) / ALIGN * ALIGN;
    }
    const size_t end = static_cast<size_t>(at - range) + bytes;
    if (end > RANGE_BYTES)
        return nullptr;
    if (end > opened) {
        opened = (end + OPEN_STEP - 1) / OPEN_STEP * OPEN_STEP;
        protect(running ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
    return at;
}
void give(const char *, size_t) {}
#endif

const std::pair<const char *const, size_t> *block_around(const std::map<const char *, size_t> &blocks, const void *at) {
    auto next = blocks.upper_bound(static_cast<const char *>(at));
    if (next == blocks.begin())
        return nullptr;
    --next;
    return static_cast<const char *>(at) < next->first + next->second ? &*next : nullptr;
}

bool is_device(const void *p, size_t bytes) {
    auto block = block_around(device_blocks, p);
    return block && static_cast<const char *>(p) + bytes <= block->first + block->second;
}

bool is_pinned(const void *p) {
    return block_around(pinned_blocks, p) != nullptr;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

void run_until(SimtEvent *event, unsigned long long version);

void run_one(SimtStream *stream) {
    Op op = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (op.kind == OP_WORK) {
        op.work();
    } else if (op.kind == OP_RECORD) {
        if (op.event->done < op.version)
            op.event->done = op.version;
        op.event->time = seconds();
    } else {
        run_until(op.event, op.version);
    }
}

void run_until(SimtEvent *event, unsigned long long version) {
    while (event->done < version) {
        if (!event->stream || event->stream->queue.empty()) {
            fprintf(stderr, "simt: a stream waits for an event that nothing will record\n");
            abort();
        }
        run_one(event->stream);
    }
}

/* All but the last `keep`. */
void drain(SimtStream *stream, size_t keep = 0) {
    if (stream->queue.size() <= keep)
        return;
    open_memory();
    while (stream->queue.size() > keep)
        run_one(stream);
    close_memory();
}

void drain_all() {
    for (size_t i = 0; i < streams.size(); i++)
        drain(streams[simt_order() == SIMT_FORWARD ? i : streams.size() - 1 - i]);
}

void push(SimtStream *stream, Op op) {
    if (stream->capture) {
        stream->works++;
        stream->capture->ops.push_back(std::move(op));
    } else {
        stream->queue.push_back(std::move(op));
    }
}

/* The capture that the event was recorded in, while it is under way. */
SimtGraph *capture_of(const SimtEvent *event) {
    for (SimtStream *stream : streams)
        if (event->captured && stream->capture == event->captured)
            return event->captured;
    return nullptr;
}

bool capturing() {
    for (SimtStream *stream : streams)
        if (stream->capture) {
            stream->capture->invalid = true;
            return true;
        }
    return false;
}

} // namespace

void simt_enqueue(cudaStream_t stream, std::function<void()> work) {
    if (!stream) {
        fprintf(stderr, "simt: work on the default stream, which nothing here waits for\n");
        abort();
    }
    push(stream, {OP_WORK, std::move(work), nullptr, 0});
}

void simt_enqueue_prompt(cudaStream_t stream, std::function<void()> work) {
    push(stream, {OP_WORK, std::move(work), nullptr, 0, true});
    if (!stream->capture)
        drain(stream);
}

bool simt_capturing(cudaStream_t stream) {
    return stream->capture != nullptr;
}

bool simt_any_capturing() {
    for (const SimtStream *stream : streams)
        if (stream->capture)
            return true;
    return false;
}

void simt_enqueue_grid(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                       std::function<void()> thread) {
    simt_enqueue(stream, [=]() { simt_run_grid(name, grid, block, shared, thread); });
}

void simt_stream_counters(SimtCounters *counters) {
    counters->captured = captured;
    counters->graph_launches = launched;
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess ? "cudaSuccess" : "cudaError";
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureUnjoined:
        return "capture has a stream that was not joined back";
    default:
        return "invalid argument";
    }
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

/* EXCON_SIMT_DEVICES: how many devices this host has; 1. */
cudaError_t cudaGetDeviceCount(int *count) {
    const char *devices = getenv("EXCON_SIMT_DEVICES");
    *count = devices ? atoi(devices) : 1;
    return *count > 0 ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    int count = 0;
    cudaGetDeviceCount(&count);
    return device >= 0 && device < count ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    *properties = {};
    properties->uuid.bytes[0] = static_cast<char>(device + 1);
    snprintf(properties->name, sizeof properties->name, "stand-in GPU (tests)");
    properties->totalGlobalMem = static_cast<size_t>(8) << 30;
    properties->multiProcessorCount = 3;
    properties->major = 9;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = static_cast<size_t>(8) << 30;
    *free_bytes = *total;
    for (const auto &block : device_blocks)
        *free_bytes -= block.second;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    *pointer = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    size_t available, total;
    cudaMemGetInfo(&available, &total);
    char *p = bytes <= available ? static_cast<char *>(take(bytes)) : nullptr;
    if (!p)
        return fail(cudaErrorMemoryAllocation);
    device_blocks[p] = bytes;
    open_memory();
    memset(p, 0xFF, bytes < POISONED_BYTES ? bytes : POISONED_BYTES);
    close_memory();
    *pointer = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
    if (!pointer)
        return cudaSuccess;
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    drain_all();
    auto block = device_blocks.find(static_cast<char *>(pointer));
    if (block == device_blocks.end())
        return fail(cudaErrorInvalidValue);
    give(block->first, block->second);
    device_blocks.erase(block);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    *pointer = nullptr;
    if (posix_memalign(pointer, 256, bytes ? bytes : 1) != 0)
        return fail(cudaErrorMemoryAllocation);
    memset(*pointer, 0xFF, bytes);
    pinned_blocks[static_cast<char *>(*pointer)] = bytes ? bytes : 1;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer) {
    if (!pointer)
        return cudaSuccess;
    drain_all();
    if (pinned_blocks.erase(static_cast<char *>(pointer)) == 0)
        return fail(cudaErrorInvalidValue);
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    if (bytes == 0)
        return cudaSuccess;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault || is_device(dst, bytes) != to_device || is_device(src, bytes) != from_device)
        return fail(cudaErrorInvalidValue);
    if (kind == cudaMemcpyHostToDevice && !is_pinned(src) && stream->capture)
        return fail(cudaErrorStreamCaptureUnsupported);
    simt_enqueue(stream, [=]() { memmove(dst, src, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    if (bytes == 0)
        return cudaSuccess;
    if (!is_device(dst, bytes))
        return fail(cudaErrorInvalidValue);
    simt_enqueue(stream, [=]() { memset(dst, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new SimtStream;
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    drain(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream)
            streams.erase(streams.begin() + static_cast<long>(i));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    drain(stream);
    return cudaSuccess;
}

/* Each question lets one piece of work pass, so that polling ends. */
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    if (stream->queue.empty())
        return cudaSuccess;
    open_memory();
    run_one(stream);
    close_memory();
    return cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event->captured) {
        SimtGraph *graph = capture_of(event);
        if (!graph)
            return fail(cudaErrorInvalidValue);
        if (!stream->capture) {
            stream->capture = graph;
            stream->works = 0;
            graph->joined[stream] = 0;
        }
        if (stream == graph->origin && event->captured_stream != stream)
            graph->joined[event->captured_stream] = event->captured_at;
        return cudaSuccess; /* the list's order is one that the events allow */
    }
    if (stream->capture) {
        stream->capture->invalid = true;
        return fail(cudaErrorStreamCaptureIsolation);
    }
    if (event->recorded > 0)
        push(stream, {OP_WAIT, nullptr, event, event->recorded});
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = new SimtEvent;
    (*event)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    drain_all();
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    if (stream->capture && !(flags & cudaEventRecordExternal)) {
        event->captured = stream->capture;
        event->captured_stream = stream;
        event->captured_at = stream->works;
        return cudaSuccess;
    }
    if (stream->capture) { /* a node that stamps the time at every launch */
        push(stream, {OP_WORK, [=]() { event->time = seconds(); }, nullptr, 0});
        return cudaSuccess;
    }
    event->captured = nullptr;
    event->stream = stream;
    push(stream, {OP_RECORD, nullptr, event, ++event->recorded});
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    open_memory();
    run_until(event, event->recorded);
    close_memory();
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (event->done >= event->recorded)
        return cudaSuccess;
    open_memory();
    run_one(event->stream);
    close_memory();
    return event->done >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    if (!start->timed || !end->timed)
        return fail(cudaErrorInvalidValue);
    if (start->done < start->recorded || end->done < end->recorded)
        return cudaErrorNotReady;
    *milliseconds = static_cast<float>(1e3 * (end->time - start->time));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream->capture)
        return fail(cudaErrorStreamCaptureUnsupported);
    stream->capture = new SimtGraph;
    stream->capture->origin = stream;
    stream->works = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    SimtGraph *made = stream->capture;
    *graph = nullptr;
    if (!made || made->origin != stream)
        return fail(cudaErrorInvalidValue);
    cudaError_t error = made->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (const auto &fork : made->joined)
        if (fork.second < fork.first->works)
            error = cudaErrorStreamCaptureUnjoined;
    for (SimtStream *s : streams)
        if (s->capture == made)
            s->capture = nullptr;
    if (error != cudaSuccess) {
        delete made;
        return fail(error);
    }
    captured++;
    *graph = made;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = new SimtGraph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    launched++;
    size_t behind = 0; /* works after the last prompt one */
    bool prompt = false;
    for (const Op &op : exec->ops) {
        push(stream, op);
        prompt = prompt || op.prompt;
        behind = op.prompt ? 0 : behind + 1;
    }
    if (prompt && !stream->capture)
        drain(stream, behind);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    drain_all();
    delete exec;
    return cudaSuccess;
}
