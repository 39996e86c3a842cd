// The three GELU activations (Hendrycks, Gimpel 2016) in the forms of cpu/gelu.rs.

constexpr int ERF = 0;
constexpr int TANH = 1;

constexpr float QUICK_SLOPE = 1.702f;
// 2 sqrt(2 / pi): (1 + tanh u) / 2 = sigmoid(2 u).
constexpr float TANH_SLOPE = 1.5957691216057308f;
constexpr float TANH_CUBIC = 0.044715f;
constexpr float ROOT_HALF = 0.70710678118654752f;
// 1 / sqrt(2 pi).
constexpr float NORMAL_PEAK = 0.3989422804014327f;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// `1 + erf` would lose all digits of the left tail.
__device__ inline float normal_cumulative(float x) { return 0.5f * erfcf(-x * ROOT_HALF); }

__device__ inline float gelu(float x, int kind) {
    if (kind == ERF) return x * normal_cumulative(x);
    if (kind == TANH) return x * sigmoid(x * (TANH_SLOPE + TANH_SLOPE * TANH_CUBIC * x * x));
    return x * sigmoid(QUICK_SLOPE * x);
}

__device__ inline float gelu_slope(float x, int kind) {
    if (kind == ERF) return normal_cumulative(x) + x * NORMAL_PEAK * expf(-0.5f * x * x);
    if (kind == TANH) {
        float square = x * x;
        float gate = sigmoid(x * (TANH_SLOPE + TANH_SLOPE * TANH_CUBIC * square));
        float inner = TANH_SLOPE + 3.0f * TANH_SLOPE * TANH_CUBIC * square;
        float bend = gate * (1.0f - gate);
        // `inner` may be infinite where the gate has closed.
        return bend > 0.0f ? gate + bend * (x * inner) : gate;
    }
    float gate = sigmoid(QUICK_SLOPE * x);
    return gate + QUICK_SLOPE * x * gate * (1.0f - gate);
}

template <typename Out> __device__ void gelu_forward(const float* x, Out* out, u64 n, int kind) {
    each_element(
        n, [=](u64 index) { return gelu(x[index], kind); },
        [=](u64 index, float value) { out[index] = from_float<Out>(value); });
}

#define GELU_FORWARD(SUFFIX, Out)                                                                                      \
    extern "C" __global__ void gelu_forward_f32_##SUFFIX(const float* x, Out* out, u64 n, int kind) {                  \
        gelu_forward(x, out, n, kind);                                                                                 \
    }
FOR_BOTH_TYPES(GELU_FORWARD)

// Multiplies `grad` by the slopes.
extern "C" __global__ void gelu_backward_f32(const float* x, float* grad, u64 n, int kind) {
    each_element(
        n, [=](u64 index) { return grad[index] * gelu_slope(x[index], kind); },
        [=](u64 index, float value) { grad[index] = value; });
}
