//! "Device memory": memory of the process that is kept account of, so that an address outside of it is noticed.

#pragma once

#include <cstddef>
#include <string>

/// What the libraries export; everything else is hidden.
#define API extern "C" __attribute__((visibility("default")))

namespace emulator {

/// Ends the process with a message that begins with the function that was called wrongly.
[[noreturn]] void fail(const char* function, const std::string& what);

/// Ends the process: a function that nothing here stands for.
[[noreturn]] void not_emulated(const char* function);

/// A number from the environment, or a default.
size_t setting(const char* name, size_t otherwise);

/// Whether EMULATOR_TRACE asks for a line on stderr for each launch, product and compilation.
bool traces();

/// New memory, full of NaN. Null if there is none left on the device.
void* allocate_device(int device, size_t bytes);

/// New memory of the host.
void* allocate_host(size_t bytes);

/// Ends the process unless `address` is the beginning of what is allocated, or if something was written around it.
void free_device(const char* function, void* address);
void free_host(const char* function, void* address);

/// Whether pinned memory begins at an address.
bool is_pinned(const void* address);

/// All memory of a device, when nobody needs it any longer.
void free_all(int device);

/// Ends the process unless these bytes are device memory that is allocated; `operand` says what they are.
void check_device(const char* function, const char* operand, const void* address, size_t bytes);

/// Whether an address lies in device memory that is allocated, or directly behind it as that of an empty array does.
bool is_device_address(const void* address);

size_t device_memory_used(int device);
size_t device_memory_total();

}  // namespace emulator
