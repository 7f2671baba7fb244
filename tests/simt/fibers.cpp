/* Runs a grid: threads of a block as fibers, blocks one after the other.
 *
 * A fiber runs until it waits at a barrier or ends; then the next one in the order gets its turn. The last to arrive at
 * a barrier releases the others and gives up its own turn too, so that after every barrier threads start in the order
 * that was asked for. Unless that is shuffled, a warp therefore runs to the next block barrier before another has its
 * turn: as far apart as warps can be, which shows where a block barrier is missing. Exited threads count as arrived at
 * block barriers, as on the hardware; at warp barriers they do not. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <vector>

#include "include/cuda_runtime.h"
#include "internal.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

enum { WARP = 32, THREADS_MAX = 1024 };
static const size_t STACK_BYTES = 256 * 1024;

SimtThread *simt_thread;
SimtBlock simt_block;

/* Bounds of the section that __shared__ variables lie in; this one makes sure that it exists. */
extern "C" {
extern char __start_simt_shared[] __attribute__((visibility("hidden")));
extern char __stop_simt_shared[] __attribute__((visibility("hidden")));
}
static char section_exists[16] __attribute__((section("simt_shared"), used));

namespace {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };

struct Fiber {
    SimtThread thread;
    State state;
    unsigned mask;     /* of the warp barrier waited at */
    const char *where; /* of the barrier */
    void *stack_pointer;
    char *stack;
    void *fake_stack; /* AddressSanitizer's */
};

struct Warp {
    unsigned arrived;
    uint64_t slot[WARP];
    unsigned given; /* lanes whose slot holds a value of the exchange under way */
};

struct Machine {
    Fiber fibers[THREADS_MAX];
    Warp warps[THREADS_MAX / WARP];
    Fiber *current;
    unsigned count, alive, waiting;
    const std::function<void()> *body;
    const char *kernel;
    void *stack_pointer; /* of the scheduler */
    void *fake_stack;
    const void *stack_bottom; /* of the scheduler, for AddressSanitizer */
    size_t stack_size;
    SimtOrder order;
    uint64_t random;
    SimtCounters counters;
    bool restart; /* a barrier was released: begin the next round of turns */
};

Machine machine;

[[noreturn]] void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "simt: kernel %s, block (%u,%u,%u): ", machine.kernel ? machine.kernel : "?", simt_block.index.x,
            simt_block.index.y, simt_block.index.z);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* Saves the callee-saved registers on the stack, leaves its pointer in *save, and goes on from `load`. */
extern "C" void simt_switch(void **save, void *load);
#if defined(__x86_64__)
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, @function
simt_switch:
    endbr64
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch, .-simt_switch
)");
enum { SAVED_WORDS = 6 };
#elif defined(__aarch64__)
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, %function
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch, .-simt_switch
)");
#else
#error "the SIMT tests know how to switch fibers on x86-64 and aarch64"
#endif

void to_scheduler(bool ending) {
    Fiber *self = machine.current;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(ending ? nullptr : &self->fake_stack, machine.stack_bottom, machine.stack_size);
#else
    (void)ending;
#endif
    simt_switch(&self->stack_pointer, machine.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self->fake_stack, &machine.stack_bottom, &machine.stack_size);
#endif
}

void release_block_barrier() {
    for (unsigned i = 0; i < machine.count; i++)
        if (machine.fibers[i].state == AT_BLOCK_BARRIER)
            machine.fibers[i].state = READY;
    machine.waiting = 0;
    machine.restart = true;
}

extern "C" void simt_fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &machine.stack_bottom, &machine.stack_size);
#endif
    (*machine.body)();
    machine.current->state = ENDED;
    machine.alive--;
    if (machine.waiting == machine.alive && machine.alive > 0)
        release_block_barrier();
    to_scheduler(true);
    abort();
}

void prepare_stack(Fiber *fiber) {
    if (!fiber->stack) {
        void *stack =
            mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED)
            fail("no memory for a fiber's stack");
        mprotect(stack, 4096, PROT_NONE); /* an overflow faults */
        fiber->stack = static_cast<char *>(stack);
    }
    void **top = reinterpret_cast<void **>(fiber->stack + STACK_BYTES);
#if defined(__x86_64__)
    *--top = nullptr; /* a return address nobody uses: keeps the stack aligned as after a call */
    *--top = reinterpret_cast<void *>(&simt_fiber_main);
    for (int i = 0; i < SAVED_WORDS; i++)
        *--top = nullptr;
#else
    for (int i = 0; i < 20; i++)
        *--top = nullptr;
    top[11] = reinterpret_cast<void *>(&simt_fiber_main); /* x30 */
#endif
    fiber->stack_pointer = top;
}

void turn(Fiber *fiber) {
    machine.current = fiber;
    simt_thread = &fiber->thread;
    machine.counters.switches++;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&machine.fake_stack, fiber->stack, STACK_BYTES);
#endif
    simt_switch(&machine.stack_pointer, fiber->stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(machine.fake_stack, nullptr, nullptr);
#endif
    simt_thread = nullptr;
}

unsigned random_below(unsigned n) {
    machine.random = machine.random * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>((machine.random >> 33) * n >> 31);
}

void fill_order(std::vector<unsigned> &order, unsigned n) {
    order.resize(n);
    for (unsigned i = 0; i < n; i++)
        order[i] = machine.order == SIMT_REVERSE ? n - 1 - i : i;
    if (machine.order == SIMT_SHUFFLED)
        for (unsigned i = n; i > 1; i--)
            std::swap(order[i - 1], order[random_below(i)]);
}

[[noreturn]] void report_deadlock() {
    for (unsigned i = 0; i < machine.count; i++) {
        const Fiber &f = machine.fibers[i];
        if (f.state != ENDED)
            fail("deadlock: %u of %u threads have ended; thread %u waits at a %s barrier, %s",
                 machine.count - machine.alive, machine.count, i, f.state == AT_WARP_BARRIER ? "warp" : "block",
                 f.where);
    }
    fail("deadlock");
}

void poison_shared(size_t dynamic) {
    memset(__start_simt_shared, 0xFF, static_cast<size_t>(__stop_simt_shared - __start_simt_shared));
    if (dynamic)
        memset(simt_block.dynamic_shared, 0xFF, dynamic);
}

void run_block(std::vector<unsigned> &order, size_t dynamic) {
    dim3 size = simt_block.size;
    machine.count = machine.alive = size.x * size.y * size.z;
    machine.waiting = 0;
    machine.counters.blocks++;
    poison_shared(dynamic);
    memset(machine.warps, 0, sizeof machine.warps);
    for (unsigned i = 0; i < machine.count; i++) {
        Fiber &f = machine.fibers[i];
        f.thread = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, i, i % WARP};
        f.state = READY;
        prepare_stack(&f);
    }
    while (machine.alive > 0) {
        bool moved = false;
        machine.restart = false;
        fill_order(order, machine.count);
        for (unsigned i = 0; i < machine.count && !machine.restart; i++)
            if (machine.fibers[order[i]].state == READY) {
                turn(&machine.fibers[order[i]]);
                moved = true;
            }
        if (!moved)
            report_deadlock();
    }
}

Warp *own_warp() {
    return &machine.warps[simt_thread->rank / WARP];
}

void wait_for_warp(unsigned mask, const char *where) {
    Warp *warp = own_warp();
    Fiber *self = machine.current;
    if (!(mask >> simt_thread->lane & 1u))
        fail("thread %u is not in the mask %08x of its warp barrier, %s", simt_thread->rank, mask, where);
    warp->arrived |= 1u << simt_thread->lane;
    self->mask = mask;
    self->where = where;
    unsigned first = simt_thread->rank / WARP * WARP;
    if ((warp->arrived & mask) == mask) {
        for (unsigned lane = 0; lane < WARP && first + lane < machine.count; lane++)
            if (mask >> lane & 1u) {
                Fiber *f = &machine.fibers[first + lane];
                if (f != self && (f->state != AT_WARP_BARRIER || f->mask != mask))
                    fail("lanes of a warp barrier came with different masks, %s", where);
                f->state = READY;
            }
        warp->arrived &= ~mask;
        machine.restart = machine.order != SIMT_SHUFFLED;
    } else {
        self->state = AT_WARP_BARRIER;
    }
    to_scheduler(false);
}

} // namespace

void simt_sync_block(const char *where) {
    Fiber *self = machine.current;
    self->where = where;
    self->state = AT_BLOCK_BARRIER;
    if (++machine.waiting == machine.alive)
        release_block_barrier();
    to_scheduler(false);
}

void simt_sync_warp(const char *where, unsigned mask) {
    /* Lanes beyond the block's last thread do not exist. */
    unsigned first = simt_thread->rank / WARP * WARP, left = machine.count - first;
    if (left < WARP)
        mask &= (1u << left) - 1u;
    wait_for_warp(mask, where);
}

uint64_t simt_exchange(unsigned mask, uint64_t bits, unsigned source, const char *where) {
    Warp *warp = own_warp();
    warp->slot[simt_thread->lane] = bits;
    warp->given |= 1u << simt_thread->lane;
    simt_sync_warp(where, mask);
    if (!(warp->given >> source & 1u))
        fail("thread %u takes a shuffled value from lane %u, which gave none, %s", simt_thread->rank, source, where);
    bits = warp->slot[source];
    simt_sync_warp(where, mask); /* before anyone leaves the next value */
    warp->given &= ~(1u << simt_thread->lane);
    return bits;
}

unsigned simt_ballot(unsigned mask, int predicate, const char *where) {
    unsigned left = machine.count - simt_thread->rank / WARP * WARP, votes = 0;
    Warp *warp = own_warp();
    warp->slot[simt_thread->lane] = predicate != 0;
    simt_sync_warp(where, mask);
    for (unsigned lane = 0; lane < WARP && lane < left; lane++)
        if (mask >> lane & 1u)
            votes |= static_cast<unsigned>(warp->slot[lane]) << lane;
    simt_sync_warp(where, mask);
    return votes;
}

void simt_run_grid(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread) {
    unsigned threads = block.x * block.y * block.z;
    machine.kernel = name;
    if (threads == 0 || threads > THREADS_MAX || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
        grid.z > 65535 || shared > 227 * 1024)
        fail("impossible launch: grid %ux%ux%u, block %u, %zu bytes of shared memory", grid.x, grid.y, grid.z, threads,
             shared);
    machine.counters.kernels++;
    machine.body = &thread;
    simt_block.grid = grid;
    simt_block.size = block;
    simt_block.dynamic_shared = shared ? malloc(shared) : nullptr;
    std::vector<unsigned> turns, blocks;
    fill_order(blocks, grid.x * grid.y * grid.z);
    for (unsigned b : blocks) {
        simt_block.index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        run_block(turns, shared);
    }
    free(simt_block.dynamic_shared);
    simt_block.dynamic_shared = nullptr;
    machine.kernel = nullptr;
}

extern "C" void simt_set_order(SimtOrder order, unsigned seed) {
    machine.order = order;
    machine.random = seed;
}

extern "C" SimtCounters simt_counters(void) {
    SimtCounters out = machine.counters;
    simt_stream_counters(&out);
    return out;
}

SimtOrder simt_order() {
    return machine.order;
}

__attribute__((constructor)) static void order_from_environment() {
    const char *order = getenv("EXCON_SIMT_ORDER");
    if (!order || strcmp(order, "forward") == 0)
        return;
    if (strcmp(order, "reverse") == 0)
        simt_set_order(SIMT_REVERSE, 0);
    else
        simt_set_order(SIMT_SHUFFLED, static_cast<unsigned>(strtoul(order, nullptr, 10)));
}
