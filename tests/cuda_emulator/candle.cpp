//! The kernels of candle-kernels 0.11.1 that this crate comes across, written anew: names, parameters and results are
//! those of its .cu files, and what it lacks is lacking here. Sums have the order of its threads, but for its vectors.
//!
//! Not here: f16, f8, i16 and i32; convolutions, pooling, sorting, rotary embeddings, layer norms, quantized matrices.

#include "emulator.h"

#include <limits>

namespace {

using u8 = uint8_t;
using u32 = uint32_t;
using i64 = int64_t;

/// Each operation is one of f32 and rounded.
struct bf16 {
    uint16_t bits;

    bf16() = default;
    bf16(float value) {
        uint32_t word = __float_as_uint(value);
        bool nan = (word & 0x7FFFFFFF) > 0x7F800000;
        bits = nan ? 0x7FFF : uint16_t((word + 0x7FFF + (word >> 16 & 1)) >> 16);
    }
    operator float() const { return __uint_as_float(uint32_t(bits) << 16); }
};

bf16 operator+(bf16 a, bf16 b) { return float(a) + float(b); }
bf16 operator-(bf16 a, bf16 b) { return float(a) - float(b); }
bf16 operator*(bf16 a, bf16 b) { return float(a) * float(b); }
bf16 operator/(bf16 a, bf16 b) { return float(a) / float(b); }
bf16 operator-(bf16 a) { return -float(a); }

/// What functions of one number compute in.
template <typename T> struct WideType { using type = T; };
template <> struct WideType<bf16> { using type = float; };
template <typename T> using Wide = typename WideType<T>::type;

/// As the hardware converts: toward zero, what does not fit becomes the nearest that does, NaN becomes 0.
template <typename To, typename From>
To convert(From value) {
    if constexpr (std::is_same_v<To, From>) {
        return value;
    } else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>) {
        double wide = double(Wide<From>(value));
        if (std::isnan(wide)) return 0;
        // An 8-bit integer is the lower part of one of 32 bits.
        using Target = std::conditional_t<sizeof(To) == 1, u32, To>;
        if (wide <= double(std::numeric_limits<Target>::min())) return To(std::numeric_limits<Target>::min());
        if (wide >= double(std::numeric_limits<Target>::max())) return To(std::numeric_limits<Target>::max());
        return To(Target(wide));
    } else if constexpr (std::is_same_v<To, bf16>) {
        return bf16(float(value));
    } else {
        return To(Wide<From>(value));
    }
}

bool is_contiguous(size_t num_dims, const size_t* dims, const size_t* strides) {
    size_t expected = 1;
    for (size_t d = num_dims; d-- > 0;) {
        if (dims[d] > 1 && strides[d] != expected) return false;
        expected *= dims[d];
    }
    return true;
}

size_t strided_index(size_t index, size_t num_dims, const size_t* dims, const size_t* strides) {
    size_t strided = 0;
    for (size_t d = num_dims; d-- > 0;) {
        strided += index % dims[d] * strides[d];
        index /= dims[d];
    }
    return strided;
}

/// The place of an element in a layout that is contiguous where there is no info.
size_t place(size_t index, size_t num_dims, const size_t* info, size_t layout = 0) {
    return info == nullptr ? index : strided_index(index, num_dims, info, info + (layout + 1) * num_dims);
}

/// Calls `f(index)` for the elements of this thread.
template <typename F>
void for_elements(size_t count, F f) {
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += size_t(blockDim.x) * gridDim.x) f(i);
}

// ---------------------------------------------------------------------------------------------------------------------
// Elements: unary.cu, affine.cu, cast.cu, binary.cu, ternary.cu, fill.cu

template <typename T, T (*function)(T)>
void unary(size_t numel, size_t num_dims, const size_t* info, const T* inp, T* out) {
    for_elements(numel, [=](size_t i) { out[i] = function(inp ? inp[place(i, num_dims, info)] : out[i]); });
}

template <typename T, T (*function)(T, T)>
void unary_with(size_t numel, size_t num_dims, const size_t* info, T parameter, const T* inp, T* out) {
    for_elements(numel, [=](size_t i) {
        out[i] = function(inp ? inp[place(i, num_dims, info)] : out[i], parameter);
    });
}

template <typename T>
void affine(size_t numel, size_t num_dims, const size_t* info, const T* inp, T* out, T mul, T add) {
    for_elements(numel, [=](size_t i) { out[i] = (inp ? inp[place(i, num_dims, info)] : out[i]) * mul + add; });
}

template <typename From, typename To>
void cast(size_t numel, size_t num_dims, const size_t* info, const From* inp, To* out) {
    for_elements(numel, [=](size_t i) { out[i] = convert<To>(inp[place(i, num_dims, info)]); });
}

template <typename T, typename Out, Out (*function)(T, T)>
void binary(size_t numel, size_t num_dims, const size_t* info, const T* lhs, const T* rhs, Out* out) {
    for_elements(numel, [=](size_t i) {
        out[i] = function(lhs[place(i, num_dims, info, 0)], rhs[place(i, num_dims, info, 1)]);
    });
}

template <typename T, typename Id>
void where(size_t numel, size_t num_dims, const size_t* info, const Id* ids, const T* t, const T* f, T* out) {
    for_elements(numel, [=](size_t i) {
        bool condition = ids[place(i, num_dims, info, 0)] != 0;
        out[i] = condition ? t[place(i, num_dims, info, 1)] : f[place(i, num_dims, info, 2)];
    });
}

template <typename T>
void fill(T* buf, T value, size_t numel) {
    for_elements(numel, [=](size_t i) { buf[i] = value; });
}

template <typename T>
void const_set(size_t numel, size_t num_dims, const size_t* info, T value, T* out) {
    for_elements(numel, [=](size_t i) { out[place(i, num_dims, info)] = value; });
}

template <typename T>
void copy2d(const T* src, T* dst, u32 d1, u32 d2, u32 src_s, u32 dst_s) {
    u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= d1 * d2) return;
    dst[index / d2 * dst_s + index % d2] = src[index / d2 * src_s + index % d2];
}

template <typename T> T copy_of(T x) { return x; }
template <typename T> T neg(T x) { return -x; }
template <typename T> T recip(T x) { return T(1.0f / Wide<T>(x)); }
template <typename T> T exp_of(T x) { return T(std::exp(Wide<T>(x))); }
template <typename T> T log_of(T x) { return T(std::log(Wide<T>(x))); }
template <typename T> T sin_of(T x) { return T(std::sin(Wide<T>(x))); }
template <typename T> T cos_of(T x) { return T(std::cos(Wide<T>(x))); }
template <typename T> T tanh_of(T x) { return T(std::tanh(Wide<T>(x))); }
template <typename T> T erf_of(T x) { return T(std::erf(Wide<T>(x))); }
template <typename T> T ceil_of(T x) { return T(std::ceil(Wide<T>(x))); }
template <typename T> T floor_of(T x) { return T(std::floor(Wide<T>(x))); }
template <typename T> T round_of(T x) { return T(std::round(Wide<T>(x))); }
template <typename T> T normcdf(T x) { return T(0.5f * std::erfc(-Wide<T>(x) * Wide<T>(M_SQRT1_2))); }
template <typename T> T abs_of(T x) { return T(std::fabs(Wide<T>(x))); }
template <typename T> T sqr(T x) { return x * x; }
template <typename T> T sqrt_of(T x) { return T(std::sqrt(Wide<T>(x))); }
template <typename T> T gelu_erf(T x) { return x * normcdf(x); }
template <typename T> T silu(T x) { return T(Wide<T>(x) / (Wide<T>(1) + std::exp(-Wide<T>(x)))); }
template <typename T> T sigmoid(T x) { return T(Wide<T>(1) / (Wide<T>(1) + std::exp(-Wide<T>(x)))); }
template <typename T> T sign(T x) { return T(float(x > T(0.0f)) - float(x < T(0.0f))); }
template <typename T> T powf_of(T x, T e) { return T(std::pow(Wide<T>(x), Wide<T>(e))); }
template <typename T> T elu(T x, T alpha) { return x > T(0.0f) ? x : alpha * (exp_of(x) - T(1.0f)); }

template <typename T>
T gelu(T x) {
    T alpha = x + T(Wide<T>(0.044715)) * (x * x * x);
    return T(0.5f) * x * (T(1.0f) + tanh_of(T(Wide<T>(M_2_SQRTPI * M_SQRT1_2)) * alpha));
}

/// bf16 keeps NaN, f32 and f64 pass it over.
template <typename T>
T maximum(T a, T b) {
    if constexpr (std::is_integral_v<T>) return a < b ? b : a;
    if constexpr (std::is_same_v<T, bf16>) {
        if (std::isnan(float(a)) || std::isnan(float(b))) return bf16(NAN);
    }
    return T(std::fmax(Wide<T>(a), Wide<T>(b)));
}

template <typename T>
T minimum(T a, T b) {
    if constexpr (std::is_integral_v<T>) return b < a ? b : a;
    if constexpr (std::is_same_v<T, bf16>) {
        if (std::isnan(float(a)) || std::isnan(float(b))) return bf16(NAN);
    }
    return T(std::fmin(Wide<T>(a), Wide<T>(b)));
}

template <typename T> T relu(T x) { return maximum(x, T(0.0f)); }
template <typename T> T add(T a, T b) { return a + b; }
template <typename T> T sub(T a, T b) { return a - b; }
template <typename T> T mul(T a, T b) { return a * b; }
template <typename T>
T div(T a, T b) {
    // The processor would end the process; the GPU gives all bits.
    if constexpr (std::is_integral_v<T>) return b == 0 ? T(-1) : T(a / b);
    return a / b;
}
template <typename T> u8 eq(T a, T b) { return Wide<T>(a) == Wide<T>(b); }
template <typename T> u8 ne(T a, T b) { return Wide<T>(a) != Wide<T>(b); }
template <typename T> u8 lt(T a, T b) { return Wide<T>(a) < Wide<T>(b); }
template <typename T> u8 le(T a, T b) { return Wide<T>(a) <= Wide<T>(b); }
template <typename T> u8 gt(T a, T b) { return Wide<T>(a) > Wide<T>(b); }
template <typename T> u8 ge(T a, T b) { return Wide<T>(a) >= Wide<T>(b); }

// ---------------------------------------------------------------------------------------------------------------------
// indexing.cu

template <typename I>
void check_id(I id, size_t count) {
    if (size_t(id) < count) return;
    fprintf(stderr, "cuda emulator: the id %lld is outside of a dimension of %zu\n", (long long)(id), count);
    emulator::fail_at_block();
}

/// An id that is all ones picks nothing.
template <typename I>
constexpr I NO_ID = std::numeric_limits<I>::max();

/// As candle does it, the layout of the ids is applied to the source.
template <typename T, typename I>
void index_select(size_t numel, size_t num_dims, const size_t* info, const I* ids, const T* inp, T* out, size_t,
                  size_t src_dim_size, size_t ids_dim_size, size_t right_size) {
    bool contiguous = is_contiguous(num_dims, info, info + num_dims);
    for_elements(numel, [=](size_t i) {
        I id = ids[i / right_size % ids_dim_size];
        if (id == NO_ID<I>) {
            out[i] = T(0);
            return;
        }
        check_id(id, src_dim_size);
        size_t source = (i / (ids_dim_size * right_size) * src_dim_size + size_t(id)) * right_size + i % right_size;
        out[i] = inp[contiguous ? source : place(source, num_dims, info)];
    });
}

template <typename T, typename I>
void gather(size_t numel, const I* ids, const T* inp, T* out, size_t, size_t src_dim_size, size_t ids_dim_size,
            size_t right_size) {
    for_elements(numel, [=](size_t i) {
        I id = ids[i];
        if (id == NO_ID<I>) {
            out[i] = T(0);
            return;
        }
        check_id(id, src_dim_size);
        out[i] = inp[(i / (right_size * ids_dim_size) * src_dim_size + size_t(id)) * right_size + i % right_size];
    });
}

template <typename T, typename I>
void index_add(const I* ids, size_t ids_dim_size, const T* inp, T* out, size_t left_size, size_t, size_t dst_dim_size,
               size_t right_size) {
    for_elements(left_size * right_size, [=](size_t i) {
        size_t pre = i / right_size, post = i % right_size;
        for (size_t j = 0; j < ids_dim_size; ++j) {
            if (ids[j] == NO_ID<I>) continue;
            check_id(ids[j], dst_dim_size);
            T& sum = out[(pre * dst_dim_size + size_t(ids[j])) * right_size + post];
            sum = sum + inp[(pre * ids_dim_size + j) * right_size + post];
        }
    });
}

template <typename T, typename I, bool adds>
void scatter(const I* ids, const T* inp, T* out, size_t left_size, size_t src_dim_size, size_t dst_dim_size,
             size_t right_size) {
    for_elements(left_size * right_size, [=](size_t i) {
        size_t pre = i / right_size, post = i % right_size;
        for (size_t j = 0; j < src_dim_size; ++j) {
            size_t source = (pre * src_dim_size + j) * right_size + post;
            if (ids[source] == NO_ID<I>) continue;
            check_id(ids[source], dst_dim_size);
            T& target = out[(pre * dst_dim_size + size_t(ids[source])) * right_size + post];
            target = adds ? T(target + inp[source]) : inp[source];
        }
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// reduce.cu. The first thread of a block does what the others do there, in the order of their tree.

template <typename T>
T lowest() {
    using Limits = std::numeric_limits<Wide<T>>;
    return T(Limits::has_infinity ? -Limits::infinity() : Limits::lowest());
}

template <typename T>
T highest() {
    using Limits = std::numeric_limits<Wide<T>>;
    return T(Limits::has_infinity ? Limits::infinity() : Limits::max());
}

/// bf16 is summed in f32.
template <typename T>
void fast_sum(size_t src_numel, size_t el_to_sum_per_block, size_t num_dims, const size_t* info, const T* src, T* dst) {
    if (threadIdx.x != 0) return;
    size_t start = blockIdx.x * el_to_sum_per_block, stop = std::min(start + el_to_sum_per_block, src_numel);
    std::vector<Wide<T>> sums(blockDim.x, Wide<T>(0));
    for (size_t i = start; i < stop; ++i) sums[(i - start) % blockDim.x] += Wide<T>(src[place(i, num_dims, info)]);
    for (size_t half = blockDim.x / 2; half > 0; half /= 2) {
        for (size_t t = 0; t < half; ++t) sums[t] += sums[t + half];
    }
    dst[blockIdx.x] = T(sums[0]);
}

template <typename T>
void fast_sum_small(size_t dst_el, size_t el_to_sum_per_block, size_t num_dims, const size_t* info, const T* src,
                    T* dst) {
    size_t index = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= dst_el) return;
    Wide<T> sum = 0;
    for (size_t i = 0; i < el_to_sum_per_block; ++i) {
        sum += Wide<T>(src[place(index * el_to_sum_per_block + i, num_dims, info)]);
    }
    dst[index] = T(sum);
}

template <typename T, T (*function)(T, T)>
void fast_extreme(size_t src_numel, size_t el_to_sum_per_block, size_t num_dims, const size_t* info, const T* src,
                  T* dst) {
    if (threadIdx.x != 0) return;
    size_t start = blockIdx.x * el_to_sum_per_block, stop = std::min(start + el_to_sum_per_block, src_numel);
    T value = function(T(1), T(0)) == T(1) ? lowest<T>() : highest<T>();
    for (size_t i = start; i < stop; ++i) value = function(value, src[place(i, num_dims, info)]);
    dst[blockIdx.x] = value;
}

/// Which of equal values wins follows from the tree; NaN is never better, but stays where a thread sees it first.
template <typename T, u8 (*better)(T, T)>
void fast_arg_extreme(size_t src_numel, size_t el_to_sum_per_block, size_t num_dims, const size_t* info, const T* src,
                      u32* dst) {
    if (threadIdx.x != 0) return;
    size_t start = blockIdx.x * el_to_sum_per_block, stop = std::min(start + el_to_sum_per_block, src_numel);
    struct Best {
        T value;
        u32 index;
    };
    T worst = better(T(1), T(0)) ? lowest<T>() : highest<T>();
    std::vector<Best> best(blockDim.x, Best{worst, 0xFFFFFFFFu});
    for (size_t i = start; i < stop; ++i) {
        Best& mine = best[(i - start) % blockDim.x];
        T value = src[place(i, num_dims, info)];
        bool first = i - start < blockDim.x;
        if (first || better(value, mine.value)) mine = {value, u32(i % info[num_dims - 1])};
    }
    for (size_t half = blockDim.x / 2; half > 0; half /= 2) {
        for (size_t t = 0; t < half; ++t) {
            if (better(best[t + half].value, best[t].value)) best[t] = best[t + half];
        }
    }
    dst[blockIdx.x] = best[0].index;
}

/// Blocks of (1, 32) threads, a row each.
template <typename T>
void softmax(const T* src, T* dst, int n_cols) {
    if (threadIdx.y != 0) return;
    size_t row = size_t(blockDim.x) * blockIdx.x + threadIdx.x;
    unsigned lanes = blockDim.y;
    src += row * size_t(n_cols);
    dst += row * size_t(n_cols);
    T largest = T(-INFINITY);
    for (int column = 0; column < n_cols; ++column) largest = maximum(largest, src[column]);
    std::vector<Wide<T>> sums(lanes, Wide<T>(0));
    for (int column = 0; column < n_cols; ++column) {
        dst[column] = exp_of(T(src[column] - largest));
        sums[unsigned(column) % lanes] += Wide<T>(dst[column]);
    }
    for (unsigned half = lanes / 2; half > 0; half /= 2) {
        for (unsigned t = 0; t < half; ++t) sums[t] += sums[t + half];
    }
    Wide<T> inverse = Wide<T>(1) / sums[0];
    for (int column = 0; column < n_cols; ++column) dst[column] = dst[column] * T(inverse);
}

// ---------------------------------------------------------------------------------------------------------------------
// Names

template <auto function>
bool named(const std::string& name) {
    return emulator::add<function>(name.c_str(), "candle");
}

template <typename T>
void add_moves(const std::string& type) {
    named<&unary<T, copy_of<T>>>("ucopy_" + type);
    named<&fill<T>>("fill_" + type);
    named<&const_set<T>>("const_set_" + type);
    named<&copy2d<T>>("copy2d_" + type);
    named<&where<T, u8>>("where_u8_" + type);
    named<&where<T, u32>>("where_u32_" + type);
    named<&where<T, i64>>("where_i64_" + type);
}

template <typename T, typename I>
void add_indexing(const std::string& id, const std::string& type) {
    named<&index_select<T, I>>("is_" + id + "_" + type);
    named<&gather<T, I>>("gather_" + id + "_" + type);
    named<&index_add<T, I>>("ia_" + id + "_" + type);
    named<&scatter<T, I, false>>("s_" + id + "_" + type);
    named<&scatter<T, I, true>>("sa_" + id + "_" + type);
}

template <typename T>
void add_arithmetic(const std::string& type) {
    named<&affine<T>>("affine_" + type);
    named<&binary<T, T, add<T>>>("badd_" + type);
    named<&binary<T, T, sub<T>>>("bsub_" + type);
    named<&binary<T, T, mul<T>>>("bmul_" + type);
    named<&binary<T, T, div<T>>>("bdiv_" + type);
    named<&binary<T, T, maximum<T>>>("bmaximum_" + type);
    named<&binary<T, T, minimum<T>>>("bminimum_" + type);
    named<&binary<T, u8, eq<T>>>("eq_" + type);
    named<&binary<T, u8, ne<T>>>("ne_" + type);
    named<&binary<T, u8, lt<T>>>("lt_" + type);
    named<&binary<T, u8, le<T>>>("le_" + type);
    named<&binary<T, u8, gt<T>>>("gt_" + type);
    named<&binary<T, u8, ge<T>>>("ge_" + type);
    named<&fast_sum<T>>("fast_sum_" + type);
    named<&fast_sum_small<T>>("fast_sum_small_" + type);
    named<&fast_extreme<T, maximum<T>>>("fast_max_" + type);
    named<&fast_extreme<T, minimum<T>>>("fast_min_" + type);
    named<&fast_arg_extreme<T, gt<T>>>("fast_argmax_" + type);
    named<&fast_arg_extreme<T, lt<T>>>("fast_argmin_" + type);
}

template <typename T>
void add_functions(const std::string& type) {
    named<&unary<T, neg<T>>>("uneg_" + type);
    named<&unary<T, recip<T>>>("urecip_" + type);
    named<&unary<T, exp_of<T>>>("uexp_" + type);
    named<&unary<T, log_of<T>>>("ulog_" + type);
    named<&unary<T, sin_of<T>>>("usin_" + type);
    named<&unary<T, cos_of<T>>>("ucos_" + type);
    named<&unary<T, tanh_of<T>>>("utanh_" + type);
    named<&unary<T, erf_of<T>>>("uerf_" + type);
    named<&unary<T, ceil_of<T>>>("uceil_" + type);
    named<&unary<T, floor_of<T>>>("ufloor_" + type);
    named<&unary<T, round_of<T>>>("uround_" + type);
    named<&unary<T, normcdf<T>>>("unormcdf_" + type);
    named<&unary<T, abs_of<T>>>("uabs_" + type);
    named<&unary<T, sqr<T>>>("usqr_" + type);
    named<&unary<T, sqrt_of<T>>>("usqrt_" + type);
    named<&unary<T, gelu<T>>>("ugelu_" + type);
    named<&unary<T, gelu_erf<T>>>("ugelu_erf_" + type);
    named<&unary<T, relu<T>>>("urelu_" + type);
    named<&unary<T, silu<T>>>("usilu_" + type);
    named<&unary<T, sign<T>>>("usign_" + type);
    named<&unary<T, sigmoid<T>>>("usigmoid_" + type);
    named<&unary_with<T, powf_of<T>>>("upowf_" + type);
    named<&unary_with<T, elu<T>>>("uelu_" + type);
    named<&softmax<T>>("softmax_" + type);
}

template <typename From, typename To>
void add_cast(const std::string& from, const std::string& to) {
    // candle has none between these.
    bool lacks = (from == "bf16" && to == "i64") || (from == "i64" && to == "bf16");
    if (!lacks) named<&cast<From, To>>("cast_" + from + "_" + to);
}

template <typename T>
void add_type(const std::string& type) {
    add_moves<T>(type);
    add_arithmetic<T>(type);
    add_indexing<T, u8>("u8", type);
    add_indexing<T, u32>("u32", type);
    add_indexing<T, i64>("i64", type);
    if constexpr (!std::is_integral_v<T>) add_functions<T>(type);
    add_cast<T, float>(type, "f32");
    add_cast<T, double>(type, "f64");
    add_cast<T, bf16>(type, "bf16");
    add_cast<T, u8>(type, "u8");
    add_cast<T, u32>(type, "u32");
    add_cast<T, i64>(type, "i64");
}

[[maybe_unused]] const bool added = [] {
    add_type<float>("f32");
    add_type<double>("f64");
    add_type<bf16>("bf16");
    add_type<u8>("u8");
    add_type<u32>("u32");
    add_type<i64>("i64");
    return true;
}();

}  // namespace
