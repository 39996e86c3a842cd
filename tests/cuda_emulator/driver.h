//! What the parts of the driver share: its result codes, and which device a thread uses.

#pragma once

#include "memory.h"

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct Context*;
using CUstream = struct Stream*;
using CUevent = struct Event*;
using CUmodule = struct Module*;
using CUfunction = struct Function*;
using CUmemoryPool = struct Pool*;

enum : CUresult {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_FILE_NOT_FOUND = 301,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
};

namespace emulator {

/// The device of the context that is current in this thread, -1 if none is.
int current_device();

/// Ends the process unless the stream is one of the special ones or was created and not destroyed. Everything that uses a
/// stream comes by here: what NCCL was asked for on it happens first.
void check_stream(const char* function, CUstream stream);

/// The number of a device among all those of the machine, which CUDA_VISIBLE_DEVICES may hide.
int number_in_machine(int device);

/// Does what NCCL was asked for on a stream.
void settle(CUstream stream);

}  // namespace emulator

/// Returns from a function of the driver where no context is current in this thread.
#define REQUIRE_CONTEXT() \
    if (emulator::current_device() < 0) return CUDA_ERROR_INVALID_CONTEXT
