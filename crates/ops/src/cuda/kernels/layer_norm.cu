// Layer normalisation of rows (Ba, Kiros, Hinton 2016), as `torch.nn.functional.layer_norm`. One warp for each row,
// except for the gradients of the parameters.

// Rows up to 1024 wide are read once.
constexpr u32 HELD = 32;

struct Statistics {
    float mean;
    float inverse;
};

// The row of this warp; after the last one for warps without work.
__device__ inline u64 warp_row() { return (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP; }

// Two passes: the sum of squares minus the squared sum would lose the digits of rows far from 0.
template <typename Row> __device__ Statistics row_statistics(const Row& x, u32 width, float eps) {
    float scale = 1.0f / width;
    float mean = row_sum<HELD>(width, [&](u32 slot, u32 column) { return x.at(slot, column); }) * scale;
    float variance = row_sum<HELD>(width, [&](u32 slot, u32 column) {
        float centred = x.at(slot, column) - mean;
        return centred * centred;
    }) * scale;
    return Statistics{mean, 1.0f / sqrtf(variance + eps)};
}

template <typename T>
__device__ void layer_norm_forward(
    const T* x, const float* weight, const float* bias, T* out, u64 rows, u64 width, float eps) {
    u64 index = warp_row();
    if (index >= rows) return;
    x += index * width;
    out += index * width;
    auto row = lane_row<HELD>(width, [=](u32, u32 column) { return to_float(x[column]); });
    Statistics statistics = row_statistics(row, width, eps);
    for_lane<HELD>(width, [&](u32 slot, u32 column) {
        float normal = (row.at(slot, column) - statistics.mean) * statistics.inverse;
        out[column] = from_float<T>(normal * weight[column] + bias[column]);
    });
}

template <typename T>
__device__ void layer_norm_statistics(const T* x, float* statistics, u64 rows, u64 width, float eps) {
    u64 index = warp_row();
    if (index >= rows) return;
    x += index * width;
    auto row = lane_row<HELD>(width, [=](u32, u32 column) { return to_float(x[column]); });
    Statistics found = row_statistics(row, width, eps);
    if (threadIdx.x % WARP == 0) {
        statistics[2 * index] = found.mean;
        statistics[2 * index + 1] = found.inverse;
    }
}

template <typename T>
__device__ void layer_norm_backward(
    const T* x, const float* weight, const float* statistics, const T* grad, T* dx, u64 rows, u64 width) {
    u64 index = warp_row();
    if (index >= rows) return;
    x += index * width;
    grad += index * width;
    dx += index * width;
    float mean = statistics[2 * index], inverse = statistics[2 * index + 1];
    float scale = 1.0f / width;
    auto centred = lane_row<HELD>(width, [=](u32, u32 column) { return to_float(x[column]) - mean; });
    // Of the normalised row.
    auto slopes = lane_row<HELD>(width, [=](u32, u32 column) { return to_float(grad[column]) * weight[column]; });
    float mean_slope = row_sum<HELD>(width, [&](u32 slot, u32 column) { return slopes.at(slot, column); }) * scale;
    float projection = row_sum<HELD>(width, [&](u32 slot, u32 column) {
        return slopes.at(slot, column) * centred.at(slot, column);
    }) * scale * inverse * inverse;
    for_lane<HELD>(width, [&](u32 slot, u32 column) {
        float slope = slopes.at(slot, column) - mean_slope - centred.at(slot, column) * projection;
        dx[column] = from_float<T>(slope * inverse);
    });
}

// One thread for each column of a stripe of rows. `partial[blockIdx.y]`: the gradients of the weight, then of the bias.
template <typename T>
__device__ void layer_norm_parameters(
    const T* x, const float* statistics, const T* grad, float* partial, u64 rows, u64 width, u64 rows_per_block) {
    u64 column = element_index();
    if (column >= width) return;
    u64 first = blockIdx.y * rows_per_block;
    u64 end = first + rows_per_block < rows ? first + rows_per_block : rows;
    float weight = 0.0f, bias = 0.0f;
#pragma unroll 4
    for (u64 row = first; row < end; ++row) {
        float slope = to_float(grad[row * width + column]);
        weight += (to_float(x[row * width + column]) - statistics[2 * row]) * statistics[2 * row + 1] * slope;
        bias += slope;
    }
    partial += blockIdx.y * 2 * width;
    partial[column] = weight;
    partial[width + column] = bias;
}

#define LAYER_NORM(SUFFIX, T)                                                                                          \
    extern "C" __global__ void layer_norm_forward_##SUFFIX(                                                            \
        const T* x, const float* weight, const float* bias, T* out, u64 rows, u64 width, float eps) {                  \
        layer_norm_forward(x, weight, bias, out, rows, width, eps);                                                    \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_statistics_##SUFFIX(                                                         \
        const T* x, float* statistics, u64 rows, u64 width, float eps) {                                               \
        layer_norm_statistics(x, statistics, rows, width, eps);                                                        \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_backward_##SUFFIX(                                                           \
        const T* x, const float* weight, const float* statistics, const T* grad, T* dx, u64 rows, u64 width) {         \
        layer_norm_backward(x, weight, statistics, grad, dx, rows, width);                                             \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_parameters_##SUFFIX(                                                         \
        const T* x, const float* statistics, const T* grad, float* partial, u64 rows, u64 width,                       \
        u64 rows_per_block) {                                                                                          \
        layer_norm_parameters(x, statistics, grad, partial, rows, width, rows_per_block);                              \
    }
FOR_BOTH_TYPES(LAYER_NORM)
