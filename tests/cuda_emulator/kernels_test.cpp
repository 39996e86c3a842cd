//! Runs every CUDA kernel on the emulator and compares it with plain loops in double precision, written for this file
//! alone. Prints a line a kernel; exits with 1 if one of them differs. It does not launch as the program does, and says
//! nothing of the real compiler.
//!
//!     g++ -O2 -std=c++17 -o kernels_test kernels_test.cpp && ./kernels_test && EMULATOR_ORDER=reverse ./kernels_test

#include "emulator.h"

#include <cstdarg>
#include <limits>
#include <numeric>

namespace convert_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/convert.cu"
}
namespace rows_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/rows.cu"
}
namespace layer_norm_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/layer_norm.cu"
}
namespace gelu_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/gelu.cu"
}
namespace dropout_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/dropout.cu"
}
namespace softmax_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/softmax.cu"
}
namespace cross_entropy_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/cross_entropy.cu"
}
namespace embedding_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/embedding.cu"
}
namespace append_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/append.cu"
}
namespace heads_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/heads.cu"
}
namespace optimizer_cu {
#include "../../crates/ops/src/cuda/kernels/common.cuh"
#include "../../crates/ops/src/cuda/kernels/optimizer.cu"
}

using u32 = uint32_t;
using u64 = unsigned long long;
using std::vector;

const double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();
const double INFINITE = std::numeric_limits<double>::infinity();
// Of the largest magnitude: a few roundings of f32, and sums of some hundred terms.
const double TOLERANCE = 2e-6;
// Half the distance of two bf16, relative to the smaller one.
// Where a thread has four.
const size_t ELEMENTS_OF_BLOCK = 1024;
const double BF16_ROUNDING = 1.0 / 256;

// ---------------------------------------------------------------------------------------------------------------------
// Elements

template <typename To, typename From> To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

float widened(uint16_t bits) { return bit_cast<float>(u32(bits) << 16); }

/// The nearest bf16 by comparing the distances of its two neighbours.
uint16_t nearest_bf16(float value) {
    u32 bits = bit_cast<u32>(value);
    if (std::isnan(value)) return uint16_t((bits | 0x400000) >> 16);
    uint16_t below = uint16_t(bits >> 16), above = uint16_t(below + 1);
    if (std::isinf(value) || (bits & 0xFFFF) == 0) return below;
    // Behind the largest finite number comes what would be the next one, 2^128, and stands for infinity.
    double far = std::isinf(widened(above)) ? std::copysign(std::ldexp(1.0, 128), value) : double(widened(above));
    double to_below = std::fabs(double(value) - double(widened(below))), to_above = std::fabs(far - double(value));
    return to_below < to_above || (to_below == to_above && below % 2 == 0) ? below : above;
}

template <typename T> double wide(T value) {
    if constexpr (std::is_arithmetic_v<T>) return double(value);
    else return double(widened(value.bits));
}

template <typename T> T narrow(double value) {
    if constexpr (std::is_arithmetic_v<T>) return T(value);
    else return T{nearest_bf16(float(value))};
}

/// Memory that ends at a page that cannot be touched, filled with bits that no kernel writes.
template <typename T> class Buffer {
public:
    explicit Buffer(size_t count) : count_(count) {
        const size_t page = 4096, bytes = (count * sizeof(T) + page - 1) / page * page;
        mapped_ = bytes + page;
        map_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (map_ == MAP_FAILED || mprotect(map_ + bytes, page, PROT_NONE) != 0) {
            perror("kernels_test: no memory");
            exit(1);
        }
        memset(map_, 0xFF, bytes);
        values_ = reinterpret_cast<T*>(map_ + bytes) - count;
    }
    explicit Buffer(const vector<double>& values) : Buffer(values.size()) {
        for (size_t i = 0; i < count_; ++i) values_[i] = narrow<T>(values[i]);
    }
    Buffer(const Buffer& other) : Buffer(other.count_) { memcpy(values_, other.values_, count_ * sizeof(T)); }
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        for (const char* c = map_; c < reinterpret_cast<char*>(values_); ++c) {
            if (*c == char(0xFF)) continue;
            fprintf(stderr, "kernels_test: something was written before the first element\n");
            abort();
        }
        munmap(map_, mapped_);
    }
    T* get() { return values_; }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return values_[i]; }
    const T& operator[](size_t i) const { return values_[i]; }
    double at(size_t i) const { return wide(values_[i]); }
    bool untouched(size_t i) const {
        const char* bytes = reinterpret_cast<const char*>(values_ + i);
        return std::all_of(bytes, bytes + sizeof(T), [](char c) { return c == char(0xFF); });
    }

private:
    size_t count_, mapped_;
    char* map_;
    T* values_;
};

/// xorshift64*.
struct Random {
    u64 state;
    explicit Random(u64 seed) : state(seed * 2 + 1) {
        for (int i = 0; i < 8; ++i) next();
    }
    u64 next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Dull;
    }
    double uniform() { return double(next() >> 11) / 9007199254740992.0 * 2 - 1; }
    vector<double> values(size_t count, double scale = 1, double shift = 0) {
        vector<double> all(count);
        for (double& value : all) value = uniform() * scale + shift;
        return all;
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Comparison

bool all_passed = true;

/// The cases of a kernel in all its types, and a line about them at the end.
class Check {
public:
    explicit Check(const char* name) : name_(name) {}
    ~Check() {
        printf("%s %s: %zu cases", failures_ ? "FAILED" : "ok    ", name_, cases_);
        if (float_error_ >= 0) printf(", largest error %.1e", float_error_);
        if (bf16_error_ >= 0) printf(", in bf16 %.1e", bf16_error_);
        if (float_error_ < 0 && bf16_error_ < 0) printf(", equal");
        printf("\n");
        fflush(stdout);
        all_passed = all_passed && failures_ == 0;
    }
    void begin(const char* format, ...) __attribute__((format(printf, 2, 3))) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(case_, sizeof case_, format, arguments);
        va_end(arguments);
        ++cases_;
    }
    /// `scale` is what errors are relative to, for each element.
    template <typename T>
    void close(const char* what, const Buffer<T>& found, const vector<double>& expected, const vector<double>& scale,
               double tolerance = TOLERANCE) {
        require("number of elements", found.size() == expected.size() && expected.size() == scale.size());
        for (size_t i = 0; i < expected.size(); ++i) close(what, i, found, expected[i], scale[i], tolerance);
    }
    template <typename T>
    void close(const char* what, const Buffer<T>& found, const vector<double>& expected) {
        double largest = 0;
        for (double value : expected) largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : largest;
        close(what, found, expected, vector<double>(expected.size(), largest));
    }
    template <typename T>
    void close(const char* what, size_t i, const Buffer<T>& found, double expected, double scale, double tolerance) {
        double value = found.at(i);
        if (found.untouched(i)) return fail(what, i, value, expected);
        if (!std::isfinite(expected)) {
            if (std::isnan(expected) ? !std::isnan(value) : value != expected) fail(what, i, value, expected);
            return;
        }
        // The smallest numbers of both types are further apart.
        double rounding = std::is_arithmetic_v<T> ? 1e-44 : std::fabs(expected) * BF16_ROUNDING + 1e-40;
        double error = std::fabs(value - expected);
        if (!(error <= tolerance * scale + rounding)) return fail(what, i, value, expected);
        double& largest = std::is_arithmetic_v<T> ? float_error_ : bf16_error_;
        largest = std::max(largest, scale > 0 ? error / scale : 0.0);
    }
    /// Bit for bit.
    template <typename T> void same(const char* what, const Buffer<T>& found, const Buffer<T>& expected) {
        require("number of elements", found.size() == expected.size());
        for (size_t i = 0; i < found.size(); ++i) {
            if (memcmp(&found[i], &expected[i], sizeof(T)) != 0) fail(what, i, found.at(i), expected.at(i));
        }
    }
    void require(const char* what, bool holds) {
        if (!holds) fail(what, 0, NOT_A_NUMBER, NOT_A_NUMBER);
    }

private:
    void fail(const char* what, size_t i, double found, double expected) {
        if (++failures_ > 3) return;
        printf("       %s, %s: %s %zu is %.9g, not %.9g\n", name_, case_, what, i, found, expected);
    }
    const char* name_;
    char case_[200] = "";
    size_t cases_ = 0, failures_ = 0;
    double float_error_ = -1, bf16_error_ = -1;
};

unsigned blocks(u64 count, u64 each) { return unsigned((count + each - 1) / each); }

template <typename... A, typename... B> void run(void (*kernel)(A...), dim3 grid, unsigned block, B... arguments) {
    if (grid.count() > 0) emulator::launch(kernel, grid, block, 0, arguments...);
}

// ---------------------------------------------------------------------------------------------------------------------
// convert.cu, rows.cu

void convert() {
    using convert_cu::bf16;
    {
        Check check("f32_to_bf16");
        vector<u32> bits = {
            0x00000000, 0x80000000, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFE,
            0x7F7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0xFF7F8001, 0x00000001, 0x00008000, 0x00018000, 0x007FFFFF,
            0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x80008000, 0x7FFFFFFF, 0x00800000,
        };
        for (u32 i = 0; i < 200000; ++i) bits.push_back(i * 0x9E3779B9u);
        for (size_t n : {size_t(1), size_t(23), size_t(255), size_t(256), size_t(257), bits.size()}) {
            check.begin("n %zu", n);
            Buffer<float> x(n);
            Buffer<bf16> found(n), expected(n);
            for (size_t i = 0; i < n; ++i) {
                x[i] = bit_cast<float>(bits[i]);
                expected[i].bits = nearest_bf16(x[i]);
            }
            run(convert_cu::f32_to_bf16, blocks(n, ELEMENTS_OF_BLOCK), 256, x.get(), found.get(), n);
            check.same("element", found, expected);
        }
    }
}

struct Shape {
    size_t rows, width;
};

void rows_with_bias() {
    const Shape shapes[] = {{1, 1}, {3, 257}, {5, 64}, {1, 1000}, {300, 1}, {256, 3}};
    {
        Check check("fill_rows_f32");
        for (auto [rows, width] : shapes) {
            check.begin("%zu x %zu", rows, width);
            Buffer<float> bias(Random(width).values(width)), found(rows * width), expected(rows * width);
            bias[0] = -0.0f;
            for (size_t i = 0; i < rows * width; ++i) expected[i] = bias[i % width];
            run(rows_cu::fill_rows_f32, blocks(rows * width, ELEMENTS_OF_BLOCK), 256, bias.get(), found.get(), rows, width);
            check.same("element", found, expected);
        }
    }
    Check check("widen_rows");
    for (auto [rows, width] : shapes) {
        check.begin("%zu x %zu", rows, width);
        Buffer<rows_cu::bf16> x(Random(rows).values(rows * width));
        Buffer<float> bias(Random(width).values(width)), found(rows * width), expected(rows * width);
        x[0].bits = 0x8000;
        for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < width; ++c) expected[r * width + c] = widened(x[r * width + c].bits) + bias[c];
        }
        run(rows_cu::widen_rows, blocks(rows * width, ELEMENTS_OF_BLOCK), 256, x.get(), bias.get(), found.get(), rows,
            width);
        check.same("element", found, expected);
    }
}

/// Stripes of rows; some launches have more of them than there are rows for.
struct Stripes {
    size_t rows, width, rows_per_block, stripes;
};

const Stripes STRIPES[] = {{1, 1, 1, 1},     {10, 5, 3, 4},    {64, 257, 16, 4}, {33, 700, 32, 2},
                           {100, 64, 40, 5}, {5, 300, 100, 2}, {0, 40, 8, 1}};

template <typename T> void column_sums(Check& check, void (*kernel)(const T*, float*, u64, u64, u64)) {
    for (auto [rows, width, each, stripes] : STRIPES) {
        check.begin("%zu x %zu by %zu", rows, width, each);
        Buffer<T> x(Random(rows).values(rows * width, 3));
        Buffer<float> found(stripes * width), total(width);
        vector<double> expected(found.size()), scale(found.size()), sums(width), sum_scale(width);
        for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < width; ++c) {
                double value = x.at(r * width + c);
                expected[r / each * width + c] += value;
                scale[r / each * width + c] += std::fabs(value);
                sums[c] += value;
                sum_scale[c] += std::fabs(value);
            }
        }
        run(kernel, dim3(blocks(width, 256), stripes), 256, x.get(), found.get(), rows, width, each);
        check.close("partial sum", found, expected, scale);
        run(rows_cu::column_sums_f32, blocks(width, 256), 256, found.get(), total.get(), stripes, width, stripes);
        check.close("sum", total, sums, sum_scale);
    }
}

template <typename T> void add_assign(Check& check, void (*kernel)(T*, const T*, u64)) {
    for (size_t n : {1, 255, 256, 1000}) {
        check.begin("n %zu", n);
        Buffer<T> sum(Random(n).values(n)), term(Random(n + 1).values(n));
        vector<double> expected(n), scale(n);
        for (size_t i = 0; i < n; ++i) {
            expected[i] = sum.at(i) + term.at(i);
            scale[i] = std::fabs(expected[i]);
        }
        run(kernel, blocks(n, ELEMENTS_OF_BLOCK), 256, sum.get(), term.get(), n);
        check.close("sum", sum, expected, scale, 1e-7);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// layer_norm.cu

const Shape LAYER_NORM_SHAPES[] = {{1, 1},  {3, 5},   {7, 31},    {8, 32},    {9, 33},
                                   {20, 100}, {17, 768}, {3, 1024}, {10, 1025}, {2, 1500}};
const double EPS = 1e-5;

struct Moments {
    double mean, inverse;
};

template <typename T> vector<Moments> moments(const Buffer<T>& x, Shape shape) {
    vector<Moments> all;
    for (size_t r = 0; r < shape.rows; ++r) {
        double mean = 0, variance = 0;
        for (size_t c = 0; c < shape.width; ++c) mean += x.at(r * shape.width + c) / double(shape.width);
        for (size_t c = 0; c < shape.width; ++c) {
            double centred = x.at(r * shape.width + c) - mean;
            variance += centred * centred / double(shape.width);
        }
        all.push_back({mean, 1 / std::sqrt(variance + EPS)});
    }
    return all;
}

template <typename T>
void layer_norm_forward(Check& check, void (*kernel)(const T*, const float*, const float*, T*, u64, u64, float)) {
    for (Shape shape : LAYER_NORM_SHAPES) {
        for (double shift : {0.0, 1000.0}) {
            auto [rows, width] = shape;
            check.begin("%zu x %zu around %g", rows, width, shift);
            Buffer<T> x(Random(width).values(rows * width, 2, shift)), found(rows * width);
            Buffer<float> weight(Random(1).values(width)), bias(Random(2).values(width));
            vector<double> expected, scale;
            vector<Moments> all = moments(x, shape);
            for (size_t i = 0; i < rows * width; ++i) {
                auto [mean, inverse] = all[i / width];
                expected.push_back((x.at(i) - mean) * inverse * weight[i % width] + bias[i % width]);
                // The mean is rounded. A variance from one pass would be wrong by a tenth around 1000.
                scale.push_back(2 + std::fabs(mean) * inverse);
            }
            run(kernel, blocks(rows, 8), 256, x.get(), weight.get(), bias.get(), found.get(), rows, width, float(EPS));
            check.close("element", found, expected, scale, 1e-6);
        }
    }
}

template <typename T> void layer_norm_statistics(Check& check, void (*kernel)(const T*, float*, u64, u64, float)) {
    for (Shape shape : LAYER_NORM_SHAPES) {
        auto [rows, width] = shape;
        check.begin("%zu x %zu", rows, width);
        Buffer<T> x(Random(width).values(rows * width, 2, 0.5));
        Buffer<float> found(2 * rows);
        vector<double> expected, scale;
        for (Moments row : moments(x, shape)) {
            expected.insert(expected.end(), {row.mean, row.inverse});
            scale.insert(scale.end(), {2.0, row.inverse});
        }
        run(kernel, blocks(rows, 8), 256, x.get(), found.get(), rows, width, float(EPS));
        check.close("number", found, expected, scale);
    }
}

template <typename T> Buffer<float> statistics_of(const Buffer<T>& x, Shape shape) {
    vector<double> values;
    for (Moments row : moments(x, shape)) values.insert(values.end(), {row.mean, row.inverse});
    return Buffer<float>(values);
}

template <typename T>
void layer_norm_backward(
    Check& check, void (*kernel)(const T*, const float*, const float*, const T*, T*, u64, u64)) {
    for (Shape shape : LAYER_NORM_SHAPES) {
        auto [rows, width] = shape;
        check.begin("%zu x %zu", rows, width);
        Buffer<T> x(Random(width).values(rows * width, 2, 0.5)), grad(Random(3).values(rows * width)), found(x.size());
        Buffer<float> weight(Random(1).values(width)), statistics = statistics_of(x, shape);
        vector<double> expected, scale;
        for (size_t r = 0; r < rows; ++r) {
            double mean = statistics.at(2 * r), inverse = statistics.at(2 * r + 1);
            double sum = 0, projection = 0, largest = 0;
            auto slope = [&](size_t c) { return grad.at(r * width + c) * weight.at(c); };
            auto normal = [&](size_t c) { return (x.at(r * width + c) - mean) * inverse; };
            for (size_t c = 0; c < width; ++c) {
                sum += slope(c) / double(width);
                projection += slope(c) * normal(c) / double(width);
                largest = std::max(largest, std::fabs(slope(c)) * inverse);
            }
            for (size_t c = 0; c < width; ++c) {
                expected.push_back((slope(c) - sum - normal(c) * projection) * inverse);
                scale.push_back(largest);
            }
        }
        run(kernel, blocks(rows, 8), 256, x.get(), weight.get(), statistics.get(), grad.get(), found.get(), rows,
            width);
        check.close("element", found, expected, scale);
    }
}

template <typename T>
void layer_norm_parameters(Check& check, void (*kernel)(const T*, const float*, const T*, float*, u64, u64, u64)) {
    for (auto [rows, width, each, stripes] : STRIPES) {
        check.begin("%zu x %zu by %zu", rows, width, each);
        Buffer<T> x(Random(rows).values(rows * width, 2, 0.5)), grad(Random(4).values(rows * width));
        Buffer<float> statistics = statistics_of(x, {rows, width}), found(stripes * 2 * width);
        vector<double> expected(found.size()), scale(found.size());
        for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < width; ++c) {
                double slope = grad.at(r * width + c);
                double normal = (x.at(r * width + c) - statistics.at(2 * r)) * statistics.at(2 * r + 1);
                size_t weight = r / each * 2 * width + c, bias = weight + width;
                expected[weight] += normal * slope;
                scale[weight] += std::fabs(normal * slope);
                expected[bias] += slope;
                scale[bias] += std::fabs(slope);
            }
        }
        dim3 grid(blocks(width, 256), stripes);
        run(kernel, grid, 256, x.get(), statistics.get(), grad.get(), found.get(), rows, width, each);
        check.close("partial sum", found, expected, scale);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// gelu.cu

/// Value and slope, the sum of the magnitudes that the slope is made of, and by how much a rounding inside of them is
/// magnified.
struct Gelu {
    double value, slope, slope_scale, loss;
};

// A few units in the last place.
const double GELU_TOLERANCE = 5e-7;

Gelu gelu_of(double x, int kind) {
    const double pi = 3.14159265358979323846;
    if (std::isnan(x)) return {x, x, x, 1};
    if (kind == 0) {
        double cumulative = 0.5 * std::erfc(-x / std::sqrt(2.0)), density = std::exp(-0.5 * x * x) / std::sqrt(2 * pi);
        double bell = density == 0 ? 0 : x * density;
        double loss = x > 0 ? 2 : 1 + std::min(x * x, 200.0);
        return {x * cumulative, cumulative + bell, cumulative + std::fabs(bell), loss};
    }
    // The other two are both x / (1 + exp(-u)).
    double u = 1.702 * x, du = 1.702;
    if (kind == 1) {
        u = 2 * std::sqrt(2 / pi) * (x + 0.044715 * x * x * x);
        du = 2 * std::sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
    }
    double gate = 1 / (1 + std::exp(-u)), closed = 1 / (1 + std::exp(u));
    double bend = gate == 0 || closed == 0 ? 0 : x * du * gate * closed;
    // On the right the gate is close to 1, and one less the gate has few digits.
    double loss = x > 0 ? 2 + 0.2 * std::min(x * du, 40.0) : 1 + std::min(-u, 200.0);
    return {x * gate, gate + bend, gate + std::fabs(bend), loss};
}

vector<double> gelu_inputs() {
    vector<double> inputs = {0, -0.0, 100, -100, 1e30, -1e30, NOT_A_NUMBER, 1e-30, -1e-30, 1e-42};
    for (int i = -2600; i <= 2600; ++i) inputs.push_back(i * 0.005 + 0.0001);
    return inputs;
}

const char* const GELU_NAMES[] = {"exact", "tanh", "quick"};

template <typename Out> void gelu_forward(Check& check, void (*kernel)(const float*, Out*, u64, int)) {
    vector<double> inputs = gelu_inputs();
    for (size_t n : {size_t(1), size_t(257), inputs.size()}) {
        for (int kind = 0; kind < 3; ++kind) {
            check.begin("%s, n %zu", GELU_NAMES[kind], n);
            Buffer<float> x(vector<double>(inputs.begin(), inputs.begin() + n));
            Buffer<Out> found(n);
            run(kernel, blocks(n, ELEMENTS_OF_BLOCK), 256, x.get(), found.get(), n, kind);
            for (size_t i = 0; i < n; ++i) {
                Gelu expected = gelu_of(x.at(i), kind);
                // Relative to the value itself: the left tail has its digits, up to where an exponential overflows.
                double scale = std::fabs(expected.value) * expected.loss;
                if (std::fabs(expected.value) < 1e-37) scale = 1e-37 / GELU_TOLERANCE;
                check.close("element", i, found, expected.value, scale, GELU_TOLERANCE);
            }
        }
    }
}

void gelu_backward() {
    Check check("gelu_backward f32");
    vector<double> inputs = gelu_inputs();
    for (size_t n : {size_t(1), size_t(257), inputs.size()}) {
        for (int kind = 0; kind < 3; ++kind) {
            check.begin("%s, n %zu", GELU_NAMES[kind], n);
            Buffer<float> x(vector<double>(inputs.begin(), inputs.begin() + n)), found(Random(n).values(n));
            Buffer<float> grads(found);
            run(gelu_cu::gelu_backward_f32, blocks(n, ELEMENTS_OF_BLOCK), 256, x.get(), found.get(), n, kind);
            for (size_t i = 0; i < n; ++i) {
                Gelu expected = gelu_of(x.at(i), kind);
                double scale = expected.slope_scale * expected.loss, grad = grads.at(i);
                if (expected.slope_scale < 1e-36) scale = 1e-36 / GELU_TOLERANCE;
                check.close("element", i, found, expected.slope * grad, scale * std::fabs(grad), GELU_TOLERANCE);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// dropout.cu

u64 mixed(const vector<u64>& words) {
    u64 state = 0x9E3779B97F4A7C15ull;
    for (u64 word : words) {
        state = (state ^ word) + 0x9E3779B97F4A7C15ull;
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ull;
        state = (state ^ (state >> 27)) * 0x94D049BB133111EBull;
        state = state ^ (state >> 31);
    }
    return state;
}

u32 finalised(u32 x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    return x;
}

u32 random_bits(u64 key, u32 element) { return finalised(finalised(element ^ u32(key)) ^ u32(key >> 32)); }

/// The numbers that base/random.rs gives.
void random_numbers(Check& check) {
    check.begin("numbers of base/random.rs");
    u64 key = mixed({7, 3, 1, 2}), head = mixed({key, 5});
    check.require("key", key == 0x7413e11c538c3de0ull && head == 0x1201b3e47f7960feull);
    check.require("bits", random_bits(key, 0) == 0xa1ae3a4du && random_bits(key, 70000) == 0x70ed3f05u);
    check.require("bits of a head", random_bits(head, 9 << 16 | 4) == 0x54a004c3u);
}

template <typename T>
void dropout(Check& check, void (*kernel)(const T*, T*, u64, u64, u64, u64, u64, u32, float)) {
    const u64 seed = 0x123456789ABCDEFull, update = 3, site = 11, first_example = 5;
    for (size_t width : {1, 255, 256, 1024, 1025, 3001}) {
        for (size_t examples : {1, 3}) {
            for (u32 threshold : {0u, 429496730u, 0xFFFFFFFFu}) {
                check.begin("%zu x %zu, threshold %u", examples, width, threshold);
                const float kept = 1.111111f;
                Buffer<T> x(Random(width).values(examples * width)), found(x.size()), expected(x.size());
                x[0] = narrow<T>(NOT_A_NUMBER);
                x[width - 1] = narrow<T>(INFINITE);
                for (size_t i = 0; i < x.size(); ++i) {
                    u64 key = mixed({seed, update, site, first_example + i / width});
                    bool keeps = random_bits(key, u32(i % width)) >= threshold;
                    float product = float(x.at(i)) * (keeps ? kept : 0.0f);
                    expected[i] = narrow<T>(product);
                }
                run(kernel, dim3(blocks(width, 1024), examples), 256, x.get(), found.get(), width, seed, update, site,
                    first_example, threshold, kept);
                for (size_t i = 0; i < x.size(); ++i) {
                    if (std::isnan(expected.at(i))) {
                        check.close("element", i, found, NOT_A_NUMBER, 0, 0);
                        found[i] = expected[i];
                    }
                }
                check.same("element", found, expected);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// softmax.cu

struct AttentionCase {
    int examples, heads, queries, keys, score_stride, out_stride;
    bool causal;
    u32 threshold;
};

const AttentionCase ATTENTIONS[] = {
    {1, 1, 1, 1, 1, 1, false, 0},
    {2, 3, 5, 7, 7, 7, false, 0},
    {2, 3, 5, 7, 8, 16, true, 0},
    {1, 2, 9, 33, 40, 40, true, 1u << 30},
    {3, 2, 6, 31, 31, 32, false, 1u << 31},
    {1, 2, 20, 256, 256, 256, true, 1u << 30},
    {1, 1, 3, 257, 264, 264, false, 1u << 29},
    {1, 2, 17, 300, 304, 320, true, 1u << 31},
    {1, 1, 2, 700, 701, 702, false, 0},
    {2, 2, 1, 65, 72, 72, true, 1u << 30},
    {1, 1, 1, 1, 8, 8, true, 1u << 30},
};
const u64 SEED = 42, UPDATE = 1000, SITE = 17, FIRST_EXAMPLE = 6;
const float KEPT = 1.5f;

/// One row: what it sees, its probabilities and its factors.
struct AttentionRow {
    size_t visible;
    vector<double> probabilities, factors;
};

AttentionRow attention_row(const AttentionCase& sizes, const Buffer<float>& scores, size_t row) {
    size_t query = row % sizes.queries, head = row / sizes.queries % sizes.heads;
    size_t example = row / sizes.queries / sizes.heads;
    AttentionRow found;
    found.visible = sizes.causal ? sizes.keys - sizes.queries + query + 1 : sizes.keys;
    u64 key_of_head = mixed({mixed({SEED, UPDATE, SITE, FIRST_EXAMPLE + example}), head});
    double largest = -INFINITE, sum = 0;
    auto score = [&](size_t key) { return scores.at(row * sizes.score_stride + key); };
    for (size_t key = 0; key < found.visible; ++key) largest = std::fmax(largest, score(key));
    for (size_t key = 0; key < found.visible; ++key) sum += std::exp(score(key) - largest);
    for (size_t key = 0; key < found.visible; ++key) {
        found.probabilities.push_back(std::exp(score(key) - largest) / sum);
        bool keeps = random_bits(key_of_head, u32(query << 16 | key)) >= sizes.threshold;
        found.factors.push_back(sizes.threshold == 0 ? 1.0 : keeps ? double(KEPT) : 0.0);
    }
    return found;
}

/// Scores whose padding and hidden part would be noticed, and rows that are not finite.
Buffer<float> attention_scores(const AttentionCase& sizes, size_t rows) {
    Buffer<float> scores(Random(sizes.keys).values(rows * sizes.score_stride, 6));
    for (size_t row = 0; row < rows; ++row) {
        float* values = scores.get() + row * sizes.score_stride;
        size_t visible = attention_row(sizes, scores, row).visible;
        for (int i = int(visible); i < sizes.score_stride; ++i) values[i] = float(NOT_A_NUMBER);
        if (row % 5 == 1) values[0] = float(-INFINITE);
        if (row % 7 == 3) values[visible - 1] = float(NOT_A_NUMBER);
        if (row % 11 == 4) values[visible / 2] = float(INFINITE);
        if (row % 13 == 5) std::fill(values, values + visible, float(-INFINITE));
    }
    return scores;
}

void describe(Check& check, const AttentionCase& c) {
    check.begin("%d x %d heads, %d queries, %d keys, causal %d, threshold %u", c.examples, c.heads, c.queries, c.keys,
                c.causal, c.threshold);
}

/// The parameters that both kernels have after their tensors.
#define ATTENTION_TYPES u64, int, int, int, int, int, int, u64, u64, u64, u64, u32, float

template <typename Kernel, typename... Tensors>
void run_attention(Kernel kernel, const AttentionCase& c, Tensors... tensors) {
    u64 rows = u64(c.examples) * c.heads * c.queries;
    run(kernel, blocks(rows, 8), 256, tensors..., rows, c.heads, c.queries, c.keys, c.score_stride, c.out_stride,
        int(c.causal), SEED, UPDATE, SITE, FIRST_EXAMPLE, c.threshold, KEPT);
}

template <typename T>
void attention_softmax(Check& check, void (*kernel)(const float*, T*, ATTENTION_TYPES)) {
    for (const AttentionCase& c : ATTENTIONS) {
        describe(check, c);
        size_t rows = size_t(c.examples) * c.heads * c.queries;
        Buffer<float> scores = attention_scores(c, rows);
        Buffer<T> found(rows * c.out_stride);
        vector<double> expected(found.size()), scale(found.size());
        for (size_t row = 0; row < rows; ++row) {
            AttentionRow values = attention_row(c, scores, row);
            double largest = 0;
            for (double p : values.probabilities) largest = std::fmax(largest, p);
            for (size_t key = 0; key < values.visible; ++key) {
                size_t i = row * c.out_stride + key;
                expected[i] = values.probabilities[key] * values.factors[key];
                // What is dropped is exactly 0.
                scale[i] = values.factors[key] * largest;
            }
        }
        run_attention(kernel, c, scores.get(), found.get());
        check.close("element", found, expected, scale);
    }
}

template <typename T>
void attention_softmax_backward(Check& check, void (*kernel)(const float*, const float*, T*, T*, ATTENTION_TYPES)) {
    for (const AttentionCase& c : ATTENTIONS) {
        for (bool with_weights : {false, true}) {
            describe(check, c);
            size_t rows = size_t(c.examples) * c.heads * c.queries;
            Buffer<float> scores = attention_scores(c, rows), grad(Random(9).values(scores.size()));
            Buffer<T> found(rows * c.out_stride), weights(rows * c.out_stride);
            vector<double> expected(found.size()), scale(found.size()), dropped(found.size());
            vector<double> dropped_scale(found.size());
            for (size_t row = 0; row < rows; ++row) {
                AttentionRow values = attention_row(c, scores, row);
                const vector<double>& p = values.probabilities;
                for (int i = int(values.visible); i < c.score_stride; ++i) {
                    grad[row * c.score_stride + i] = float(NOT_A_NUMBER);
                }
                auto slope = [&](size_t key) { return grad.at(row * c.score_stride + key) * values.factors[key]; };
                double mean = 0, largest = 0;
                for (size_t key = 0; key < values.visible; ++key) {
                    mean += p[key] * slope(key);
                    largest = std::fmax(largest, p[key]);
                }
                for (size_t key = 0; key < values.visible; ++key) {
                    size_t i = row * c.out_stride + key;
                    expected[i] = p[key] * (slope(key) - mean);
                    scale[i] = largest;
                    dropped[i] = p[key] * values.factors[key];
                    dropped_scale[i] = values.factors[key] * largest;
                }
            }
            T* again = with_weights ? weights.get() : nullptr;
            run_attention(kernel, c, scores.get(), grad.get(), again, found.get());
            check.close("element", found, expected, scale);
            if (with_weights) check.close("weight", weights, dropped, dropped_scale);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// cross_entropy.cu

/// Rows of logits, each with a fault of another kind from the fifth on.
template <typename T> struct LogitRows {
    size_t rows = 13, vocabulary;
    double smoothing;
    Buffer<T> logits;
    Buffer<u32> targets;

    LogitRows(size_t vocabulary, double smoothing)
        : vocabulary(vocabulary),
          smoothing(float(smoothing)),
          logits(Random(vocabulary).values(rows * vocabulary, 6)),
          targets(rows) {
        for (size_t row = 0; row < rows; ++row) targets[row] = u32(row * 7 % vocabulary);
        auto set = [&](size_t row, size_t column, double value) {
            logits[row * vocabulary + column % vocabulary] = narrow<T>(value);
        };
        auto fill = [&](size_t row, double value) {
            for (size_t column = 0; column < vocabulary; ++column) set(row, column, value);
        };
        targets[1] = u32(vocabulary - 1);
        fill(5, NOT_A_NUMBER);
        set(6, vocabulary / 2 + 1, NOT_A_NUMBER);
        set(7, vocabulary / 3, INFINITE);
        set(8, targets[8] + 1, -INFINITE);
        fill(9, -INFINITE);
        fill(10, 0);
        set(10, targets[10], 1e30);
        targets[11] = u32(vocabulary);
        fill(12, -1e30);
    }
    double at(size_t row, size_t column) const { return logits.at(row * vocabulary + column); }
    /// Largest logit and sum of exp(logit - largest).
    std::pair<double, double> sums(size_t row) const {
        double largest = -INFINITE, sum = 0;
        for (size_t c = 0; c < vocabulary; ++c) largest = std::fmax(largest, at(row, c));
        for (size_t c = 0; c < vocabulary; ++c) sum += std::exp(at(row, c) - largest);
        return {largest, sum};
    }
};

const size_t VOCABULARIES[] = {1, 2, 5, 255, 256, 257, 1024, 1025, 5003};
const double SMOOTHINGS[] = {0, 0.1, 1};

vector<double> row_weights(size_t rows, bool differ) {
    vector<double> weights(rows, 1);
    for (size_t row = 0; differ && row < rows; ++row) weights[row] = 0.25 * double(1 + row % 7);
    return weights;
}

template <typename T>
void cross_entropy(Check& check, void (*kernel)(const T*, const u32*, const float*, float*, u64, u64, float)) {
    for (size_t vocabulary : VOCABULARIES) {
        for (double smoothing : SMOOTHINGS) {
            check.begin("vocabulary %zu, smoothing %g", vocabulary, smoothing);
            LogitRows<T> rows(vocabulary, smoothing);
            Buffer<float> found(rows.rows);
            // Without smoothing there are no weights: all of them are 1.
            Buffer<float> weights(row_weights(rows.rows, smoothing > 0));
            run(kernel, rows.rows, 256, rows.logits.get(), rows.targets.get(), smoothing > 0 ? weights.get() : nullptr,
                found.get(), rows.rows, vocabulary, float(smoothing));
            for (size_t row = 0; row < rows.rows; ++row) {
                auto [largest, sum] = rows.sums(row);
                u32 target = rows.targets[row];
                double logit = target < vocabulary ? rows.at(row, target) : NOT_A_NUMBER;
                double expected = largest + std::log(sum) - (1 - rows.smoothing) * logit;
                double scale = std::fabs(largest) + std::fabs(std::log(sum)) + (1 - rows.smoothing) * std::fabs(logit);
                // The target outweighs all others: exactly 0.
                if (row == 10 && smoothing == 0) scale = 0;
                for (size_t c = 0; c < vocabulary && smoothing > 0; ++c) {
                    expected -= rows.smoothing / double(vocabulary) * rows.at(row, c);
                    scale += rows.smoothing / double(vocabulary) * std::fabs(rows.at(row, c));
                }
                check.close("loss", row, found, weights.at(row) * expected, weights.at(row) * scale, TOLERANCE);
            }
        }
    }
}

template <typename T>
void cross_entropy_backward(
    Check& check, void (*kernel)(const T*, const u32*, const float*, const float*, T*, u64, u64, float)) {
    for (size_t vocabulary : VOCABULARIES) {
        for (double smoothing : SMOOTHINGS) {
            check.begin("vocabulary %zu, smoothing %g", vocabulary, smoothing);
            LogitRows<T> rows(vocabulary, smoothing);
            Buffer<float> scale(vector<double>{0.37});
            Buffer<T> found(rows.logits.size());
            Buffer<float> weights(row_weights(rows.rows, smoothing > 0));
            run(kernel, rows.rows, 256, rows.logits.get(), rows.targets.get(), smoothing > 0 ? weights.get() : nullptr,
                scale.get(), found.get(), rows.rows, vocabulary, float(smoothing));
            for (size_t row = 0; row < rows.rows; ++row) {
                auto [largest, sum] = rows.sums(row);
                for (size_t c = 0; c < vocabulary; ++c) {
                    double peak = c == rows.targets[row] ? 1 - rows.smoothing : 0;
                    double target = peak + rows.smoothing / double(vocabulary);
                    double factor = weights.at(row) * scale.at(0);
                    double expected = factor * (std::exp(rows.at(row, c) - largest) / sum - target);
                    // An error here is one of probabilities, whatever is left of them.
                    check.close("element", row * vocabulary + c, found, expected, factor, TOLERANCE / 4);
                }
            }
        }
    }
}

void sum_f32() {
    Check check("sum_f32");
    for (size_t n : {0, 1, 255, 256, 1000, 100000}) {
        check.begin("n %zu", n);
        Buffer<float> x(Random(n).values(n, 5, 1)), found(1);
        if (n > 2) x[2] = 1e8f;
        vector<double> expected = {0};
        for (size_t i = 0; i < n; ++i) expected[0] += x.at(i);
        run(cross_entropy_cu::sum_f32, 1, 256, x.get(), found.get(), n);
        check.close("sum", found, expected, {std::fabs(expected[0])}, 1e-7);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// embedding.cu, append.cu, heads.cu

Buffer<u32> ids_of(size_t count, size_t table_rows) {
    Buffer<u32> ids(count);
    Random random(count);
    for (size_t i = 0; i < count; ++i) {
        ids[i] = u32(random.next() % table_rows);
        // One id is most of the list, others are outside.
        if (i % 3 != 0) ids[i] = u32(table_rows / 2);
        if (i % 17 == 5) ids[i] = u32(table_rows);
        if (i % 29 == 7) ids[i] = 0xFFFFFFFF;
    }
    return ids;
}

template <typename T>
void embedding_forward(Check& check, void (*kernel)(const T*, const u32*, T*, u64, u64, u64)) {
    for (auto [table_rows, width] : {Shape{1, 1}, Shape{7, 64}, Shape{300, 129}, Shape{20, 1000}}) {
        for (size_t count : {1, 40, 131}) {
            check.begin("%zu of %zu x %zu", count, table_rows, width);
            Buffer<T> table(Random(width).values(table_rows * width)), found(count * width), expected(count * width);
            Buffer<u32> ids = ids_of(count, table_rows);
            for (size_t i = 0; i < count * width; ++i) {
                u32 id = ids[i / width];
                if (id < table_rows) {
                    expected[i] = table[id * width + i % width];
                } else {
                    expected[i] = narrow<T>(NOT_A_NUMBER);
                }
            }
            run(kernel, count, 128, table.get(), ids.get(), found.get(), count, table_rows, width);
            check.same("element", found, expected);
        }
    }
}

template <typename T>
void embedding_backward(Check& check, void (*kernel)(const T*, const u32*, float*, u64, u64, u64)) {
    const Shape shapes[] = {{1, 1}, {7, 64}, {300, 129}, {9, 1024}, {9, 1025}, {5, 2500}};
    for (auto [table_rows, width] : shapes) {
        for (size_t count : {0, 1, 127, 128, 129, 640, 1500}) {
            check.begin("%zu of %zu x %zu", count, table_rows, width);
            Buffer<T> grad(Random(count).values(count * width));
            Buffer<u32> ids = ids_of(count, table_rows);
            Buffer<float> found(table_rows * width), expected(table_rows * width);
            std::fill(expected.get(), expected.get() + expected.size(), 0.0f);
            // The order is part of the result.
            for (size_t i = 0; i < count * width; ++i) {
                u32 id = ids[i / width];
                if (id < table_rows) expected[id * width + i % width] += float(grad.at(i));
            }
            run(kernel, table_rows, 128, grad.get(), ids.get(), found.get(), count, table_rows, width);
            check.same("element", found, expected);
        }
    }
}

template <typename T> void append(Check& check, void (*kernel)(const T*, const u32*, const T*, T*, u64, u64)) {
    struct Case {
        size_t length, width, count, num_past;
    };
    const Case cases[] = {{1, 1, 1, 1}, {0, 5, 2, 1}, {4, 100, 7, 3}, {9, 257, 3, 5}};
    for (auto [length, width, count, num_past] : cases) {
        check.begin("%zu sequences of %zu x %zu", count, length, width);
        Buffer<T> past(Random(1).values(num_past * length * width)), next(Random(2).values(count * width));
        Buffer<T> found(count * (length + 1) * width), expected(found.size());
        Buffer<u32> sequences(count);
        for (size_t s = 0; s < count; ++s) {
            sequences[s] = u32((s * 5 + 2) % num_past);
            for (size_t row = 0; row <= length; ++row) {
                for (size_t c = 0; c < width; ++c) {
                    T value = row == length ? next[s * width + c] : past[(sequences[s] * length + row) * width + c];
                    expected[(s * (length + 1) + row) * width + c] = value;
                }
            }
        }
        dim3 grid(blocks((length + 1) * width, 256), count);
        run(kernel, grid, 256, past.get(), sequences.get(), next.get(), found.get(), length, width);
        check.same("element", found, expected);
    }
}

void head_pointers() {
    Check check("head_pointers");
    for (auto [examples, heads] : {std::pair{1, 1}, std::pair{3, 12}, std::pair{50, 7}}) {
        check.begin("%d x %d", examples, heads);
        const int num_lists = 11, each = examples * heads;
        heads_cu::HeadLists lists{};
        Buffer<u64> found(num_lists * each), expected(num_lists * each);
        for (int list = 0; list < num_lists; ++list) {
            lists.base[list] = 0x7F1234567800ull + u64(list) * 0x10000000001ull;
            lists.example_stride[list] = 0x123456789ull * (list + 1);
            lists.head_stride[list] = 128 + list;
            for (int i = 0; i < each; ++i) {
                expected[list * each + i] =
                    lists.base[list] + u64(i / heads) * lists.example_stride[list] + u64(i % heads) * lists.head_stride[list];
            }
        }
        run(heads_cu::head_pointers, blocks(num_lists * each, 256), 256, lists, found.get(), num_lists, examples, heads);
        check.same("address", found, expected);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// optimizer.cu

using optimizer_cu::Chunk;
using optimizer_cu::Group;
using optimizer_cu::State;
static_assert(sizeof(Chunk) == 40 && sizeof(Group) == 16 && sizeof(State) == 56);

/// A parameter with all that belongs to it, on the device and in double precision.
struct Parameter {
    Buffer<float> value, grad, exp_avg, exp_avg_sq;
    vector<double> values, means, squares;
    u32 group;

    Parameter(size_t count, u32 group)
        : value(Random(count).values(count)),
          grad(count),
          exp_avg(vector<double>(count, 0.0)),
          exp_avg_sq(vector<double>(count, 0.0)),
          means(count, 0.0),
          squares(count, 0.0),
          group(group) {
        for (size_t i = 0; i < count; ++i) values.push_back(value.at(i));
    }
    Chunk chunk() { return {value.get(), grad.get(), exp_avg.get(), exp_avg_sq.get(), u32(value.size()), group}; }
};

struct Settings {
    double max_norm, beta1, beta2, eps;
    u64 first_step;
};

/// Eight updates, of which the fourth has a loss and the seventh a gradient that is not finite.
void updates(Check& norms, Check& begins, Check& adamws, const vector<size_t>& counts, Settings settings) {
    auto [max_norm, beta1, beta2, eps, first_step] = settings;
    vector<Parameter> parameters;
    parameters.reserve(counts.size());
    Buffer<Chunk> chunks(counts.size());
    for (size_t i = 0; i < counts.size(); ++i) {
        parameters.emplace_back(counts[i], u32(i % 2));
        chunks[i] = parameters[i].chunk();
    }
    Buffer<Group> groups(2);
    Buffer<State> state(1);
    state[0] = State{};
    state[0].steps = first_step;
    u64 steps = first_step;
    for (int number = 1; number <= 8; ++number) {
        norms.begin("%zu chunks, update %d", counts.size(), number);
        begins.begin("%zu chunks, update %d", counts.size(), number);
        adamws.begin("%zu chunks, update %d", counts.size(), number);
        groups[0] = {0.01 * number, 0.1};
        groups[1] = {0.003, 0};
        Random random(number);
        // Squares that f32 cannot hold; clipping makes small numbers of them.
        double size = number == 2 && max_norm > 0 ? 1e25 : 1;
        vector<double> expected_squares;
        for (Parameter& parameter : parameters) {
            double sum = 0;
            for (size_t i = 0; i < parameter.grad.size(); ++i) {
                parameter.grad[i] = float(random.uniform() * size);
                if (number == 7 && i == 100) parameter.grad[i] = float(INFINITE);
                sum += parameter.grad.at(i) * parameter.grad.at(i);
            }
            expected_squares.push_back(sum);
        }
        Buffer<double> partials(counts.size());
        run(optimizer_cu::gradient_norm, counts.size(), 256, chunks.get(), partials.get());
        norms.close("partial sum", partials, expected_squares, expected_squares, 1e-13);

        Buffer<float> losses(random.values(5, 2, 3));
        if (number == 4) losses[2] = float(NOT_A_NUMBER);
        double loss = 0;
        for (size_t i = 0; i < losses.size(); ++i) loss += losses.at(i);
        double norm = std::sqrt(std::accumulate(expected_squares.begin(), expected_squares.end(), 0.0));
        bool finite = std::isfinite(loss) && std::isfinite(norm);
        run(optimizer_cu::begin_update, 1, 256, partials.get(), counts.size(), losses.get(), losses.size(), max_norm,
            beta1, beta2, state.get());
        if (finite) ++steps;
        double correction1 = 1 - std::pow(beta1, double(steps)), correction2 = 1 - std::pow(beta2, double(steps));
        double clip = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
        State made = state[0];
        begins.require("steps", made.steps == steps && (made.finite == 1) == finite && made.finite <= 1);
        Buffer<double> found(vector<double>{made.loss, made.norm, made.scale, made.correction1, made.root_correction2});
        vector<double> expected = {loss, norm, clip, correction1, std::sqrt(correction2)};
        for (size_t i = 0; i < (finite ? 5 : 2); ++i) {
            begins.close("number", i, found, expected[i], std::fabs(expected[i]), 1e-13);
        }

        run(optimizer_cu::adamw, counts.size(), 256, chunks.get(), groups.get(), state.get(), beta1, beta2, eps);
        for (Parameter& p : parameters) {
            auto [learning_rate, weight_decay] = groups[p.group];
            vector<double> mean_scale, value_scale;
            for (size_t i = 0; i < p.values.size(); ++i) {
                double grad = p.grad.at(i) * clip, magnitude = std::fabs(p.means[i]) + std::fabs(grad), step = 0;
                if (finite) {
                    p.means[i] = beta1 * p.means[i] + (1 - beta1) * grad;
                    p.squares[i] = beta2 * p.squares[i] + (1 - beta2) * grad * grad;
                    step = learning_rate / correction1 / (std::sqrt(p.squares[i]) / std::sqrt(correction2) + eps);
                    p.values[i] *= 1 - learning_rate * weight_decay;
                    p.values[i] -= step * p.means[i];
                }
                mean_scale.push_back(finite ? magnitude : 0);
                value_scale.push_back(finite ? std::fabs(p.values[i]) + step * magnitude : 0);
            }
            adamws.close("parameter", p.value, p.values, value_scale, 1e-6);
            adamws.close("mean", p.exp_avg, p.means, mean_scale, 1e-6);
            adamws.close("mean square", p.exp_avg_sq, p.squares, p.squares, 1e-6);
            // The next update starts from the rounded numbers.
            for (size_t i = 0; i < p.values.size(); ++i) {
                p.values[i] = p.value.at(i);
                p.means[i] = p.exp_avg.at(i);
                p.squares[i] = p.exp_avg_sq.at(i);
            }
        }
    }
}

void optimizer() {
    Check adamws("adamw"), begins("begin_update"), norms("gradient_norm");
    updates(norms, begins, adamws, {1}, {1.0, 0.9, 0.95, 1e-8, 0});
    updates(norms, begins, adamws, {255, 0, 1000, 5000, 256, 1}, {0.5, 0.9, 0.999, 1e-6, 12345});
    updates(norms, begins, adamws, vector<size_t>(300, 130), {0, 0.8, 0.9, 1e-8, 0});
}

// ---------------------------------------------------------------------------------------------------------------------

/// A kernel in both types.
#define BOTH(FILE, NAME)                     \
    {                                        \
        Check check(#NAME " f32, bf16");     \
        NAME(check, FILE##_cu::NAME##_f32);  \
        NAME(check, FILE##_cu::NAME##_bf16); \
    }

int main() {
    convert();
    rows_with_bias();
    BOTH(rows, column_sums)
    BOTH(rows, add_assign)
    BOTH(layer_norm, layer_norm_forward)
    BOTH(layer_norm, layer_norm_statistics)
    BOTH(layer_norm, layer_norm_backward)
    BOTH(layer_norm, layer_norm_parameters)
    {
        Check check("gelu_forward f32 f32, f32 bf16");
        gelu_forward(check, gelu_cu::gelu_forward_f32_f32);
        gelu_forward(check, gelu_cu::gelu_forward_f32_bf16);
    }
    gelu_backward();
    {
        Check check("dropout f32, bf16");
        random_numbers(check);
        dropout(check, dropout_cu::dropout_f32);
        dropout(check, dropout_cu::dropout_bf16);
    }
    BOTH(softmax, attention_softmax)
    BOTH(softmax, attention_softmax_backward)
    BOTH(cross_entropy, cross_entropy)
    BOTH(cross_entropy, cross_entropy_backward)
    sum_f32();
    BOTH(embedding, embedding_forward)
    BOTH(embedding, embedding_backward)
    BOTH(append, append)
    head_pointers();
    optimizer();
    printf(all_passed ? "all kernels passed\n" : "some kernels FAILED\n");
    return all_passed ? 0 : 1;
}
