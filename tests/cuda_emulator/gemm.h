//! The matrix product behind cublas.cpp.

#pragma once

#include <cstdint>

namespace emulator {

/// The numbers of cudaDataType.
enum class Type { F32 = 0, F64 = 1, BF16 = 14 };

/// What factors are rounded to before they are multiplied.
enum class Rounding { None, Tf32 };

/// Columns first: element (row, column) is at `address[row + column * stride]`, or at `address[column + row * stride]`
/// where it is the transpose that is there.
struct Factor {
    const void* address;
    int64_t stride;
    bool transposed;
};

/// `result = left @ right * scale + result * kept`: (m, k) and (k, n) to (m, n). Both factors have the type `factors`.
struct Product {
    int64_t m, n, k;
    double scale, kept;
    Type factors, result;
    Rounding rounding;

    void compute(Factor left, Factor right, void* result_address, int64_t result_stride) const;
};

}  // namespace emulator
