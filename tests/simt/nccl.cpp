/* NCCL by MPI, in the order of streams; sums are done in the order of ranks.
 *
 * What the host may rely on is what NCCL promises:
 *   - a call on a communicator that does not block takes effect, and lets another call follow, only when
 *     ncclCommGetAsyncError has said ncclSuccess; events recorded before that come before it
 *   - an operation sees what its stream has before it, and others see its results after it on that stream, no sooner:
 *     the exchange with other processes happens at once (simt_enqueue_prompt), the results appear in their turn
 *   - buffers of an operation that has not ended are nobody else's: this ends the program when one has changed
 *   - a communicator ends after all its work, recordings that hold some included
 *   - every rank calls the same operations; one that is recorded is recorded by all, and they replay it together
 *
 * EXCON_SIMT_NCCL_FAULT makes a rank fail: "RANK connect" (it never connects, so that no rank can), "RANK error N"
 * (from its Nth operation on it reports an error). */
#include "include/nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "internal.h"
#include "ranks.h"

namespace {

/* Looks at a communicator that say "in progress" after a call. */
enum { LOOKS = 2 };

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
    bool blocking;
    Fault fault;
    std::shared_ptr<SimtRanks> others; /* also held by work that is queued or recorded */
    bool connected = false, finalized = false;
    int looks = 0;             /* until the calls below have taken effect */
    std::vector<Task> pending; /* called, without effect yet */
    unsigned long long operations = 0;
};

namespace {

thread_local int depth; /* of groups */
thread_local std::vector<std::pair<ncclComm *, Task>> group;
thread_local std::string last_error;

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

void take_effect(ncclComm *comm) {
    std::vector<Task> tasks;
    tasks.swap(comm->pending);
    for (const Task &task : tasks)
        put_on_stream(comm, task);
}

/* The answer of a call whose tasks, if any, are pending. */
ncclResult_t called(ncclComm *comm) {
    if (comm->blocking) {
        take_effect(comm);
        return ncclSuccess;
    }
    comm->looks = LOOKS;
    return ncclInProgress;
}

bool failed(const ncclComm *comm) {
    return comm->operations >= comm->fault.operations;
}

/* What stands against a call now. */
ncclResult_t readiness(const ncclComm *comm) {
    if (!comm->connected || comm->looks > 0)
        return refuse(ncclInvalidArgument, "a call before the one before it returned ncclSuccess");
    if (comm->finalized)
        return refuse(ncclInvalidUsage, "a call after ncclCommFinalize");
    return failed(comm) ? refuse(ncclRemoteError, "the fault that a test asked for") : ncclSuccess;
}

ncclResult_t operate(ncclComm *comm, const Task &task) {
    ncclResult_t ready = readiness(comm);
    if (ready != ncclSuccess)
        return ready;
    if (depth > 0) {
        group.emplace_back(comm, task);
        return ncclSuccess;
    }
    comm->pending.push_back(task);
    return called(comm);
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

bool connect(ncclComm *comm) {
    if (!comm->others && comm->fault.connects)
        comm->others = std::shared_ptr<SimtRanks>(simt_ranks_new(), simt_ranks_free);
    comm->connected = comm->others && simt_ranks_ready(comm->others.get());
    return comm->connected;
}

} // namespace

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
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "simt");
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    if (strcmp(id.internal, "simt") != 0 || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "not an id that ncclGetUniqueId made, or not a rank");
    auto *made = new ncclComm;
    made->ranks = ranks;
    made->rank = rank;
    made->blocking = config->blocking != 0;
    made->fault = fault_of(rank);
    *comm = made;
    if (!made->blocking)
        return ncclInProgress;
    while (!connect(made)) {
    }
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = ncclSuccess;
    if (!comm->connected) {
        *error = connect(comm) ? ncclSuccess : ncclInProgress;
    } else if (comm->looks > 0 && --comm->looks > 0) {
        *error = ncclInProgress;
    } else if (!comm->pending.empty()) {
        take_effect(comm);
    } else if (failed(comm)) {
        *error = refuse(ncclRemoteError, "the fault that a test asked for");
    }
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    ncclResult_t ready = readiness(comm);
    if (ready != ncclSuccess)
        return ready;
    if (comm->others.use_count() > 1)
        die("a communicator ends while work of it is queued or recorded");
    comm->finalized = true;
    return called(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!comm->finalized || comm->looks > 0)
        return refuse(ncclInvalidUsage, "ncclCommDestroy before ncclCommFinalize has finished");
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
    ncclComm *comm = group[0].first;
    for (const auto &call : group)
        comm->pending.push_back(call.second);
    group.clear();
    return called(comm);
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
