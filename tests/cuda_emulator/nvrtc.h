//! The sources that kernels were compiled in from, and the text that stands for PTX of them.

#pragma once

#include <string>

namespace emulator {

/// Called once for each file of kernels: the namespace of its kernels, and its text.
bool add_source(const char* space, const char* text);

/// The namespace of the kernels that a text of nvrtcGetPTX stands for; empty where it is no such text.
std::string space_of_text(const std::string& text);

}  // namespace emulator
