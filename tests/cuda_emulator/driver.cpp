//! The driver: devices, contexts, streams, events, memory. Everything has happened when a call returns.
//!
//! Settings from the environment: EMULATOR_DEVICES (1), how many there are; EMULATOR_CAPABILITY (90), the
//! compute capability times ten; EMULATOR_MEMORY (8589934592), the bytes of each device; EMULATOR_LATE (0), whether
//! copies to pinned memory arrive only when somebody waits for them.

#include "driver.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

struct Context {
    int device;
    bool primary;
};

struct Stream {
    int priority;
};

struct Event {
    unsigned flags;
    bool recorded;
    std::chrono::steady_clock::time_point time;
    CUstream stream;
    // Of copies, those that were asked for before it was recorded.
    uint64_t copies;
};

struct Pool {
    uint64_t release_threshold;
};

namespace {

using emulator::check_device;

constexpr int MAX_DEVICES = 16;
constexpr unsigned EVENT_DISABLE_TIMING = 2;

std::atomic<bool> initialized{false};
std::mutex mutex;
Context primary_contexts[MAX_DEVICES];
int primary_users[MAX_DEVICES];
Pool pools[MAX_DEVICES];
std::set<Stream*> streams;
std::set<Event*> events;

/// The devices that the program sees, by their numbers in the machine.
const std::vector<int>& visible_devices() {
    static const std::vector<int> visible = [] {
        int count = std::min(int(emulator::setting("EMULATOR_DEVICES", 1)), MAX_DEVICES);
        std::vector<int> numbers;
        const char* text = getenv("CUDA_VISIBLE_DEVICES");
        for (int number = 0; text == nullptr && number < count; ++number) numbers.push_back(number);
        while (text != nullptr) {
            char* end = nullptr;
            long number = strtol(text, &end, 10);
            // As the driver, which forgets what follows a number that does not exist.
            if (end == text || number < 0 || number >= count) break;
            numbers.push_back(int(number));
            text = *end == ',' ? end + 1 : nullptr;
        }
        return numbers;
    }();
    return visible;
}

int num_devices() { return int(visible_devices().size()); }

/// A thread-local variable would be taken for shared memory.
pthread_key_t current_key() {
    static const pthread_key_t key = [] {
        pthread_key_t key;
        pthread_key_create(&key, nullptr);
        return key;
    }();
    return key;
}

Context* current_context() { return static_cast<Context*>(pthread_getspecific(current_key())); }

bool is_device(CUdevice device) { return device >= 0 && device < num_devices(); }

void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

void check_event(const char* function, CUevent event) {
    std::lock_guard<std::mutex> guard(mutex);
    if (events.count(event) == 0) emulator::fail(function, "this event does not exist, or no longer");
}

CUresult allocate(CUdeviceptr* address, size_t bytes) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    void* memory = emulator::allocate_device(emulator::current_device(), bytes);
    if (memory == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = reinterpret_cast<CUdeviceptr>(memory);
    return CUDA_SUCCESS;
}

CUresult copy(const char* function, void* to, bool to_device, const void* from, bool from_device, size_t bytes) {
    REQUIRE_CONTEXT();
    if (to_device) check_device(function, "the destination", to, bytes);
    if (from_device) check_device(function, "the source", from, bytes);
    if (bytes > 0) memmove(to, from, bytes);
    return CUDA_SUCCESS;
}

template <typename T>
CUresult set(const char* function, CUdeviceptr address, T value, size_t count) {
    REQUIRE_CONTEXT();
    check_device(function, "the destination", pointer(address), count * sizeof(T));
    if (address % sizeof(T) != 0) return CUDA_ERROR_INVALID_VALUE;
    T* elements = static_cast<T*>(pointer(address));
    for (size_t i = 0; i < count; ++i) elements[i] = value;
    return CUDA_SUCCESS;
}

struct ErrorText {
    CUresult result;
    const char* name;
    const char* text;
};

constexpr ErrorText ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
};

const ErrorText* error_text(CUresult result) {
    for (const auto& error : ERRORS) {
        if (error.result == result) return &error;
    }
    return nullptr;
}

/// The attributes that are asked for, by their numbers in cuda.h; what an H100 or H200 has.
int attribute(int number) {
    static const int capability = int(emulator::setting("EMULATOR_CAPABILITY", 90));
    switch (number) {
        case 1: return 1024;              // threads of a block
        case 2: case 3: return 1024;      // x, y
        case 4: return 64;                // z
        case 5: return 0x7FFFFFFF;        // blocks of a grid: x
        case 6: case 7: return 65535;     // y, z
        case 8: return 48 * 1024;         // shared memory of a block
        case 10: return 32;               // threads of a warp
        case 12: case 82: return 65536;   // registers
        case 13: return 1980000;          // clock, kHz
        case 16: return 132;              // multiprocessors
        case 31: return 1;                // concurrent kernels
        case 38: return 50 << 20;         // L2 cache
        case 39: return 2048;             // threads of a multiprocessor
        case 40: return 3;                // copy engines
        case 41: return 1;                // unified addresses
        case 75: return capability / 10;  // compute capability
        case 76: return capability % 10;
        case 81: return 228 * 1024;       // shared memory of a multiprocessor
        case 97: return 227 * 1024;       // shared memory of a block that asks for it
        case 115: return 1;               // memory pools
        default: return 0;
    }
}

}  // namespace

int emulator::current_device() {
    Context* context = current_context();
    return context == nullptr ? -1 : context->device;
}

int emulator::number_in_machine(int device) { return visible_devices()[size_t(device)]; }

void emulator::check_stream(const char* function, CUstream stream) {
    // The default streams of the context and of the thread, which nobody creates.
    if (reinterpret_cast<uintptr_t>(stream) > 2) {
        std::lock_guard<std::mutex> guard(mutex);
        if (streams.count(stream) == 0) fail(function, "this stream does not exist, or no longer");
    }
    settle(stream);
}

API CUresult cuInit(unsigned) {
    if (num_devices() == 0) return CUDA_ERROR_NO_DEVICE;
    initialized = true;
    return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int* version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

API CUresult cuGetErrorName(CUresult result, const char** name) {
    const ErrorText* error = error_text(result);
    *name = error == nullptr ? nullptr : error->name;
    return error == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

API CUresult cuGetErrorString(CUresult result, const char** text) {
    const ErrorText* error = error_text(result);
    *text = error == nullptr ? nullptr : error->text;
    return error == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/// NVIDIA's NVRTC asks for tables that are not documented, and does without.
API CUresult cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return CUDA_ERROR_NOT_FOUND;
}

// ---------------------------------------------------------------------------------------------------------------------
// Devices

#define REQUIRE_DEVICE(device)                                \
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;      \
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE

API CUresult cuDeviceGetCount(int* count) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    *count = num_devices();
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    REQUIRE_DEVICE(ordinal);
    *device = ordinal;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    REQUIRE_DEVICE(device);
    snprintf(name, size_t(length), "CUDA emulator");
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetUuid_v2(unsigned char* uuid, CUdevice device) {
    REQUIRE_DEVICE(device);
    memset(uuid, 0, 16);
    uuid[15] = static_cast<unsigned char>(emulator::number_in_machine(device) + 1);
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetUuid(unsigned char* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    REQUIRE_DEVICE(device);
    *bytes = emulator::device_memory_total();
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetAttribute(int* value, int number, CUdevice device) {
    REQUIRE_DEVICE(device);
    *value = attribute(number);
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    REQUIRE_DEVICE(device);
    *pool = &pools[device];
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }

// ---------------------------------------------------------------------------------------------------------------------
// Contexts

API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    REQUIRE_DEVICE(device);
    std::lock_guard<std::mutex> guard(mutex);
    ++primary_users[device];
    primary_contexts[device] = {device, true};
    *context = &primary_contexts[device];
    return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    REQUIRE_DEVICE(device);
    std::lock_guard<std::mutex> guard(mutex);
    if (primary_users[device] == 0) return CUDA_ERROR_INVALID_CONTEXT;
    // The last user takes everything along that was allocated.
    if (--primary_users[device] == 0) emulator::free_all(device);
    return CUDA_SUCCESS;
}

API CUresult cuCtxCreate_v4(CUcontext* context, void* parameters, unsigned, CUdevice device) {
    REQUIRE_DEVICE(device);
    if (parameters != nullptr) emulator::not_emulated(__func__);
    *context = new Context{device, false};
    pthread_setspecific(current_key(), *context);
    return CUDA_SUCCESS;
}

API CUresult cuCtxDestroy_v2(CUcontext context) {
    if (context == nullptr || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    if (current_context() == context) pthread_setspecific(current_key(), nullptr);
    delete context;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(CUcontext context) {
    pthread_setspecific(current_key(), context);
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetCurrent(CUcontext* context) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    *context = current_context();
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice* device) {
    REQUIRE_CONTEXT();
    *device = emulator::current_device();
    return CUDA_SUCCESS;
}

// Copies to pinned memory that nobody has waited for, with EMULATOR_LATE.
struct Copy {
    CUstream stream;
    uint64_t number;
    void* to;
    std::vector<char> values;
};
static std::mutex late_mutex;
static std::vector<Copy> late_copies;
static std::atomic<uint64_t> num_copies;

template <typename Is> static void arrive(Is is_waited_for) {
    std::lock_guard<std::mutex> guard(late_mutex);
    std::vector<Copy> others;
    for (Copy& copy : late_copies) {
        if (is_waited_for(copy)) {
            memcpy(copy.to, copy.values.data(), copy.values.size());
        } else {
            others.push_back(std::move(copy));
        }
    }
    late_copies.swap(others);
}

API CUresult cuCtxSynchronize() {
    REQUIRE_CONTEXT();
    arrive([](const Copy&) { return true; });
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetFlags(unsigned) {
    REQUIRE_CONTEXT();
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetLimit(int, size_t) {
    REQUIRE_CONTEXT();
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetLimit(size_t* value, int) {
    REQUIRE_CONTEXT();
    *value = 0;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetCacheConfig(int) {
    REQUIRE_CONTEXT();
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetCacheConfig(int* config) {
    REQUIRE_CONTEXT();
    *config = 0;
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    REQUIRE_CONTEXT();
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
}

// ---------------------------------------------------------------------------------------------------------------------
// Streams and events

API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int priority) {
    REQUIRE_CONTEXT();
    *stream = new Stream{priority};
    std::lock_guard<std::mutex> guard(mutex);
    streams.insert(*stream);
    return CUDA_SUCCESS;
}

API CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

API CUresult cuStreamDestroy_v2(CUstream stream) {
    std::lock_guard<std::mutex> guard(mutex);
    if (streams.erase(stream) == 0) emulator::fail(__func__, "this stream does not exist, or no longer");
    delete stream;
    return CUDA_SUCCESS;
}

API CUresult cuStreamSynchronize(CUstream stream) {
    REQUIRE_CONTEXT();
    emulator::check_stream(__func__, stream);
    arrive([=](const Copy& copy) { return copy.stream == stream; });
    return CUDA_SUCCESS;
}

API CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }

API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    REQUIRE_CONTEXT();
    emulator::check_stream(__func__, stream);
    check_event(__func__, event);
    return CUDA_SUCCESS;
}

API CUresult cuStreamIsCapturing(CUstream stream, int* status) {
    emulator::check_stream(__func__, stream);
    *status = 0;
    return CUDA_SUCCESS;
}

API CUresult cuLaunchHostFunc(CUstream stream, void (*function)(void*), void* data) {
    emulator::check_stream(__func__, stream);
    function(data);
    return CUDA_SUCCESS;
}

API CUresult cuEventCreate(CUevent* event, unsigned flags) {
    REQUIRE_CONTEXT();
    *event = new Event{flags, false, {}, nullptr, 0};
    std::lock_guard<std::mutex> guard(mutex);
    events.insert(*event);
    return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event) {
    std::lock_guard<std::mutex> guard(mutex);
    if (events.erase(event) == 0) emulator::fail(__func__, "this event does not exist, or no longer");
    delete event;
    return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
    REQUIRE_CONTEXT();
    emulator::check_stream(__func__, stream);
    check_event(__func__, event);
    std::lock_guard<std::mutex> guard(mutex);
    event->recorded = true;
    event->stream = stream;
    event->copies = num_copies;
    event->time = std::chrono::steady_clock::now();
    return CUDA_SUCCESS;
}

API CUresult cuEventSynchronize(CUevent event) {
    check_event(__func__, event);
    if (event->recorded) {
        arrive([=](const Copy& copy) { return copy.stream == event->stream && copy.number <= event->copies; });
    }
    return CUDA_SUCCESS;
}

API CUresult cuEventQuery(CUevent event) {
    check_event(__func__, event);
    return CUDA_SUCCESS;
}

API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    check_event(__func__, start);
    check_event(__func__, end);
    std::lock_guard<std::mutex> guard(mutex);
    if ((start->flags | end->flags) & EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return CUDA_SUCCESS;
}

API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    REQUIRE_CONTEXT();
    *total = emulator::device_memory_total();
    size_t used = emulator::device_memory_used(emulator::current_device());
    *free = used < *total ? *total - used : 0;
    return CUDA_SUCCESS;
}

API CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) { return allocate(address, bytes); }

API CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return allocate(address, bytes);
}

API CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, size_t bytes, CUmemoryPool, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return allocate(address, bytes);
}

API CUresult cuMemFree_v2(CUdeviceptr address) {
    REQUIRE_CONTEXT();
    emulator::free_device(__func__, pointer(address));
    return CUDA_SUCCESS;
}

/// The stream tells the context: none has to be current.
API CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    emulator::check_stream(__func__, stream);
    emulator::free_device(__func__, pointer(address));
    return CUDA_SUCCESS;
}

API CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = emulator::allocate_host(bytes);
    return *address == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

API CUresult cuMemAllocHost_v2(void** address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }

API CUresult cuMemFreeHost(void* address) {
    {
        std::lock_guard<std::mutex> guard(late_mutex);
        for (const Copy& copy : late_copies) {
            if (copy.to == address) emulator::fail(__func__, "a copy into this memory is on its way");
        }
    }
    emulator::free_host(__func__, address);
    return CUDA_SUCCESS;
}

constexpr int POOL_RELEASE_THRESHOLD = 4, POOL_RESERVED_CURRENT = 5, POOL_USED_HIGH = 8;

API CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void* value) {
    if (attribute == POOL_RELEASE_THRESHOLD) memcpy(&pool->release_threshold, value, sizeof(uint64_t));
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void* value) {
    if (attribute == POOL_RELEASE_THRESHOLD) {
        memcpy(value, &pool->release_threshold, sizeof(uint64_t));
    } else if (attribute >= POOL_RESERVED_CURRENT && attribute <= POOL_USED_HIGH) {
        uint64_t used = emulator::device_memory_used(int(pool - pools));
        memcpy(value, &used, sizeof(used));
    } else {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) { return CUDA_SUCCESS; }

API CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count) {
    return set(__func__, address, value, count);
}

API CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t count, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return set(__func__, address, value, count);
}

API CUresult cuMemsetD32_v2(CUdeviceptr address, unsigned value, size_t count) {
    return set(__func__, address, value, count);
}

API CUresult cuMemsetD32Async(CUdeviceptr address, unsigned value, size_t count, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return set(__func__, address, value, count);
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    return copy(__func__, pointer(to), true, from, false, bytes);
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return copy(__func__, pointer(to), true, from, false, bytes);
}

API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    return copy(__func__, to, false, pointer(from), true, bytes);
}

API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    emulator::check_stream(__func__, stream);
    static const bool are_late = emulator::setting("EMULATOR_LATE", 0) != 0;
    if (are_late && emulator::is_pinned(to)) {
        std::vector<char> values(bytes);
        if (CUresult result = copy(__func__, values.data(), false, pointer(from), true, bytes)) return result;
        std::lock_guard<std::mutex> guard(late_mutex);
        late_copies.push_back(Copy{stream, ++num_copies, to, std::move(values)});
        return CUDA_SUCCESS;
    }
    return copy(__func__, to, false, pointer(from), true, bytes);
}

API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy(__func__, pointer(to), true, pointer(from), true, bytes);
}

API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return copy(__func__, pointer(to), true, pointer(from), true, bytes);
}

API CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream) {
    emulator::check_stream(__func__, stream);
    return copy(__func__, pointer(to), true, pointer(from), true, bytes);
}

API CUresult cuProfilerStart() { return CUDA_SUCCESS; }
API CUresult cuProfilerStop() { return CUDA_SUCCESS; }

// ---------------------------------------------------------------------------------------------------------------------
// Named by the bindings, and not emulated

#define NOT_EMULATED(name) \
    API void name() { emulator::not_emulated(#name); }

NOT_EMULATED(cuDestroyExternalMemory)
NOT_EMULATED(cuDeviceSetMemPool)
NOT_EMULATED(cuExternalMemoryGetMappedBuffer)
NOT_EMULATED(cuGraphDestroy)
NOT_EMULATED(cuGraphExecDestroy)
NOT_EMULATED(cuGraphInstantiateWithFlags)
NOT_EMULATED(cuGraphLaunch)
NOT_EMULATED(cuGraphUpload)
NOT_EMULATED(cuImportExternalMemory)
NOT_EMULATED(cuLaunchCooperativeKernel)
NOT_EMULATED(cuMemAdvise_v2)
NOT_EMULATED(cuMemAllocManaged)
NOT_EMULATED(cuMemPoolCreate)
NOT_EMULATED(cuMemPoolDestroy)
NOT_EMULATED(cuMemPrefetchAsync_v2)
NOT_EMULATED(cuOccupancyAvailableDynamicSMemPerBlock)
NOT_EMULATED(cuOccupancyMaxActiveBlocksPerMultiprocessor)
NOT_EMULATED(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
NOT_EMULATED(cuOccupancyMaxActiveClusters)
NOT_EMULATED(cuOccupancyMaxPotentialBlockSize)
NOT_EMULATED(cuOccupancyMaxPotentialBlockSizeWithFlags)
NOT_EMULATED(cuOccupancyMaxPotentialClusterSize)
NOT_EMULATED(cuStreamAttachMemAsync)
NOT_EMULATED(cuStreamBeginCapture_v2)
NOT_EMULATED(cuStreamEndCapture)
