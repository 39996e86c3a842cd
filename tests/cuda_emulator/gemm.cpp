//! The matrix product behind cublas.cpp: in f32 (f64 for f64), summed in blocks of 256, each in order.
//!
//! Factors are copied into panels that the innermost loop reads in order, which makes models of real size bearable.

#include "gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace emulator {
namespace {

constexpr int64_t DEPTH = 256;    // of a block: elements of a sum
constexpr int64_t COLUMNS = 192;  // of a block of the result
constexpr int64_t WIDTH = 4;      // columns of a panel of the right factor

/// A panel of the left factor has as many rows as fit two vectors.
template <typename T>
struct Panel {
    static constexpr int64_t LANES = 32 / sizeof(T), ROWS = 2 * LANES;
    typedef T Vector __attribute__((vector_size(32)));
};

float load(const float* address) { return *address; }
double load(const double* address) { return *address; }

float load(const uint16_t* address) {
    uint32_t bits = uint32_t(*address) << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void store(float* address, float value) { *address = value; }
void store(double* address, double value) { *address = value; }

/// The nearest bf16, ties to even; NaN stays NaN.
void store(uint16_t* address, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    bits = nan ? bits | 0x00400000 : bits + 0x7FFF + (bits >> 16 & 1);
    *address = uint16_t(bits >> 16);
}

double round_to(double value, Rounding) { return value; }

/// To the 10 bits of mantissa that tensor cores multiply.
float round_to(float value, Rounding rounding) {
    if (rounding == Rounding::None) return value;
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7F800000) != 0x7F800000) bits = (bits + 0x1000) & 0xFFFFE000;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/// Copies `count` by `depth` elements, `step_count` and `step_depth` apart, into panels of `height`, filled up with 0.
template <typename T, typename S>
void pack(T* out, const S* from, int64_t step_count, int64_t step_depth, int64_t count, int64_t depth, int64_t height,
          Rounding rounding) {
    for (int64_t first = 0; first < count; first += height, out += height * depth) {
        int64_t here = std::min(height, count - first);
        const S* start = from + first * step_count;
        if (here < height) std::fill(out, out + height * depth, T(0));
        if (step_depth == 1) {
            for (int64_t i = 0; i < here; ++i) {
                for (int64_t d = 0; d < depth; ++d) {
                    out[d * height + i] = round_to(T(load(start + i * step_count + d)), rounding);
                }
            }
        } else {
            for (int64_t d = 0; d < depth; ++d) {
                for (int64_t i = 0; i < here; ++i) {
                    out[d * height + i] = round_to(T(load(start + i * step_count + d * step_depth)), rounding);
                }
            }
        }
    }
}

/// Adds the product of two panels to `rows` by `columns` elements of the sums.
template <typename T>
void multiply_panels(const T* left, const T* right, int64_t depth, T* sums, int64_t stride, int64_t rows,
                     int64_t columns) {
    using Vector = typename Panel<T>::Vector;
    constexpr int64_t LANES = Panel<T>::LANES;
    Vector low[WIDTH] = {}, high[WIDTH] = {};
    for (int64_t d = 0; d < depth; ++d) {
        Vector a, b;
        memcpy(&a, left + d * 2 * LANES, sizeof(a));
        memcpy(&b, left + d * 2 * LANES + LANES, sizeof(b));
        for (int64_t c = 0; c < WIDTH; ++c) {
            low[c] += a * right[d * WIDTH + c];
            high[c] += b * right[d * WIDTH + c];
        }
    }
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < rows; ++r) {
            sums[r + c * stride] += r < LANES ? low[c][r] : high[c][r - LANES];
        }
    }
}

template <typename T, typename S>
const S* element(const Factor& factor, int64_t row, int64_t column) {
    const S* address = static_cast<const S*>(factor.address);
    return factor.transposed ? address + column + row * factor.stride : address + row + column * factor.stride;
}

/// The sums of some columns of the result, from `first` on.
template <typename T, typename S>
void sum_columns(const Product& product, const Factor& left, const Factor& right, int64_t first, int64_t count,
                 std::vector<T>& sums) {
    constexpr int64_t ROWS = Panel<T>::ROWS;
    static std::vector<T> left_panels, right_panels;  // one call at a time: see `compute`
    sums.assign(size_t(product.m * count), T(0));
    for (int64_t depth_start = 0; depth_start < product.k; depth_start += DEPTH) {
        int64_t depth = std::min(DEPTH, product.k - depth_start);
        right_panels.resize(size_t((count + WIDTH - 1) / WIDTH * WIDTH * depth));
        pack(right_panels.data(), element<T, S>(right, depth_start, first), right.transposed ? 1 : right.stride,
             right.transposed ? right.stride : 1, count, depth, WIDTH, product.rounding);
        left_panels.resize(size_t(ROWS * depth));
        for (int64_t row = 0; row < product.m; row += ROWS) {
            int64_t rows = std::min(ROWS, product.m - row);
            pack(left_panels.data(), element<T, S>(left, row, depth_start), left.transposed ? left.stride : 1,
                 left.transposed ? 1 : left.stride, rows, depth, ROWS, product.rounding);
            for (int64_t column = 0; column < count; column += WIDTH) {
                multiply_panels(left_panels.data(), right_panels.data() + column * depth, depth,
                                sums.data() + row + column * product.m, product.m, rows,
                                std::min(WIDTH, count - column));
            }
        }
    }
}

/// `kept` of 0 does not read the result, which may be anything.
template <typename T, typename S, typename R>
void compute_as(const Product& product, const Factor& left, const Factor& right, R* result, int64_t stride) {
    T scale = T(product.scale), kept = T(product.kept);
    std::vector<T> sums;
    for (int64_t first = 0; first < product.n; first += COLUMNS) {
        int64_t count = std::min(COLUMNS, product.n - first);
        if (scale != 0) {
            sum_columns<T, S>(product, left, right, first, count, sums);
        } else {
            sums.assign(size_t(product.m * count), T(0));
        }
        for (int64_t c = 0; c < count; ++c) {
            R* column = result + (first + c) * stride;
            for (int64_t r = 0; r < product.m; ++r) {
                T value = scale * sums[size_t(r + c * product.m)];
                store(column + r, kept == 0 ? value : value + kept * load(column + r));
            }
        }
    }
}

}  // namespace

void Product::compute(Factor left, Factor right, void* result_address, int64_t result_stride) const {
    if (factors == Type::F64) {
        compute_as<double, double>(*this, left, right, static_cast<double*>(result_address), result_stride);
    } else if (factors == Type::F32) {
        compute_as<float, float>(*this, left, right, static_cast<float*>(result_address), result_stride);
    } else if (result == Type::F32) {
        compute_as<float, uint16_t>(*this, left, right, static_cast<float*>(result_address), result_stride);
    } else {
        compute_as<float, uint16_t>(*this, left, right, static_cast<uint16_t*>(result_address), result_stride);
    }
}

}  // namespace emulator
