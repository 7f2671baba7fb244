/* Asynchronous copies: each thread's are kept, in groups, until it waits for them. */
#include <stdio.h>
#include <stdlib.h>

#include <deque>
#include <vector>

#include "include/cuda_pipeline.h"
#include "simt.h"

namespace {

struct Copy {
    void *to;
    const void *from;
    size_t bytes;
};

struct Pending {
    std::deque<std::vector<Copy>> groups; /* the last one is still open */
    unsigned long long block;             /* in which the thread lives, counted from the start */
};

Pending pending[1024];

Pending *own_pending() {
    Pending *own = &pending[simt_thread->rank];
    const unsigned long long block = simt_counters().blocks;
    if (own->block != block) {
        for (const std::vector<Copy> &group : own->groups)
            if (!group.empty()) {
                fprintf(stderr, "simt: thread %u of an earlier block ended without waiting for its copies\n",
                        simt_thread->rank);
                abort();
            }
        own->block = block;
        own->groups.assign(1, {});
    }
    return own;
}

} // namespace

void __pipeline_memcpy_async(void *shared, const void *global, size_t bytes) {
    if ((bytes != 4 && bytes != 8 && bytes != 16) || reinterpret_cast<uintptr_t>(shared) % bytes ||
        reinterpret_cast<uintptr_t>(global) % bytes) {
        fprintf(stderr,
                "simt: asynchronous copy of %zu bytes from %p to %p: sizes are 4, 8 or 16, addresses multiples\n",
                bytes, global, shared);
        abort();
    }
    own_pending()->groups.back().push_back({shared, global, bytes});
}

void __pipeline_commit() {
    own_pending()->groups.push_back({});
}

void __pipeline_wait_prior(size_t prior) {
    Pending *own = own_pending();
    while (own->groups.size() > prior + 1) {
        for (const Copy &copy : own->groups.front())
            memcpy(copy.to, copy.from, copy.bytes);
        own->groups.pop_front();
    }
}
