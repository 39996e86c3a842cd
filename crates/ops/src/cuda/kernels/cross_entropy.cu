// Cross-entropy of rows of logits against class numbers, and sums of losses. One block for each row.

// Logits that a thread reads at once.
constexpr u32 BATCH = 4;
constexpr float LOWEST = -3.4028234663852886e38f;

// Reads every `blockDim.x`th logit from `first` on; minus infinity after the last.
template <typename T> __device__ void read_batch(const T* logits, u32 first, u32 vocabulary, float (&batch)[BATCH]) {
#pragma unroll
    for (u32 i = 0; i < BATCH; ++i) {
        u32 index = first + i * blockDim.x;
        batch[i] = index < vocabulary ? to_float(logits[index]) : -infinity();
    }
}

struct RowSums {
    float largest;
    // Of exp(logit - largest).
    float powers;
    // Of the logits, a part in each thread.
    float logits;
};

// In one pass: the sum so far is scaled down when a larger logit comes. The largest starts at a finite number, so that
// minus infinity adds nothing. With NaN, infinity, or only minus infinity, loss and gradient become NaN.
template <typename T> __device__ RowSums row_sums(const T* logits, u32 vocabulary) {
    RowSums sums{LOWEST, 0.0f, 0.0f};
    for (u32 first = threadIdx.x; first < vocabulary; first += BATCH * blockDim.x) {
        float batch[BATCH];
        read_batch(logits, first, vocabulary, batch);
        float largest = sums.largest;
#pragma unroll
        for (u32 i = 0; i < BATCH; ++i) largest = fmaxf(largest, batch[i]);
        sums.powers *= expf(sums.largest - largest);
        sums.largest = largest;
#pragma unroll
        for (u32 i = 0; i < BATCH; ++i) {
            sums.powers += expf(batch[i] - largest);
            sums.logits += first + i * blockDim.x < vocabulary ? batch[i] : 0.0f;
        }
    }
    float largest = block_maximum(sums.largest);
    sums.powers = block_sum(sums.powers * expf(sums.largest - largest));
    sums.largest = largest;
    return sums;
}

// The factor of the block's row; 1 where there are no weights.
__device__ double row_weight(const float* weights) { return weights ? (double)weights[blockIdx.x] : 1.0; }

template <typename T>
__device__ void cross_entropy(
    const T* logits, const u32* targets, double weight, float* losses, u64 vocabulary, float smoothing) {
    u32 target = targets[blockIdx.x];
    logits += blockIdx.x * vocabulary;
    RowSums sums = row_sums(logits, vocabulary);
    float sum = smoothing > 0.0f ? block_sum(sums.logits) : 0.0f;
    if (threadIdx.x != 0) return;
    double log_sum = (double)sums.largest + log((double)sums.powers);
    float logit = target < vocabulary ? to_float(logits[target]) : not_a_number();
    double loss = log_sum - (1.0 - (double)smoothing) * (double)logit;
    if (smoothing > 0.0f) loss -= (double)smoothing / (double)vocabulary * (double)sum;
    losses[blockIdx.x] = (float)(weight * loss);
}

// `scale * (softmax - target distribution)`.
template <typename T>
__device__ void cross_entropy_backward(
    const T* logits, const u32* targets, double scale, T* out, u32 vocabulary, double smoothing) {
    u32 target = targets[blockIdx.x];
    logits += (u64)blockIdx.x * vocabulary;
    out += (u64)blockIdx.x * vocabulary;
    RowSums sums = row_sums(logits, vocabulary);
    float factor = (float)(scale / (double)sums.powers);
    float floor = (float)(scale * smoothing / (double)vocabulary);
    float peak = (float)(scale * (1.0 - smoothing));
    for (u32 first = threadIdx.x; first < vocabulary; first += BATCH * blockDim.x) {
        float batch[BATCH];
        read_batch(logits, first, vocabulary, batch);
#pragma unroll
        for (u32 i = 0; i < BATCH; ++i) {
            u32 index = first + i * blockDim.x;
            if (index >= vocabulary) continue;
            float slope = expf(batch[i] - sums.largest) * factor - floor;
            out[index] = from_float<T>(index == target ? slope - peak : slope);
        }
    }
}

#define CROSS_ENTROPY(SUFFIX, T)                                                                                       \
    extern "C" __global__ void cross_entropy_##SUFFIX(                                                                 \
        const T* logits, const u32* targets, const float* weights, float* losses, u64 rows, u64 vocabulary,            \
        float smoothing) {                                                                                             \
        if (blockIdx.x < rows)                                                                                         \
            cross_entropy(logits, targets, row_weight(weights), losses, vocabulary, smoothing);                        \
    }                                                                                                                  \
    extern "C" __global__ void cross_entropy_backward_##SUFFIX(                                                        \
        const T* logits, const u32* targets, const float* weights, const float* scale, T* out, u64 rows,               \
        u64 vocabulary, float smoothing) {                                                                             \
        if (blockIdx.x < rows)                                                                                         \
            cross_entropy_backward(                                                                                    \
                logits, targets, row_weight(weights) * (double)*scale, out, vocabulary, smoothing);                    \
    }
FOR_BOTH_TYPES(CROSS_ENTROPY)

// One block.
extern "C" __global__ void sum_f32(const float* x, float* out, u64 n) {
    double sum = 0.0;
    for (u64 index = threadIdx.x; index < n; index += blockDim.x) sum += (double)x[index];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = (float)sum;
}
