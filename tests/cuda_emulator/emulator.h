//! Runs CUDA kernels on the processor: the part of the CUDA language that this crate's kernels are written in, for g++.
//!
//! How to use it: include this header first, then, in a namespace of its own for each file of kernels, the file itself.
//!
//!     #include "emulator.h"
//!     namespace softmax {
//!     EMULATOR_DYNAMIC_SHARED(shared)   // only where the file declares `extern __shared__ float shared[];`
//!     #include "common.cuh"
//!     #include "softmax.cu"
//!     }
//!     EMULATOR_REGISTER(softmax, attention_softmax_f32)                        // found by its name from now on
//!     emulator::launch(softmax::kernel, grid, block, shared_bytes, args...);   // or called directly
//!
//! g++ -std=c++17 -O2, on x86-64 Linux; CUDA_EMULATOR is defined. The threads of a block are fibers that change places
//! only where one has to wait; blocks run one after the other. Static `__shared__` arrays are thread-local variables:
//! the program that includes this header must have no others, since all are filled with NaN before a block. (Once a
//! launch, where the blocks call neither `__syncthreads` nor `__syncwarp`.)
//!
//! A mistake ends the process with a message: a barrier in different lines of the source or a deadlock, a warp function
//! with diverged lanes or one that reads a lane that has returned, a write behind the end of the dynamic shared memory,
//! a launch that the hardware would refuse. EMULATOR_ORDER=reverse in the environment starts blocks and threads
//! from the last to the first: a missing barrier that one order hides shows in the other.
//!
//! It does not show races between blocks (they never run at the same time), speed, or what the real compiler does.

#pragma once

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define CUDA_EMULATOR 1

#define __global__
#define __device__
#define __host__
#define __constant__
// The only storage class that may stand both alone in a function (where it implies `static`) and behind `extern`.
#define __shared__ thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

/// The array behind `extern __shared__ float name[];`: once in each namespace whose kernels declare it.
#define EMULATOR_DYNAMIC_SHARED(name)                                                               \
    thread_local float name[(emulator::MAX_SHARED_BYTES + emulator::CANARY_BYTES) / sizeof(float)]; \
    [[maybe_unused]] static const bool emulator_dynamic_##name =                                    \
        emulator::add_dynamic_shared([] { return reinterpret_cast<char*>(name); });

/// Makes the kernel `space::name` known under its name.
#define EMULATOR_REGISTER(space, name) \
    [[maybe_unused]] static const bool emulator_kernel_##name = emulator::add<&space::name>(#name, #space);

#pragma GCC visibility push(hidden)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr size_t count() const { return size_t(x) * y * z; }
};

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

constexpr unsigned MAX_THREADS = 1024, WARP = 32;
/// What one block may use on compute capability 9.0.
constexpr size_t MAX_SHARED_BYTES = 227 * 1024;
/// What it may use without asking for more.
constexpr size_t DEFAULT_SHARED_BYTES = 48 * 1024;
/// Behind the dynamic shared memory of a launch: looked at after each block.
constexpr size_t CANARY_BYTES = 1024;
constexpr unsigned char POISON = 0xFF;  // a NaN in every float format, -1 as an integer
constexpr size_t STACK_BYTES = 64 * 1024;

// ---------------------------------------------------------------------------------------------------------------------
// Registry

struct Kernel {
    std::string name;
    const void* function;
    std::vector<size_t> parameter_bytes;
    void (*launch)(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes, void** parameters);
    mutable size_t max_dynamic_shared = DEFAULT_SHARED_BYTES;
};

/// Kernels by name; two of the same name have different spaces.
inline std::multimap<std::string, std::pair<std::string, Kernel>>& kernels() {
    static std::multimap<std::string, std::pair<std::string, Kernel>> all;
    return all;
}

/// A kernel by its name, in any space if none is given.
inline const Kernel* find(const std::string& name, const std::string& space = "") {
    auto [from, to] = kernels().equal_range(name);
    for (auto it = from; it != to; ++it) {
        if (space.empty() || it->second.first == space) return &it->second.second;
    }
    return nullptr;
}

/// Called with each pointer that a kernel is launched with, if set: ends the process when the kernel may not use it.
inline void (*check_pointer)(const Kernel& kernel, size_t index, const void* pointer, size_t alignment) = nullptr;

/// Where the arrays of EMULATOR_DYNAMIC_SHARED are, in the thread that asks.
inline std::vector<char* (*)()>& dynamic_shared() {
    static std::vector<char* (*)()> all;
    return all;
}

inline bool add_dynamic_shared(char* (*address)()) {
    dynamic_shared().push_back(address);
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Fibers

struct Fiber {
    void* stack_pointer;
};

/// Saves the registers that a called function must preserve, changes stacks and restores those of the other side.
/// swapcontext would do, but it makes a system call each time. `noipa`: nothing that the compiler could learn of this
/// function may let it keep shared memory in registers across it.
__attribute__((naked, noinline, noipa)) inline void switch_stack(void** /*save*/, void* /*load*/) {
    asm("pushq %rbp\n\t"
        "pushq %rbx\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq %rsi, %rsp\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbx\n\t"
        "popq %rbp\n\t"
        "ret");
}

enum class Wait : uint8_t { NotStarted, Running, Block, Warp, Returned };
enum class WarpFunction : uint8_t { Sync, Shuffle, Ballot, Any, All };

struct Thread {
    uint3 index;
    Fiber* fiber;
    Wait wait;
    WarpFunction function;
    int line;
    unsigned mask;
    unsigned source;
    uint64_t value, result;
};

struct Warp {
    unsigned waiting, returned;
};

/// The one block that runs. Guarded by `launching`.
struct Machine {
    std::mutex launching;
    Thread threads[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
    unsigned ready[MAX_THREADS];  // a ring of threads that may go on
    unsigned ready_first, num_ready;
    unsigned size, started, returned, at_barrier;
    unsigned current;
    bool uses_shared, reverse;
    const Kernel* kernel;
    void (*invoke)(void*);
    void* arguments;
    Fiber main;
    Fiber* running;
    std::vector<Fiber*> idle;
    size_t num_fibers;
};

inline Machine machine;

[[noreturn]] inline void fail_at_block() {
    fprintf(stderr, "  in kernel %s, block (%u, %u, %u) of (%u, %u, %u), %u threads\n", machine.kernel->name.c_str(),
            blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, machine.size);
    abort();
}

inline const char* name_of(const Thread& thread) {
    switch (thread.wait) {
        case Wait::NotStarted: return "not started";
        case Wait::Running: return "running";
        case Wait::Returned: return "returned";
        case Wait::Block: return "in __syncthreads";
        case Wait::Warp: break;
    }
    switch (thread.function) {
        case WarpFunction::Sync: return "in __syncwarp";
        case WarpFunction::Shuffle: return "in a shuffle";
        case WarpFunction::Ballot: return "in __ballot_sync";
        case WarpFunction::Any: return "in __any_sync";
        case WarpFunction::All: return "in __all_sync";
    }
    return "?";
}

/// What each thread of the block does, threads in the same place taken together, then the end of the process.
[[noreturn]] inline void fail_with_states(const char* what) {
    fprintf(stderr, "cuda emulator: %s\n", what);
    for (unsigned first = 0; first < machine.size;) {
        const Thread& a = machine.threads[first];
        unsigned last = first;
        auto same = [&](const Thread& b) {
            return a.wait == b.wait && (a.wait != Wait::Block || a.line == b.line) &&
                   (a.wait != Wait::Warp || (a.line == b.line && a.function == b.function && a.mask == b.mask));
        };
        while (last + 1 < machine.size && same(machine.threads[last + 1])) ++last;
        fprintf(stderr, "  threads %u..%u: %s", first, last, name_of(a));
        if (a.wait == Wait::Block || a.wait == Wait::Warp) fprintf(stderr, ", line %d", a.line);
        if (a.wait == Wait::Warp) fprintf(stderr, ", mask %08x", a.mask);
        fputc('\n', stderr);
        first = last + 1;
    }
    fail_at_block();
}

inline void worker();

inline Fiber* new_fiber() {
    const size_t page = 4096;
    char* memory = static_cast<char*>(
        mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
        perror("cuda emulator: no memory for the stack of a thread");
        abort();
    }
    // Stacks that all begin at the same place of a page would fight for the same lines of the cache.
    char* top = memory + STACK_BYTES + page - 64 - (machine.num_fibers++ % 31) * 128;
    void** stack = reinterpret_cast<void**>(top);
    *--stack = nullptr;  // where a caller's address would be: keeps the alignment that a called function expects
    *--stack = reinterpret_cast<void*>(&worker);
    for (int i = 0; i < 6; ++i) *--stack = nullptr;
    return new Fiber{stack};
}

inline void set_current(unsigned thread) {
    machine.current = thread;
    threadIdx = machine.threads[thread].index;
}

inline void make_ready(unsigned thread) {
    machine.threads[thread].wait = Wait::Running;
    machine.ready[(machine.ready_first + machine.num_ready++) % MAX_THREADS] = thread;
}

/// Leaves the running fiber, whose thread waits or has returned, for whoever can go on. Comes back when it can itself.
__attribute__((noinline)) inline void leave() {
    Fiber* self = machine.running;
    Fiber* target;
    if (machine.num_ready > 0) {
        unsigned thread = machine.ready[machine.ready_first];
        machine.ready_first = (machine.ready_first + 1) % MAX_THREADS;
        --machine.num_ready;
        set_current(thread);
        target = machine.threads[thread].fiber;
    } else if (machine.started < machine.size) {
        if (machine.idle.empty()) machine.idle.push_back(new_fiber());
        target = machine.idle.back();
        machine.idle.pop_back();
    } else if (machine.returned == machine.size) {
        target = &machine.main;
    } else {
        fail_with_states("deadlock: no thread of the block can go on");
    }
    machine.running = target;
    if (target != self) switch_stack(&self->stack_pointer, target->stack_pointer);
}

inline void release_barrier() {
    int line = 0;
    machine.at_barrier = 0;
    for (unsigned i = 0; i < machine.size; ++i) {
        const Thread& thread = machine.threads[i];
        if (thread.wait != Wait::Block) continue;
        if (line != 0 && thread.line != line) {
            fail_with_states("threads of one block wait in different calls of __syncthreads");
        }
        line = thread.line;
    }
    for (unsigned i = 0; i < machine.size; ++i) {
        unsigned thread = machine.reverse ? machine.size - 1 - i : i;
        if (machine.threads[thread].wait == Wait::Block) make_ready(thread);
    }
}

/// What each lane of `taking_part` gets from the warp function that all of them wait in.
inline void compute_warp_function(Thread* lanes, unsigned taking_part) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if ((taking_part >> lane & 1) && lanes[lane].value != 0) ballot |= 1u << lane;
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!(taking_part >> lane & 1)) continue;
        Thread& thread = lanes[lane];
        switch (thread.function) {
            case WarpFunction::Sync: break;
            case WarpFunction::Ballot: thread.result = ballot; break;
            case WarpFunction::Any: thread.result = ballot != 0; break;
            case WarpFunction::All: thread.result = ballot == taking_part; break;
            case WarpFunction::Shuffle:
                if (!(taking_part >> thread.source & 1)) {
                    fprintf(stderr, "cuda emulator: lane %u reads lane %u, which has returned or is not in the mask\n",
                            lane, thread.source);
                    fail_with_states("a shuffle from a lane that takes no part in it");
                }
                thread.result = lanes[thread.source].value;
                break;
        }
    }
}

/// Finishes the warp function that the lanes of `mask` wait in, if all are there that have not returned.
inline void finish_warp_function(unsigned warp_index, unsigned mask) {
    Warp& warp = machine.warps[warp_index];
    unsigned taking_part = mask & warp.waiting;
    if (taking_part == 0 || (mask & ~(warp.waiting | warp.returned)) != 0) return;
    Thread* lanes = machine.threads + warp_index * WARP;
    const Thread& first = lanes[__builtin_ctz(taking_part)];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!(taking_part >> lane & 1)) continue;
        const Thread& thread = lanes[lane];
        // It waits for other lanes first, and may come here later.
        if (thread.mask != mask) return;
        if (thread.line != first.line || thread.function != first.function) {
            fail_with_states("lanes of one warp wait in different warp functions");
        }
    }
    compute_warp_function(lanes, taking_part);
    warp.waiting &= ~taking_part;
    for (unsigned i = 0; i < WARP; ++i) {
        unsigned lane = machine.reverse ? WARP - 1 - i : i;
        if (taking_part >> lane & 1) make_ready(warp_index * WARP + lane);
    }
}

/// Whoever waits for this thread waits no longer.
inline void thread_returned(unsigned index) {
    machine.threads[index].wait = Wait::Returned;
    ++machine.returned;
    if (machine.at_barrier > 0 && machine.at_barrier + machine.returned == machine.size) release_barrier();
    Warp& warp = machine.warps[index / WARP];
    warp.returned |= 1u << index % WARP;
    for (unsigned lane = 0; warp.waiting != 0 && lane < WARP; ++lane) {
        unsigned mask = machine.threads[index / WARP * WARP + lane].mask;
        if (warp.waiting >> lane & 1) finish_warp_function(index / WARP, mask);
    }
}

/// What a fiber does: starts threads that have not been started; what never waits runs to its end without a switch.
inline void worker() {
    Fiber* self = machine.running;
    for (;;) {
        while (machine.started < machine.size && machine.num_ready == 0) {
            unsigned order = machine.started++;
            unsigned index = machine.reverse ? machine.size - 1 - order : order;
            machine.threads[index].wait = Wait::Running;
            machine.threads[index].fiber = self;
            set_current(index);
            machine.invoke(machine.arguments);
            thread_returned(index);
        }
        machine.idle.push_back(self);
        leave();
    }
}

inline void block_barrier(int line) {
    machine.uses_shared = true;
    Thread& thread = machine.threads[machine.current];
    thread.wait = Wait::Block;
    thread.line = line;
    ++machine.at_barrier;
    if (machine.at_barrier + machine.returned == machine.size) release_barrier();
    leave();
}

/// Waits for the lanes of `mask`; returns what the function gives to this lane.
inline uint64_t warp_function(WarpFunction function, unsigned mask, uint64_t value, unsigned source, int line) {
    unsigned lane = machine.current % WARP, warp = machine.current / WARP;
    Thread& thread = machine.threads[machine.current];
    thread.wait = Wait::Warp;
    thread.function = function;
    thread.line = line;
    thread.mask = mask;
    thread.source = source;
    thread.value = value;
    if (!(mask >> lane & 1)) fail_with_states("a lane calls a warp function with a mask that it is not in");
    machine.warps[warp].waiting |= 1u << lane;
    finish_warp_function(warp, mask);
    leave();
    return thread.result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Shared memory

/// The thread-local variables of this module in this thread: all the static and dynamic shared memory there is.
struct SharedMemory {
    char* start;
    size_t bytes;
};

inline SharedMemory shared_memory() {
    static thread_local char anchor;
    struct Search {
        const char* anchor;
        SharedMemory found;
    } search{&anchor, {nullptr, 0}};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            Search& search = *static_cast<Search*>(data);
            char* start = static_cast<char*>(info->dlpi_tls_data);
            for (int i = 0; i < info->dlpi_phnum && start != nullptr; ++i) {
                const auto& header = info->dlpi_phdr[i];
                if (header.p_type != PT_TLS) continue;
                if (search.anchor < start || search.anchor >= start + header.p_memsz) continue;
                search.found = {start, header.p_memsz};
                return 1;
            }
            return 0;
        },
        &search);
    return search.found;
}

/// Fills the shared memory with NaN, and of the dynamic arrays what the launch may use with the canary behind it.
inline void poison_shared(const SharedMemory& memory, size_t dynamic_bytes) {
    std::vector<char*> arrays;
    for (auto address : dynamic_shared()) arrays.push_back(address());
    std::sort(arrays.begin(), arrays.end());
    char* from = memory.start;
    for (char* array : arrays) {
        memset(from, POISON, size_t(array - from));
        memset(array, POISON, dynamic_bytes + CANARY_BYTES);
        from = array + MAX_SHARED_BYTES + CANARY_BYTES;
    }
    memset(from, POISON, size_t(memory.start + memory.bytes - from));
}

inline void check_canaries(size_t dynamic_bytes) {
    for (auto address : dynamic_shared()) {
        const char* canary = address() + dynamic_bytes;
        for (size_t i = 0; i < CANARY_BYTES; ++i) {
            if (static_cast<unsigned char>(canary[i]) == POISON) continue;
            fprintf(stderr, "cuda emulator: byte %zu of the dynamic shared memory was written, the launch has %zu\n",
                    dynamic_bytes + i, dynamic_bytes);
            fail_at_block();
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Launch

/// Why the hardware would refuse a launch of this shape, or null.
inline const char* refusal(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "the grid is empty";
    if (block.x == 0 || block.y == 0 || block.z == 0) return "the blocks are empty";
    if (block.z > 64 || block.count() > MAX_THREADS) return "the blocks have too many threads";
    if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) return "the grid is too large";
    if (shared_bytes > kernel.max_dynamic_shared) return "it takes more shared memory than the function is set up for";
    return nullptr;
}

inline void run_block(const SharedMemory& memory, size_t shared_bytes) {
    if (machine.uses_shared) poison_shared(memory, shared_bytes);
    machine.uses_shared = false;
    machine.num_ready = machine.ready_first = machine.started = machine.returned = machine.at_barrier = 0;
    for (unsigned thread = 0; thread < machine.size; ++thread) machine.threads[thread].wait = Wait::NotStarted;
    for (unsigned warp = 0; warp * WARP < machine.size; ++warp) {
        unsigned lanes = std::min(WARP, machine.size - warp * WARP);
        machine.warps[warp] = {0, lanes == WARP ? 0 : ~0u << lanes};
    }
    machine.running = &machine.main;
    leave();
    if (machine.uses_shared) check_canaries(shared_bytes);
}

inline void run_blocks(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*invoke)(void*),
                       void* arguments) {
    std::lock_guard<std::mutex> guard(machine.launching);
    const char* order = getenv("EMULATOR_ORDER");
    machine.reverse = order != nullptr && strcmp(order, "reverse") == 0;
    machine.kernel = &kernel;
    machine.invoke = invoke;
    machine.arguments = arguments;
    machine.size = unsigned(block.count());
    gridDim = grid;
    blockDim = block;
    for (unsigned i = 0; i < machine.size; ++i) {
        machine.threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    }
    const SharedMemory memory = shared_memory();
    machine.uses_shared = true;
    for (size_t i = 0; i < grid.count(); ++i) {
        size_t b = machine.reverse ? grid.count() - 1 - i : i;
        blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block(memory, shared_bytes);
    }
    check_canaries(shared_bytes);
}

template <typename T>
void check_argument(const Kernel& kernel, size_t index, T value) {
    if constexpr (std::is_pointer_v<T>) {
        if (check_pointer != nullptr) check_pointer(kernel, index, value, alignof(std::remove_pointer_t<T>));
    }
}

template <typename... A, size_t... I>
void launch_with(const Kernel& kernel, void (*function)(A...), dim3 grid, dim3 block, size_t shared_bytes,
                 std::tuple<A...>& values, std::index_sequence<I...>) {
    (check_argument(kernel, I, std::get<I>(values)), ...);
    struct Call {
        void (*function)(A...);
        std::tuple<A...>* values;
    } call{function, &values};
    auto invoke = [](void* data) {
        const Call& call = *static_cast<Call*>(data);
        call.function(std::get<I>(*call.values)...);
    };
    run_blocks(kernel, grid, block, shared_bytes, invoke, &call);
}

template <typename... A, size_t... I>
void launch_from_pointers(const Kernel& kernel, void (*function)(A...), dim3 grid, dim3 block, size_t shared_bytes,
                          [[maybe_unused]] void** parameters, std::index_sequence<I...> indices) {
    std::tuple<A...> values(*static_cast<A*>(parameters[I])...);
    launch_with(kernel, function, grid, block, shared_bytes, values, indices);
}

template <typename... A>
void launch_registered(const Kernel& kernel, void (*function)(A...), dim3 grid, dim3 block, size_t shared_bytes,
                       void** parameters) {
    launch_from_pointers(kernel, function, grid, block, shared_bytes, parameters, std::index_sequence_for<A...>{});
}

template <typename... A>
std::vector<size_t> parameter_bytes(void (*)(A...)) {
    return {sizeof(A)...};
}

/// Makes a kernel known under a name: `emulator::add<&kernel<float>>("kernel_f32")`.
template <auto function>
bool add(const char* name, const char* space = "") {
    auto launch = [](const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes, void** parameters) {
        launch_registered(kernel, function, grid, block, shared_bytes, parameters);
    };
    Kernel kernel{name, reinterpret_cast<const void*>(function), parameter_bytes(function), launch};
    auto [from, to] = kernels().equal_range(name);
    for (auto it = from; it != to; ++it) {
        if (it->second.first != space) continue;
        fprintf(stderr, "cuda emulator: two kernels are called %s\n", name);
        abort();
    }
    kernels().emplace(name, std::pair<std::string, Kernel>(space, kernel));
    return true;
}

/// Runs a kernel from C++, registered or not, with any amount of shared memory that a block can have.
template <typename... A, typename... B>
void launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared_bytes, B... arguments) {
    static_assert(sizeof...(A) == sizeof...(B), "the kernel has another number of parameters");
    Kernel described{"without a name", reinterpret_cast<const void*>(kernel), {}, nullptr, MAX_SHARED_BYTES};
    for (const auto& [name, registered] : kernels()) {
        if (registered.second.function == described.function) described.name = name;
    }
    if (const char* why = refusal(described, grid, block, shared_bytes)) {
        fprintf(stderr, "cuda emulator: launch of kernel %s refused: %s\n", described.name.c_str(), why);
        abort();
    }
    std::tuple<A...> values(static_cast<A>(arguments)...);
    launch_with(described, kernel, grid, block, shared_bytes, values, std::index_sequence_for<A...>{});
}

template <typename T>
uint64_t bits_of(T value) {
    static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "a warp function passes numbers only");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <typename T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof(T));
    return value;
}

inline unsigned lane_index() { return machine.current % WARP; }

template <typename T>
T shuffle(unsigned mask, T value, unsigned source, int line) {
    return from_bits<T>(warp_function(WarpFunction::Shuffle, mask, bits_of(value), source, line));
}

}  // namespace emulator

// ---------------------------------------------------------------------------------------------------------------------
// The functions of the language. The line where each is called is kept: a default argument is evaluated at the call.

inline void __syncthreads(int line = __builtin_LINE()) { emulator::block_barrier(line); }

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, int line = __builtin_LINE()) {
    emulator::machine.uses_shared = true;
    emulator::warp_function(emulator::WarpFunction::Sync, mask, 0, 0, line);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, int line = __builtin_LINE()) {
    unsigned lane = emulator::lane_index();
    return emulator::shuffle(mask, value, (lane & ~unsigned(width - 1)) | (unsigned(from) & unsigned(width - 1)), line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, int line = __builtin_LINE()) {
    unsigned lane = emulator::lane_index(), source = lane ^ unsigned(lane_mask);
    return emulator::shuffle(mask, value, source > (lane | unsigned(width - 1)) ? lane : source, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    unsigned lane = emulator::lane_index(), source = lane + delta;
    return emulator::shuffle(mask, value, source > (lane | unsigned(width - 1)) ? lane : source, line);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    unsigned lane = emulator::lane_index(), first = lane & ~unsigned(width - 1);
    return emulator::shuffle(mask, value, lane < first + delta ? lane : lane - delta, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return unsigned(emulator::warp_function(emulator::WarpFunction::Ballot, mask, predicate != 0, 0, line));
}

inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return int(emulator::warp_function(emulator::WarpFunction::Any, mask, predicate != 0, 0, line));
}

inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return int(emulator::warp_function(emulator::WarpFunction::All, mask, predicate != 0, 0, line));
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(unsigned(value)); }

inline float __int_as_float(int bits) { return emulator::from_bits<float>(uint32_t(bits)); }
inline float __uint_as_float(unsigned bits) { return emulator::from_bits<float>(bits); }
inline int __float_as_int(float value) { return emulator::from_bits<int>(emulator::bits_of(value)); }
inline unsigned __float_as_uint(float value) { return unsigned(emulator::bits_of(value)); }
inline double __longlong_as_double(long long bits) { return emulator::from_bits<double>(uint64_t(bits)); }
inline long long __double_as_longlong(double value) { return (long long)(emulator::bits_of(value)); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

template <typename T>
T __ldg(const T* pointer) {
    return *pointer;
}

/// One block runs at a time, and its threads change places only where they wait: nothing can come between.
template <typename T, typename U>
T atomicAdd(T* address, U value) {
    T before = *address;
    *address = before + T(value);
    return before;
}

// The mixed forms that CUDA has in the global namespace.
template <typename A, typename B, typename = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(b) < C(a) ? C(b) : C(a);
}

template <typename A, typename B, typename = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(a) < C(b) ? C(b) : C(a);
}
#pragma GCC visibility pop
