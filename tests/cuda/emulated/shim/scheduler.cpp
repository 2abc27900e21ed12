// Runs the threads of a CUDA grid, one after another, on the CPU.
//
// A thread runs on a stack of its own from its start to its next barrier or warp collective; there
// the scheduler takes over. A thread that never waits gives its stack to the next one, so that
// elementwise kernels need a single stack and no switches. Blocks run one after another.
//
// What is checked: threads of a block that wait at different barriers; a warp collective whose lanes
// differ in mask or place, that a lane outside of its mask calls, or that names an exited lane; a
// deadlock; an access to memory that is mapped as inaccessible, which is reported as an error of the
// kernel instead of ending the process.
// What cannot be seen: anything that needs two threads to run at the same time.
#include "scheduler.h"

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

extern "C" {
uint3 nnm_thread, nnm_block;
dim3 nnm_block_dim, nnm_grid_dim;
char *nnm_dynamic;
int (*nnm_may_read)(const void *);
int (*nnm_open_at)(const void *);
}

namespace {

enum State : unsigned char { FRESH, READY, AT_BARRIER, AT_COLLECTIVE, DONE };

constexpr size_t STACK = 256 * 1024, DYNAMIC = 227 * 1024;
constexpr int WARP = 32, MOST_THREADS = 1024;

struct Stack {
    char *memory;
    ucontext_t start;
    jmp_buf place;
    bool started = false;
};

struct Thread {
    State state;
    unsigned mask;
    int line;
    uint3 index;
    Stack *stack;
    unsigned char slot[16];      // what the thread gives to a warp collective
};

std::vector<Stack *> all_stacks, idle;
Thread threads[MOST_THREADS];
int count, current;
void (*body)(void *);
void *argument;
jmp_buf scheduler;
sigjmp_buf refused;
char sentence[512];
void *fault;
unsigned long long blocks_run;   // over all launches
unsigned filling;
struct Array {
    void *begin;
    unsigned long long turn;     // in which it was filled
};
std::vector<Array> arrays;       // shared arrays of templates

// ---------------------------------------------------------------------------------- switching

// A context is entered by setcontext once and by longjmp after that: no system call at a switch.
void leave()
{
    if (!_setjmp(threads[current].stack->place)) _longjmp(scheduler, 1);
}

void life_of_a_stack()
{
    for (;;) {
        body(argument);
        Stack *mine = threads[current].stack;
        threads[current].state = DONE;
        idle.push_back(mine);
        if (!_setjmp(mine->place)) _longjmp(scheduler, 1);
    }
}

Stack *take_stack()
{
    if (idle.empty()) {
        Stack *made = new Stack;
        made->memory = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made->memory == MAP_FAILED) abort();
        mprotect(made->memory, 4096, PROT_NONE);     // an overflow faults
        all_stacks.push_back(made);
        return made;
    }
    Stack *found = idle.back();
    idle.pop_back();
    return found;
}

void resume(int t)
{
    current = t;
    Thread &thread = threads[t];
    nnm_thread = thread.index;
    if (thread.state == FRESH) thread.stack = take_stack();
    thread.state = READY;
    Stack *stack = thread.stack;
    if (_setjmp(scheduler)) return;
    if (stack->started) _longjmp(stack->place, 1);
    stack->started = true;
    getcontext(&stack->start);
    stack->start.uc_stack.ss_sp = stack->memory;
    stack->start.uc_stack.ss_size = STACK;
    stack->start.uc_link = nullptr;
    makecontext(&stack->start, life_of_a_stack, 0);
    setcontext(&stack->start);
}

// After an error the stacks hold threads that will never go on: begin each anew.
void forget_stacks()
{
    idle = all_stacks;
    for (Stack *stack : idle) stack->started = false;
}

void on_refused(int, siginfo_t *info, void *)
{
    if (nnm_open_at && nnm_open_at(info->si_addr)) return;
    fault = info->si_addr;
    siglongjmp(refused, 1);
}

// ---------------------------------------------------------------------------------- one block

void release_barrier(int waiting)
{
    int line = -1;
    for (int t = 0; t < count; ++t)
        if (threads[t].state == AT_BARRIER) {
            if (line < 0) line = threads[t].line;
            if (threads[t].line != line) {
                snprintf(sentence, sizeof sentence,
                         "the threads of a block wait at different barriers: lines %d and %d (%d threads)",
                         line, threads[t].line, waiting);
                return;
            }
        }
    for (int t = 0; t < count; ++t)
        if (threads[t].state == AT_BARRIER) threads[t].state = READY;
}

// Whether thread t and all lanes of its mask have arrived; an exited lane is an error.
bool arrived(int t)
{
    const Thread &one = threads[t];
    for (int lane = 0, first = t & ~(WARP - 1); lane < WARP; ++lane) {
        if (!(one.mask >> lane & 1) || first + lane >= count) continue;
        const Thread &other = threads[first + lane];
        if (other.state == DONE) {
            snprintf(sentence, sizeof sentence,
                     "line %d: the warp collective names lane %d, which has exited", one.line, lane);
            return false;
        }
        if (other.state != AT_COLLECTIVE || other.mask != one.mask || other.line != one.line) return false;
    }
    return true;
}

bool release_collectives(int first, int end)
{
    bool any = false;
    for (int t = first; t < end && !*sentence; ++t)
        if (threads[t].state == AT_COLLECTIVE && arrived(t)) {
            const unsigned mask = threads[t].mask;
            for (int lane = 0, first = t & ~(WARP - 1); lane < WARP && first + lane < count; ++lane)
                if (mask >> lane & 1) threads[first + lane].state = READY;
            any = true;
        }
    return any;
}

// Run the threads of a part of the turn that can run, each to its next wait.
bool advance(const std::vector<int> &turn, int from, int to)
{
    bool moved = false;
    for (int k = from; k < to && !*sentence; ++k) {
        const State state = threads[turn[k]].state;
        if (state == FRESH || state == READY) {
            resume(turn[k]);
            moved = true;
        }
    }
    return moved;
}

// Backward, a warp runs to its next barrier before any other moves: the race that a missing barrier
// leaves open is then lost. Forward and shuffled, all warps go from wait to wait together.
void run_block(const nnm_launch *how, std::vector<int> &turn, std::mt19937_64 &random)
{
    for (int t = 0; t < count; ++t) {
        const unsigned x = how->block[0], y = how->block[1];
        threads[t].state = FRESH;
        threads[t].index = {t % x, t / x % y, t / x / y};
        turn[t] = how->order == 1 ? count - 1 - t : t;
    }
    for (;;) {
        if (how->order == 2) std::shuffle(turn.begin(), turn.end(), random);
        bool moved = false;
        if (how->order == 1) {
            for (int w = (count - 1) / WARP * WARP; w >= 0; w -= WARP) {
                const int end = std::min(count, w + WARP);
                do moved |= advance(turn, count - end, count - w);
                while (!*sentence && release_collectives(w, end));
            }
        } else {
            moved = advance(turn, 0, count);
        }
        if (*sentence) return;
        int left = 0, waiting = 0;
        for (int t = 0; t < count; ++t) {
            left += threads[t].state != DONE;
            waiting += threads[t].state == AT_BARRIER;
        }
        if (!left) return;
        if (waiting == left) release_barrier(waiting);
        else if (!release_collectives(0, count) && !moved && !*sentence)
            snprintf(sentence, sizeof sentence,
                     "deadlock in block (%u, %u, %u): %d threads wait at a barrier, %d at a warp collective, "
                     "%d have exited", nnm_block.x, nnm_block.y, nnm_block.z, waiting, left - waiting, count - left);
        if (*sentence) return;
    }
}

void run_blocks(const nnm_launch *how, char *begin, char *end)
{
    const size_t gx = how->grid[0], gy = how->grid[1], blocks = gx * gy * how->grid[2];
    std::vector<int> turn(count);
    std::mt19937_64 random(how->seed);
    for (size_t k = 0; k < blocks && !*sentence; ++k) {
        const size_t b = how->order == 1 ? blocks - 1 - k : k;
        nnm_block = {unsigned(b % gx), unsigned(b / gx % gy), unsigned(b / gx / gy)};
        if (begin != end) memset(begin, int(how->poison), size_t(end - begin));
        memset(nnm_dynamic, int(how->poison), how->shared);
        ++blocks_run;
        filling = how->poison;
        run_block(how, turn, random);
    }
}

}  // namespace

// ---------------------------------------------------------------------------------- interface

extern "C" {

const char *nnm_error(void) { return sentence; }
void *nnm_fault(void) { return fault; }
int nnm_lane(void) { return current & (WARP - 1); }

void nnm_fail(const char *text)
{
    if (!*sentence)
        snprintf(sentence, sizeof sentence, "%s (block %u, %u, %u, thread %u, %u, %u)", text, nnm_block.x,
                 nnm_block.y, nnm_block.z, nnm_thread.x, nnm_thread.y, nnm_thread.z);
}

void nnm_barrier(int line)
{
    threads[current].state = AT_BARRIER;
    threads[current].line = line;
    leave();
}

void nnm_warp_barrier(unsigned mask, int line)
{
    if (!(mask >> nnm_lane() & 1)) {
        nnm_fail("a lane calls a warp collective whose mask does not name it");
        return;
    }
    threads[current].state = AT_COLLECTIVE;
    threads[current].mask = mask;
    threads[current].line = line;
    leave();
}

void nnm_exchange(unsigned mask, const void *in, void *out, unsigned size, int from, int line)
{
    memcpy(threads[current].slot, in, size);
    nnm_warp_barrier(mask, line);
    const int source = (current & ~(WARP - 1)) + from;
    if (source >= count || !(mask >> from & 1)) {
        nnm_fail("a shuffle reads a lane that its mask does not name");
        memset(out, 0xFF, size);
    } else {
        memcpy(out, threads[source].slot, size);
    }
    nnm_warp_barrier(mask, -line);      // nobody puts the next value down before all have read
}

// A thread comes to the declaration of a shared array: the first one of a block fills it. g++ leaves the arrays of
// templates out of the section that run_blocks fills. Declared by modules.py in the texts that need it.
NNM_SHARED void nnm_fill(void *begin, size_t size)
{
    for (Array &a : arrays)
        if (a.begin == begin) {
            if (a.turn != blocks_run) memset(begin, int(filling), size);
            a.turn = blocks_run;
            return;
        }
    arrays.push_back({begin, blocks_run});
    memset(begin, int(filling), size);
}

unsigned nnm_ballot(unsigned mask, int predicate, int line)
{
    threads[current].slot[0] = predicate != 0;
    nnm_warp_barrier(mask, line);
    unsigned votes = 0;
    for (int lane = 0, first = current & ~(WARP - 1); lane < WARP && first + lane < count; ++lane)
        if (mask >> lane & 1) votes |= unsigned(threads[first + lane].slot[0]) << lane;
    nnm_warp_barrier(mask, -line);
    return votes;
}

int nnm_run(const nnm_launch *how, void (*f)(void *), void *a, char *begin, char *end)
{
    static char dynamic[DYNAMIC + 64] __attribute__((aligned(64)));
    const size_t n = (size_t)how->block[0] * how->block[1] * how->block[2];
    *sentence = 0;
    fault = nullptr;
    if (n == 0 || n > MOST_THREADS) nnm_fail("a block has 1 to 1024 threads");
    if (how->shared > DYNAMIC) nnm_fail("more than 227 KiB of dynamic shared memory");
    if (*sentence) return 1;
    count = int(n);
    body = f;
    argument = a;
    nnm_dynamic = dynamic;
    nnm_grid_dim = dim3(how->grid[0], how->grid[1], how->grid[2]);
    nnm_block_dim = dim3(how->block[0], how->block[1], how->block[2]);
    struct sigaction ours = {}, segv, bus;
    ours.sa_sigaction = on_refused;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &ours, &segv);
    sigaction(SIGBUS, &ours, &bus);
    if (!sigsetjmp(refused, 1)) run_blocks(how, begin, end);
    else nnm_fail("an access outside of all arrays");
    sigaction(SIGSEGV, &segv, nullptr);
    sigaction(SIGBUS, &bus, nullptr);
    if (*sentence) forget_stacks();
    return *sentence != 0;
}

}  // extern "C"
