//! The driver: modules, functions, launches.
//!
//! A module is loaded from text. That of nvrtc.cpp names the source file whose kernels it stands for. Real PTX, as
//! candle brings it along and the real NVRTC makes it, tells which kernels there are and what parameters they take, and
//! both are compared with the kernels that are compiled in here; its instructions are not looked at.

#include "driver.h"
#include "emulator.h"
#include "nvrtc.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>

struct Function {
    const emulator::Kernel* kernel;
};

struct Module {
    std::string text;
    /// Of the kernels that the text stands for.
    std::string space;
    bool is_ptx;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

namespace {

std::mutex mutex;
std::set<Module*> modules;
std::set<Function*> functions;

/// Bytes of a parameter, from its line of PTX: `.param .u64 name`, `.param .align 2 .b8 name[2]`.
size_t ptx_parameter_bytes(const std::string& line) {
    size_t bytes = 0;
    for (const char* bits : {"8", "16", "32", "64"}) {
        for (const char* kind : {".u", ".s", ".f", ".b"}) {
            if (line.find(std::string(kind) + bits + " ") != std::string::npos) bytes = strtoul(bits, nullptr, 10) / 8;
        }
    }
    size_t bracket = line.find('[');
    return bracket == std::string::npos ? bytes : bytes * strtoul(line.c_str() + bracket + 1, nullptr, 10);
}

/// The kernels that PTX has, and the sizes of their parameters.
std::map<std::string, std::vector<size_t>> ptx_kernels(const std::string& ptx) {
    std::map<std::string, std::vector<size_t>> all;
    const std::string keyword = ".entry ";
    for (size_t at = ptx.find(keyword); at != std::string::npos; at = ptx.find(keyword, at)) {
        at += keyword.size();
        std::vector<size_t>& sizes = all[ptx.substr(at, ptx.find_first_of("( \n", at) - at)];
        std::istringstream parameters(ptx.substr(at, ptx.find('{', at) - at));
        for (std::string line; std::getline(parameters, line);) {
            if (line.find(".param ") != std::string::npos) sizes.push_back(ptx_parameter_bytes(line));
        }
    }
    return all;
}

/// The space of the emulated kernels that most of those in PTX are found in. A name alone does not tell: candle has a
/// `sum_f32` too.
std::string space_of_ptx(const std::string& ptx) {
    std::map<std::string, int> found;
    for (const auto& [name, sizes] : ptx_kernels(ptx)) {
        auto [from, to] = emulator::kernels().equal_range(name);
        for (auto it = from; it != to; ++it) ++found[it->second.first];
    }
    auto fewer = [](const auto& a, const auto& b) { return a.second < b.second; };
    auto most = std::max_element(found.begin(), found.end(), fewer);
    return most == found.end() ? "nothing" : most->first;
}

std::string list(const std::vector<size_t>& sizes) {
    std::string text;
    for (size_t size : sizes) text += " " + std::to_string(size);
    return text;
}

const emulator::Kernel* find_kernel(const char* function, const Module& module, const char* name) {
    const emulator::Kernel* kernel = emulator::find(name, module.space);
    if (!module.is_ptx) return kernel;
    auto all = ptx_kernels(module.text);
    auto declared = all.find(name);
    if (declared == all.end()) return nullptr;
    if (kernel == nullptr) {
        fprintf(stderr, "cuda emulator: %s: the kernel %s is in the PTX, but not emulated\n", function, name);
    } else if (declared->second != kernel->parameter_bytes) {
        emulator::fail(function, std::string("the parameters of ") + name + " have" + list(declared->second) +
                                     " bytes in the PTX, but" + list(kernel->parameter_bytes) + " in the emulator");
    }
    return kernel;
}

void check_kernel_pointer(const emulator::Kernel& kernel, size_t index, const void* pointer, size_t alignment) {
    if (pointer == nullptr) return;
    std::string what = "argument " + std::to_string(index) + " (from 0) of kernel " + kernel.name;
    if (!emulator::is_device_address(pointer)) emulator::fail("cuLaunchKernel", what + " is not a device address");
    if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) {
        emulator::fail("cuLaunchKernel", what + " is not aligned to " + std::to_string(alignment) + " bytes");
    }
}

}  // namespace

API CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    REQUIRE_CONTEXT();
    std::string text(static_cast<const char*>(image));
    if (text.find(".version") == std::string::npos) return CUDA_ERROR_INVALID_IMAGE;
    std::string space = emulator::space_of_text(text);
    bool is_ptx = space.empty();
    emulator::check_pointer = check_kernel_pointer;
    *module = new Module{text, is_ptx ? space_of_ptx(text) : space, is_ptx, {}};
    std::lock_guard<std::mutex> guard(mutex);
    modules.insert(*module);
    return CUDA_SUCCESS;
}

API CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(module, image);
}

API CUresult cuModuleLoad(CUmodule* module, const char* path) {
    REQUIRE_CONTEXT();
    std::ifstream file(path);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::stringstream text;
    text << file.rdbuf();
    return cuModuleLoadData(module, text.str().c_str());
}

API CUresult cuModuleUnload(CUmodule module) {
    std::lock_guard<std::mutex> guard(mutex);
    if (modules.erase(module) == 0) emulator::fail(__func__, "this module does not exist, or no longer");
    for (const auto& [name, function] : module->functions) functions.erase(function.get());
    delete module;
    return CUDA_SUCCESS;
}

API CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    REQUIRE_CONTEXT();
    std::lock_guard<std::mutex> guard(mutex);
    if (modules.count(module) == 0) emulator::fail(__func__, "this module does not exist, or no longer");
    auto& known = module->functions[name];
    if (known == nullptr) {
        const emulator::Kernel* kernel = find_kernel(__func__, *module, name);
        if (kernel == nullptr) {
            module->functions.erase(name);
            return CUDA_ERROR_NOT_FOUND;
        }
        known = std::make_unique<Function>(Function{kernel});
        functions.insert(known.get());
    }
    *function = known.get();
    return CUDA_SUCCESS;
}

API CUresult cuModuleGetGlobal_v2(CUdeviceptr*, size_t*, CUmodule, const char*) { return CUDA_ERROR_NOT_FOUND; }

constexpr int ATTRIBUTE_MAX_THREADS = 0, ATTRIBUTE_NUM_REGISTERS = 4, ATTRIBUTE_MAX_DYNAMIC_SHARED = 8;

API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
    if (attribute != ATTRIBUTE_MAX_DYNAMIC_SHARED) return CUDA_SUCCESS;
    if (value < 0 || size_t(value) > emulator::MAX_SHARED_BYTES) return CUDA_ERROR_INVALID_VALUE;
    function->kernel->max_dynamic_shared = size_t(value);
    return CUDA_SUCCESS;
}

API CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction function) {
    switch (attribute) {
        case ATTRIBUTE_MAX_THREADS: *value = int(emulator::MAX_THREADS); break;
        case ATTRIBUTE_NUM_REGISTERS: *value = 32; break;
        case ATTRIBUTE_MAX_DYNAMIC_SHARED: *value = int(function->kernel->max_dynamic_shared); break;
        default: *value = 0; break;
    }
    return CUDA_SUCCESS;
}

API CUresult cuFuncSetCacheConfig(CUfunction, int) { return CUDA_SUCCESS; }

API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                            unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                            void** parameters, void** extra) {
    REQUIRE_CONTEXT();
    emulator::check_stream(__func__, stream);
    if (extra != nullptr) emulator::not_emulated("cuLaunchKernel with `extra`");
    {
        std::lock_guard<std::mutex> guard(mutex);
        if (functions.count(function) == 0) emulator::fail(__func__, "this function does not exist, or no longer");
    }
    const emulator::Kernel& kernel = *function->kernel;
    dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
    if (const char* why = emulator::refusal(kernel, grid, block, shared_bytes)) {
        fprintf(stderr, "cuda emulator: launch of %s refused: %s\n", kernel.name.c_str(), why);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (parameters == nullptr && !kernel.parameter_bytes.empty()) return CUDA_ERROR_INVALID_VALUE;
    if (emulator::traces()) {
        fprintf(stderr, "cuda emulator: %s <<<(%u, %u, %u), (%u, %u, %u), %u>>>\n", kernel.name.c_str(), grid_x, grid_y,
                grid_z, block_x, block_y, block_z, shared_bytes);
    }
    kernel.launch(kernel, grid, block, shared_bytes, parameters);
    return CUDA_SUCCESS;
}

struct LaunchConfig {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    CUstream stream;
    void* attributes;
    unsigned num_attributes;
};

API CUresult cuLaunchKernelEx(const LaunchConfig* config, CUfunction function, void** parameters, void** extra) {
    if (config->num_attributes != 0) emulator::not_emulated("cuLaunchKernelEx with attributes");
    return cuLaunchKernel(function, config->grid_x, config->grid_y, config->grid_z, config->block_x, config->block_y,
                          config->block_z, config->shared_bytes, config->stream, parameters, extra);
}
