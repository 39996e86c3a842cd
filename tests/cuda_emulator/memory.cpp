//! Device memory: see memory.h.
//!
//! An allocation has 256 bytes of NaN on each side, which are looked at when it is freed. Freed memory is not given out
//! again for a while, so that who still uses it is found. With EMULATOR_GUARD=1 an allocation ends where a page
//! begins that nobody may touch instead: a kernel that reads or writes behind it dies at once, and a debugger shows
//! where.

#include "memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>

namespace emulator {
namespace {

constexpr unsigned char POISON = 0xFF;  // a NaN in every float format, -1 as an integer
constexpr size_t ALIGNMENT = 256;       // as the driver's
constexpr size_t ZONE = 256;
constexpr size_t PAGE = 4096;
constexpr size_t QUARANTINE_BYTES = size_t(64) << 20;

struct Allocation {
    size_t bytes;
    int device;
};

struct Freed {
    void* address;
    size_t bytes;
};

std::mutex mutex;
std::map<uintptr_t, Allocation> allocations;
std::map<int, size_t> used_bytes;  // by device
std::deque<Freed> quarantine;
size_t quarantined;
std::set<void*> host_allocations;

bool guards() {
    static const bool guards = setting("EMULATOR_GUARD", 0) != 0;
    return guards;
}

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

/// With guard pages the end counts, up to the 16 bytes that every array is aligned to.
size_t bytes_before_guard(size_t bytes) { return rounded(bytes, 16); }

void* get_memory(size_t bytes) {
    if (guards()) {
        size_t pages = rounded(bytes_before_guard(bytes), PAGE);
        char* start = static_cast<char*>(
            mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (start == MAP_FAILED || mprotect(start + pages, PAGE, PROT_NONE) != 0) return nullptr;
        char* address = start + pages - bytes_before_guard(bytes);
        memset(start, POISON, pages);
        return address;
    }
    void* start = nullptr;
    size_t all = ZONE + rounded(bytes, ALIGNMENT) + ZONE;
    if (posix_memalign(&start, ALIGNMENT, all) != 0) return nullptr;
    memset(start, POISON, all);
    return static_cast<char*>(start) + ZONE;
}

void return_memory(void* address, size_t bytes) {
    if (guards()) {
        size_t pages = rounded(bytes_before_guard(bytes), PAGE);
        munmap(static_cast<char*>(address) + bytes_before_guard(bytes) - pages, pages + PAGE);
        return;
    }
    free(static_cast<char*>(address) - ZONE);
}

/// The first byte that is not NaN, or `end`.
const unsigned char* first_written(const unsigned char* from, const unsigned char* end) {
    while (from < end && *from == POISON) ++from;
    return from;
}

void check_zones(const char* function, void* address, size_t bytes) {
    if (guards()) return;
    const unsigned char* start = static_cast<unsigned char*>(address);
    const unsigned char* end = start + bytes;
    const unsigned char* zone_end = start + rounded(bytes, ALIGNMENT) + ZONE;
    const unsigned char* after = first_written(end, zone_end);
    if (after != zone_end) {
        fail(function, "something wrote " + std::to_string(after - end) + " bytes behind the end of memory of " +
                           std::to_string(bytes) + " bytes");
    }
    const unsigned char* before = first_written(start - ZONE, start);
    if (before != start) {
        fail(function, "something wrote " + std::to_string(start - before) + " bytes before the start of memory of " +
                           std::to_string(bytes) + " bytes");
    }
}

/// Keeps freed memory from being used again until enough other memory was freed.
void retire(const char* function, void* address, size_t bytes) {
    check_zones(function, address, bytes);
    if (guards() || bytes > QUARANTINE_BYTES / 4) {
        return_memory(address, bytes);
        return;
    }
    memset(address, POISON, bytes);
    quarantine.push_back({address, bytes});
    quarantined += bytes;
    while (quarantined > QUARANTINE_BYTES) {
        Freed oldest = quarantine.front();
        quarantine.pop_front();
        quarantined -= oldest.bytes;
        const unsigned char* start = static_cast<unsigned char*>(oldest.address);
        if (first_written(start, start + oldest.bytes) != start + oldest.bytes) {
            std::string bytes = std::to_string(oldest.bytes);
            fail(function, "something wrote to memory of " + bytes + " bytes after it was freed");
        }
        return_memory(oldest.address, oldest.bytes);
    }
}

/// The allocation that an address lies in or directly behind; `mutex` is held.
const std::pair<const uintptr_t, Allocation>* allocation_of(uintptr_t address) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return nullptr;
    const auto& found = *std::prev(next);
    return address <= found.first + found.second.bytes ? &found : nullptr;
}

}  // namespace

void fail(const char* function, const std::string& what) {
    fprintf(stderr, "cuda emulator: %s: %s\n", function, what.c_str());
    abort();
}

void not_emulated(const char* function) { fail(function, "this function is not emulated"); }

size_t setting(const char* name, size_t otherwise) {
    const char* value = getenv(name);
    return value == nullptr || *value == 0 ? otherwise : strtoull(value, nullptr, 10);
}

bool traces() {
    static const bool traces = setting("EMULATOR_TRACE", 0) != 0;
    return traces;
}

size_t device_memory_total() { return setting("EMULATOR_MEMORY", size_t(8) << 30); }

size_t device_memory_used(int device) {
    std::lock_guard<std::mutex> guard(mutex);
    return used_bytes[device];
}

void* allocate_device(int device, size_t bytes) {
    size_t used = device_memory_used(device), total = device_memory_total();
    if (used > total || bytes > total - used) return nullptr;
    void* address = get_memory(bytes);
    if (address == nullptr) return nullptr;
    std::lock_guard<std::mutex> guard(mutex);
    allocations[reinterpret_cast<uintptr_t>(address)] = {bytes, device};
    used_bytes[device] += bytes;
    return address;
}

void free_device(const char* function, void* address) {
    std::lock_guard<std::mutex> guard(mutex);
    auto found = allocations.find(reinterpret_cast<uintptr_t>(address));
    if (found == allocations.end()) fail(function, "this address is not the beginning of memory that is allocated");
    size_t bytes = found->second.bytes;
    used_bytes[found->second.device] -= bytes;
    allocations.erase(found);
    retire(function, address, bytes);
}

void free_all(int device) {
    std::lock_guard<std::mutex> guard(mutex);
    for (auto it = allocations.begin(); it != allocations.end();) {
        if (it->second.device != device) {
            ++it;
            continue;
        }
        retire(__func__, reinterpret_cast<void*>(it->first), it->second.bytes);
        used_bytes[device] -= it->second.bytes;
        it = allocations.erase(it);
    }
}

void* allocate_host(size_t bytes) {
    void* address = nullptr;
    if (posix_memalign(&address, PAGE, rounded(bytes, PAGE)) != 0) return nullptr;
    memset(address, POISON, bytes);
    std::lock_guard<std::mutex> guard(mutex);
    host_allocations.insert(address);
    return address;
}

void free_host(const char* function, void* address) {
    std::lock_guard<std::mutex> guard(mutex);
    if (host_allocations.erase(address) == 0) fail(function, "this address is not that of pinned memory");
    free(address);
}

bool is_pinned(const void* address) {
    std::lock_guard<std::mutex> guard(mutex);
    return host_allocations.count(const_cast<void*>(address)) != 0;
}

void check_device(const char* function, const char* operand, const void* address, size_t bytes) {
    if (bytes == 0) return;
    std::lock_guard<std::mutex> guard(mutex);
    uintptr_t from = reinterpret_cast<uintptr_t>(address);
    const auto* found = allocation_of(from);
    if (found == nullptr || from == found->first + found->second.bytes) {
        fail(function, std::string(operand) + " is not in device memory that is allocated");
    }
    size_t left = found->first + found->second.bytes - from;
    if (bytes > left) {
        fail(function, std::string(operand) + " has " + std::to_string(bytes) +
                           " bytes, but the memory that it is in ends after " + std::to_string(left));
    }
}

bool is_device_address(const void* address) {
    std::lock_guard<std::mutex> guard(mutex);
    return allocation_of(reinterpret_cast<uintptr_t>(address)) != nullptr;
}

}  // namespace emulator
