// Shared by all kernels. Put before the text of a kernel file when it is compiled at run time, where there are no
// headers: nothing is included, and bf16 is a type defined here.
//
// Nothing uses atomics, and every sum has a fixed order: equal inputs give equal bits.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffff;

// Defines a kernel for both types of elements: `KERNEL(suffix, type)`.
#define FOR_BOTH_TYPES(KERNEL) KERNEL(f32, float) KERNEL(bf16, bf16)

// The upper half of a float.
struct bf16 {
    unsigned short bits;
};

__device__ inline u32 bits_of(float value) {
    union { float value; u32 bits; } both;
    both.value = value;
    return both.bits;
}

__device__ inline float float_of(u32 bits) {
    union { u32 bits; float value; } both;
    both.bits = bits;
    return both.value;
}

__device__ inline float not_a_number() { return float_of(0x7FC00000); }
__device__ inline float infinity() { return float_of(0x7F800000); }

__device__ inline bool is_finite(double value) {
    union { double value; u64 bits; } both;
    both.value = value;
    return (both.bits >> 52 & 0x7FF) != 0x7FF;
}

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bf16 value) { return float_of((u32)value.bits << 16); }

// The nearest bf16, ties to even; NaN stays NaN.
__device__ inline bf16 to_bf16(float value) {
    u32 bits = bits_of(value);
    // Rounding could carry a NaN over into an infinity.
    bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    bits = nan ? bits | 0x00400000 : bits + 0x7FFF + (bits >> 16 & 1);
    return bf16{(unsigned short)(bits >> 16)};
}

template <typename T> __device__ T from_float(float value);
template <> __device__ inline float from_float<float>(float value) { return value; }
template <> __device__ inline bf16 from_float<bf16>(float value) { return to_bf16(value); }

// Elements of a thread in `each_element`.
constexpr u32 ELEMENTS = 4;

// `write(index, read(index))` for the elements of a thread, of n. All are read before the first is written, so that the
// reads overlap.
template <typename Read, typename Write> __device__ void each_element(u64 n, Read read, Write write) {
    u64 first = (u64)blockIdx.x * blockDim.x * ELEMENTS + threadIdx.x;
    float values[ELEMENTS];
#pragma unroll
    for (u32 i = 0; i < ELEMENTS; ++i) {
        if (first + i * blockDim.x < n) values[i] = read(first + i * blockDim.x);
    }
#pragma unroll
    for (u32 i = 0; i < ELEMENTS; ++i) {
        if (first + i * blockDim.x < n) write(first + i * blockDim.x, values[i]);
    }
}

// The element of a thread in a launch with one thread for each element.
__device__ inline u64 element_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

template <typename V> __device__ V warp_sum(V value) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// Ignores NaN.
__device__ inline float warp_maximum(float value) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// Gives every thread the sum over the block, which must consist of whole warps.
template <typename V> __device__ V block_sum(V value) {
    __shared__ V sums[WARP];
    value = warp_sum(value);
    // Other threads may still read the previous sum.
    __syncthreads();
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    V total = sums[0];
    for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) total += sums[warp];
    return total;
}

// As `block_sum`; ignores NaN.
__device__ inline float block_maximum(float value) {
    __shared__ float maxima[WARP];
    value = warp_maximum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) maxima[threadIdx.x / WARP] = value;
    __syncthreads();
    float largest = maxima[0];
    for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) largest = fmaxf(largest, maxima[warp]);
    return largest;
}

// Calls `f(slot, column)` for each column of a row that belongs to this lane. Slots below HELD are constants once the loop is
// unrolled, so that arrays they index stay in registers; all further columns have the slot HELD.
template <u32 HELD, typename F> __device__ void for_lane(u32 width, F f) {
    u32 lane = threadIdx.x % WARP;
#pragma unroll
    for (u32 slot = 0; slot < HELD; ++slot) {
        if (lane + slot * WARP < width) f(slot, lane + slot * WARP);
    }
    for (u32 column = lane + HELD * WARP; column < width; column += WARP) f(HELD, column);
}

// The part of a row of `read(slot, column)` that belongs to this lane: the first HELD values are read once into
// registers, the others at each use.
template <u32 HELD, typename Read> struct LaneRow {
    Read read;
    float held[HELD];

    __device__ LaneRow(u32 width, Read read) : read(read) {
        u32 lane = threadIdx.x % WARP;
#pragma unroll
        for (u32 slot = 0; slot < HELD; ++slot) {
            held[slot] = lane + slot * WARP < width ? read(slot, lane + slot * WARP) : 0.0f;
        }
    }

    __device__ float at(u32 slot, u32 column) const { return slot < HELD ? held[slot] : read(slot, column); }
};

template <u32 HELD, typename Read> __device__ LaneRow<HELD, Read> lane_row(u32 width, Read read) {
    return LaneRow<HELD, Read>(width, read);
}

// The sum of `f(slot, column)` over a row, in every lane of the warp.
template <u32 HELD, typename F> __device__ float row_sum(u32 width, F f) {
    float sum = 0.0f;
    for_lane<HELD>(width, [&](u32 slot, u32 column) { sum += f(slot, column); });
    return warp_sum(sum);
}

__device__ inline u64 splitmix(u64 value) {
    u64 z = value + 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

// `mix_key` of base/random.rs.
template <typename... Words> __device__ u64 mix_key(Words... words) {
    u64 state = 0x9E3779B97F4A7C15ull;
    ((state = splitmix(state ^ words)), ...);
    return state;
}

__device__ inline u32 lowbias32(u32 x) {
    x = (x ^ x >> 16) * 0x7FEB352D;
    x = (x ^ x >> 15) * 0x846CA68B;
    return x ^ x >> 16;
}

// 32 random bits for an element under a key, as in base/random.rs: masks are the same on every device.
__device__ inline u32 element_bits(u64 key, u32 element) {
    return lowbias32(lowbias32(element ^ (u32)key) ^ (u32)(key >> 32));
}

// The dropout mask of one example, or of one head of it.
struct Mask {
    u64 key;
    // Bits below this drop the element.
    u32 threshold;
    float kept;

    __device__ float factor(u32 element) const { return element_bits(key, element) >= threshold ? kept : 0.0f; }
};
