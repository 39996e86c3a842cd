//! One file of this crate's kernels: compiled once for each, with KERNEL_SPACE, the name of the file, which its kernels
//! get as a namespace, KERNEL_FILE, the same with its extension, and KERNEL_LIST, a file with an EMULATOR_REGISTER for
//! each kernel. Separately, since they are separate for NVRTC too: nothing of one can be seen in another.

#include "emulator.h"
#include "nvrtc.h"

namespace KERNEL_SPACE {
#include "common.cuh"
#include KERNEL_FILE
}  // namespace KERNEL_SPACE

#include KERNEL_LIST

// The text, for nvrtc.cpp to compare.
asm(".pushsection .rodata\n"
    "common_text: .incbin \"common.cuh\"\n"
    ".byte 0\n"
    "kernel_text: .incbin \"" KERNEL_FILE "\"\n"
    ".byte 0\n"
    ".popsection");

extern "C" __attribute__((visibility("hidden"))) const char common_text[], kernel_text[];

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

static const bool added_common = emulator::add_source("common", common_text);
static const bool added_kernels = emulator::add_source(TEXT(KERNEL_SPACE), kernel_text);
