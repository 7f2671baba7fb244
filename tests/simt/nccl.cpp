/* NCCL by MPI, in the order of streams; sums are done in the order of ranks.
 *
 * What the host may rely on is what NCCL promises:
 *   - the communicator is a blocking one: a call has put its work on the stream when it returns. Others are refused,
 * since NCCL launches their work from threads of its own, a recorded capture's too
 *   - where sums are made, NVLink SHARP is off (its calls differ from each other) unless the user chose otherwise
 *   - an operation sees what its stream has before it, and others see its results after it on that stream, no sooner:
 *     the exchange with other processes happens at once (simt_enqueue_prompt), the results appear in their turn
 *   - buffers of an operation that has not ended are nobody else's: this ends the program when one has changed
 *   - a communicator ends after all its work, recordings that hold some included
 *   - every rank calls the same operations; one that is recorded is recorded by all, and they replay it together
 *
 * EXCON_SIMT_NCCL_FAULT makes a rank fail: "RANK connect" (it never connects, so that no rank can), "RANK error N"
 * (from its Nth operation on it reports an error).
 *
 * Ranks find each other without MPI, by sockets named after the communicator's id and themselves: they connect in a
 * thread of the caller's that must not call MPI, and may give up. The communicator of MPI is made by the first
 * operation. */
#include "include/nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "internal.h"
#include "ranks.h"

namespace {

enum Kind { ALL_GATHER, ALL_REDUCE, BROADCAST };

struct Task {
    Kind kind;
    const char *send;
    char *recv;
    size_t count;
    ncclDataType_t type;
    int root;
    cudaStream_t stream;
};

struct Fault {
    bool connects = true;
    unsigned long long operations = ~0ull; /* until the error */
};

} // namespace

struct ncclComm {
    int ranks, rank;
    int name; /* the socket that says "here is this rank" */
    Fault fault;
    std::shared_ptr<SimtRanks> others; /* also held by work that is queued or recorded; made by the first operation */
    bool finalized = false;
    unsigned long long operations = 0;
};

namespace {

int depth; /* of groups */
std::vector<std::pair<ncclComm *, Task>> group;
std::string last_error;
std::atomic<unsigned long long> calls; /* simt_nccl_calls */

ncclResult_t refuse(ncclResult_t code, const char *why) {
    last_error = why;
    return code;
}

[[noreturn]] void die(const char *why) {
    fprintf(stderr, "simt: %s\n", why);
    abort();
}

size_t size_of(ncclDataType_t type) {
    return type == ncclUint8 ? 1 : type == ncclInt32 || type == ncclFloat32 ? 4 : 8;
}

template <typename T> void add_as(size_t n, const char *from, char *to) {
    for (size_t i = 0; i < n; i++) {
        T a, b;
        memcpy(&a, to + i * sizeof a, sizeof a);
        memcpy(&b, from + i * sizeof b, sizeof b);
        a = static_cast<T>(a + b);
        memcpy(to + i * sizeof a, &a, sizeof a);
    }
}

void add(ncclDataType_t type, size_t n, const char *from, char *to) {
    switch (type) {
    case ncclUint8:
        return add_as<unsigned char>(n, from, to);
    case ncclInt32:
        return add_as<int>(n, from, to);
    case ncclInt64:
        return add_as<long long>(n, from, to);
    case ncclFloat32:
        return add_as<float>(n, from, to);
    case ncclFloat64:
        return add_as<double>(n, from, to);
    }
}

/* What the ranks must have in common in an operation. */
struct Card {
    unsigned long long number; /* of the communicator's operations, in a recording when it was made */
    unsigned long long bytes;
    int kind, type, root, recorded;
};

/* One operation under way; carried out anew at each launch of a recording. */
struct Flight {
    Card card;
    Task task;
    int ranks, rank;
    std::shared_ptr<SimtRanks> others;
    std::vector<char> sent, received, result;

    size_t bytes() const {
        return task.count * size_of(task.type);
    }
    bool sends() const {
        return task.kind != BROADCAST || rank == task.root;
    }
    size_t receives() const {
        return task.kind == ALL_GATHER ? bytes() * static_cast<size_t>(ranks) : bytes();
    }
    void compare_cards() const {
        std::vector<Card> cards(static_cast<size_t>(ranks));
        simt_ranks_gather(others.get(), &card, sizeof card, cards.data());
        for (int r = 0; r < ranks; r++)
            if (memcmp(&cards[static_cast<size_t>(r)], &card, sizeof card) != 0) {
                const Card &c = cards[static_cast<size_t>(r)];
                fprintf(stderr,
                        "simt: ranks differ in a collective: rank %d: number %llu, kind %d, %llu bytes%s; rank %d: "
                        "number %llu, kind %d, %llu bytes%s\n",
                        rank, card.number, card.kind, card.bytes, card.recorded ? ", recorded" : "", r, c.number,
                        c.kind, c.bytes, c.recorded ? ", recorded" : "");
                abort();
            }
    }
    void exchange() {
        compare_cards();
        sent.assign(task.send, task.send + (sends() ? bytes() : 0));
        received.assign(task.recv, task.recv + receives());
        std::vector<char> all(bytes() * static_cast<size_t>(ranks));
        if (task.kind == BROADCAST) {
            result = sends() ? sent : received;
            simt_ranks_broadcast(others.get(), result.data(), bytes(), task.root);
            return;
        }
        simt_ranks_gather(others.get(), sent.data(), bytes(), all.data());
        if (task.kind == ALL_REDUCE) {
            for (int r = 1; r < ranks; r++)
                add(task.type, task.count, all.data() + static_cast<size_t>(r) * bytes(), all.data());
            all.resize(bytes());
        }
        result = std::move(all);
    }
    void appear() {
        if (!std::equal(sent.begin(), sent.end(), task.send) ||
            !std::equal(received.begin(), received.end(), task.recv))
            die("a buffer of a collective has changed before the collective ended");
        std::copy(result.begin(), result.end(), task.recv);
    }
};

void put_on_stream(ncclComm *comm, const Task &task) {
    if (!comm->others)
        comm->others = std::shared_ptr<SimtRanks>(simt_ranks_new(), simt_ranks_free);
    Card card;
    memset(&card, 0, sizeof card); /* padding is compared too */
    card.number = ++comm->operations;
    card.bytes = task.count * size_of(task.type);
    card.kind = task.kind;
    card.type = task.type;
    card.root = task.root;
    card.recorded = simt_capturing(task.stream);
    auto flight = std::make_shared<Flight>(Flight{card, task, comm->ranks, comm->rank, comm->others, {}, {}, {}});
    if (comm->ranks > 1)
        simt_enqueue_prompt(task.stream, [=]() { flight->exchange(); });
    else
        simt_enqueue(task.stream, [=]() { flight->exchange(); });
    simt_enqueue(task.stream, [=]() { flight->appear(); });
}

bool failed(const ncclComm *comm) {
    return comm->operations >= comm->fault.operations;
}

/* What stands against a call now. */
ncclResult_t readiness(const ncclComm *comm) {
    if (comm->finalized)
        return refuse(ncclInvalidUsage, "a call after ncclCommFinalize");
    return failed(comm) ? refuse(ncclRemoteError, "the fault that a test asked for") : ncclSuccess;
}

ncclResult_t operate(ncclComm *comm, const Task &task) {
    calls++;
    ncclResult_t ready = readiness(comm);
    if (ready != ncclSuccess)
        return ready;
    if (depth > 0) {
        group.emplace_back(comm, task);
        return ncclSuccess;
    }
    put_on_stream(comm, task);
    return ncclSuccess;
}

Fault fault_of(int rank) {
    Fault fault;
    int of = -1;
    char kind[16] = "";
    unsigned long long operations = 0;
    const char *asked = getenv("EXCON_SIMT_NCCL_FAULT");
    if (!asked || sscanf(asked, "%d %15s %llu", &of, kind, &operations) < 2 || of != rank)
        return fault;
    fault.connects = strcmp(kind, "connect") != 0;
    if (strcmp(kind, "error") == 0)
        fault.operations = operations;
    return fault;
}

/* In the abstract namespace: gone when the process is. */
socklen_t address_of(const char *id, int rank, sockaddr_un *out) {
    *out = {};
    out->sun_family = AF_UNIX;
    const int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "excon-%s-%d", id, rank);
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
}

void appear_as(ncclComm *comm, const char *id) {
    sockaddr_un here;
    const socklen_t length = address_of(id, comm->rank, &here);
    comm->name = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (comm->fault.connects && bind(comm->name, reinterpret_cast<sockaddr *>(&here), length) != 0)
        die("two ranks have the same number");
}

bool sees(const char *id, int rank) {
    sockaddr_un there;
    const socklen_t length = address_of(id, rank, &there);
    const int probe = socket(AF_UNIX, SOCK_DGRAM, 0);
    const bool found = connect(probe, reinterpret_cast<sockaddr *>(&there), length) == 0;
    close(probe);
    return found;
}

/* NCCL's default is to use it, where the hardware can. */
void check_order_of_sums() {
    const char *nvls = getenv("NCCL_NVLS_ENABLE");
    if (!getenv("NCCL_ALGO") && (!nvls || strcmp(nvls, "0") != 0))
        die("NVLink SHARP may sum, which gives other bits at every call");
}

} // namespace

extern "C" unsigned long long simt_nccl_calls(void) {
    return calls;
}

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclInProgress:
        return "operation in progress";
    default:
        return "other error";
    }
}

const char *ncclGetLastError(ncclComm_t) {
    return last_error.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    calls++;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "simt-%d-%llu", static_cast<int>(getpid()), calls.load());
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    calls++;
    if (strncmp(id.internal, "simt-", 5) != 0 || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "not an id that ncclGetUniqueId made, or not a rank");
    const char *blocking = getenv("NCCL_COMM_BLOCKING"); /* overrides what the program asks for */
    if (blocking && strcmp(blocking, "0") == 0)
        return ncclInProgress;
    if (config->blocking != 1)
        return refuse(ncclInvalidArgument, "a communicator that launches from threads of its own");
    check_order_of_sums();
    auto *made = new ncclComm;
    made->ranks = ranks;
    made->rank = rank;
    made->fault = fault_of(rank);
    *comm = made;
    appear_as(made, id.internal);
    for (int r = 0; r < ranks; r++)
        while (!sees(id.internal, r))
            usleep(1000);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = failed(comm) ? refuse(ncclRemoteError, "the fault that a test asked for") : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    calls++;
    ncclResult_t ready = readiness(comm);
    if (ready != ncclSuccess)
        return ready;
    if (comm->others.use_count() > 1)
        die("a communicator ends while work of it is queued or recorded");
    comm->finalized = true;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!comm->finalized)
        return refuse(ncclInvalidUsage, "ncclCommDestroy before ncclCommFinalize has finished");
    close(comm->name);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
    depth++;
    return ncclSuccess;
}

/* Groups on one communicator only. */
ncclResult_t ncclGroupEnd(void) {
    if (depth == 0)
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth > 0 || group.empty())
        return ncclSuccess;
    for (const auto &call : group)
        put_on_stream(call.first, call.second);
    group.clear();
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return operate(comm,
                   {ALL_GATHER, static_cast<const char *>(send), static_cast<char *>(recv), count, type, 0, stream});
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
    return operate(comm,
                   {ALL_REDUCE, static_cast<const char *>(send), static_cast<char *>(recv), count, type, 0, stream});
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
    return operate(comm,
                   {BROADCAST, static_cast<const char *>(send), static_cast<char *>(recv), count, type, root, stream});
}
