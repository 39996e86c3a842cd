//! NVRTC: compiles nothing. The kernels are compiled in; what is left is to see that they are those of the source.
//!
//! A source must contain the text of one of the files that were compiled in. Another one fails with a log that says so:
//! the emulator is older than the program, or the source is not known to it. With REAL_NVRTC defined the functions of
//! the library are left out, for NVIDIA's own to be used; it runs without a GPU.

#include "nvrtc.h"

#include "memory.h"

#include <cstdio>
#include <cstring>
#include <map>

namespace {

const char FIRST_LINE[] = "// cuda emulator: kernels of ";

std::map<std::string, std::string>& sources() {
    static std::map<std::string, std::string> all;
    return all;
}

}  // namespace

bool emulator::add_source(const char* space, const char* text) {
    sources()[space] = text;
    return true;
}

std::string emulator::space_of_text(const std::string& text) {
    size_t length = sizeof(FIRST_LINE) - 1;
    if (text.compare(0, length, FIRST_LINE) != 0) return "";
    return text.substr(length, text.find('\n') - length);
}

#ifndef REAL_NVRTC

using nvrtcResult = int;
using nvrtcProgram = struct Program*;

enum : nvrtcResult {
    NVRTC_SUCCESS = 0,
    NVRTC_ERROR_INVALID_INPUT = 3,
    NVRTC_ERROR_INVALID_PROGRAM = 4,
    NVRTC_ERROR_COMPILATION = 6,
};

struct Program {
    std::string name, source, log, ptx;
};

namespace {

const char UNKNOWN[] =
    "the CUDA emulator does not have the kernels of this source compiled in.\n"
    "hint: build it again with tests/cuda_emulator/build.sh, then build the program again\n";

nvrtcResult give_text(const std::string& text, char* out) {
    memcpy(out, text.c_str(), text.size() + 1);
    return NVRTC_SUCCESS;
}

}  // namespace

API nvrtcResult nvrtcVersion(int* major, int* minor) {
    *major = 13;
    *minor = 0;
    return NVRTC_SUCCESS;
}

API const char* nvrtcGetErrorString(nvrtcResult result) {
    switch (result) {
        case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
        case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
        case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
        case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
        default: return "NVRTC_ERROR unknown";
    }
}

API nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name, int num_headers,
                                   const char* const*, const char* const*) {
    if (source == nullptr) return NVRTC_ERROR_INVALID_INPUT;
    if (num_headers != 0) emulator::not_emulated("nvrtcCreateProgram with headers");
    *program = new Program{name == nullptr ? "default_program" : name, source, "", ""};
    return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
    if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    delete *program;
    // The bindings pass the address of a constant: it is left as it is.
    return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int, const char* const*) {
    const std::string& common = sources()["common"];
    for (const auto& [space, text] : sources()) {
        if (space == "common" || program->source.find(text) == std::string::npos) continue;
        if (program->source.find(common) == std::string::npos) continue;
        program->ptx = FIRST_LINE + space + "\n.version 9.0\n.target sm_80\n";
        if (emulator::traces()) fprintf(stderr, "cuda emulator: compiled %s\n", program->name.c_str());
        return NVRTC_SUCCESS;
    }
    program->log = program->name + ": " + UNKNOWN;
    return NVRTC_ERROR_COMPILATION;
}

API nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t* size) {
    if (program->ptx.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
    *size = program->ptx.size() + 1;
    return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* ptx) { return give_text(program->ptx, ptx); }

API nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* size) { return nvrtcGetPTXSize(program, size); }

API nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin) { return give_text(program->ptx, cubin); }

API nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* size) {
    *size = program->log.size() + 1;
    return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) { return give_text(program->log, log); }

#endif  // REAL_NVRTC
