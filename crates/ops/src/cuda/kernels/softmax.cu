// Softmax and dropout of attention scores, forward and backward. One warp for each row: the scores of one query.

// Rows up to 256 keys are read once.
constexpr u32 HELD = 8;

// The sizes and the dropout of a launch; rows are numbered (example * heads + head) * queries + query.
struct Attention {
    u64 rows;
    int heads;
    int queries;
    int keys;
    int score_stride;
    int out_stride;
    int causal;
    u64 seed;
    u64 update;
    u64 site;
    u64 first_example;
    u32 threshold;
    float kept;
};

// This warp's row.
struct Query {
    u64 row;
    // How many keys it sees.
    u32 visible;
    // The number of its first element in the mask.
    u32 first_element;
    Mask mask;

    __device__ Query(const Attention& attention) {
        row = (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
        u64 example_head = row / attention.queries;
        u32 query = row % attention.queries;
        visible = attention.causal ? attention.keys - attention.queries + query + 1 : attention.keys;
        first_element = query << 16;
        mask = Mask{0, attention.threshold, attention.kept};
        if (attention.threshold != 0) {
            u64 example = attention.first_example + example_head / attention.heads;
            u64 example_key = mix_key(attention.seed, attention.update, attention.site, example);
            mask.key = mix_key(example_key, example_head % attention.heads);
        }
    }

    __device__ float factor(u32 key) const { return mask.threshold ? mask.factor(first_element | key) : 1.0f; }
};

// Sets the columns that a query does not see to 0.
template <typename T> __device__ void hide(T* out, const Query& query, const Attention& attention) {
    u32 stride = attention.out_stride;
    for (u32 key = query.visible + threadIdx.x % WARP; key < stride; key += WARP) out[key] = from_float<T>(0.0f);
}

template <typename T> __device__ void softmax(const float* scores, T* out, const Attention& attention) {
    Query query(attention);
    if (query.row >= attention.rows) return;
    u32 visible = query.visible;
    scores += query.row * attention.score_stride;
    out += query.row * attention.out_stride;

    auto row = lane_row<HELD>(visible, [=](u32, u32 key) { return scores[key]; });
    float largest = -infinity();
    for_lane<HELD>(visible, [&](u32 slot, u32 key) { largest = fmaxf(largest, row.at(slot, key)); });
    largest = warp_maximum(largest);
    auto powers = lane_row<HELD>(visible, [&](u32 slot, u32 key) { return expf(row.at(slot, key) - largest); });
    float sum = row_sum<HELD>(visible, [&](u32 slot, u32 key) { return powers.at(slot, key); });
    float inverse = 1.0f / sum;
    for_lane<HELD>(visible, [&](u32 slot, u32 key) {
        out[key] = from_float<T>(powers.at(slot, key) * inverse * query.factor(key));
    });
    hide(out, query, attention);
}

// `grad` is the gradient of the probabilities after dropout; `weights` gets these again, unless it is null.
template <typename T>
__device__ void softmax_backward(
    const float* scores, const float* grad, T* weights, T* out, const Attention& attention) {
    Query query(attention);
    if (query.row >= attention.rows) return;
    u32 visible = query.visible;
    scores += query.row * attention.score_stride;
    grad += query.row * attention.score_stride;
    out += query.row * attention.out_stride;
    if (weights) weights += query.row * attention.out_stride;

    auto row = lane_row<HELD>(visible, [=](u32, u32 key) { return scores[key]; });
    auto gradients = lane_row<HELD>(visible, [=](u32, u32 key) { return grad[key]; });
    auto factors = lane_row<HELD>(visible, [&](u32, u32 key) { return query.factor(key); });
    float largest = -infinity();
    for_lane<HELD>(visible, [&](u32 slot, u32 key) { largest = fmaxf(largest, row.at(slot, key)); });
    largest = warp_maximum(largest);
    auto powers = lane_row<HELD>(visible, [&](u32 slot, u32 key) { return expf(row.at(slot, key) - largest); });
    float inverse = 1.0f / row_sum<HELD>(visible, [&](u32 slot, u32 key) { return powers.at(slot, key); });
    auto slopes = lane_row<HELD>(visible, [&](u32 slot, u32 key) {
        return gradients.at(slot, key) * factors.at(slot, key);
    });
    float mean = row_sum<HELD>(visible, [&](u32 slot, u32 key) {
        return slopes.at(slot, key) * (powers.at(slot, key) * inverse);
    });
    for_lane<HELD>(visible, [&](u32 slot, u32 key) {
        float probability = powers.at(slot, key) * inverse;
        float slope = slopes.at(slot, key);
        if (weights) weights[key] = from_float<T>(probability * factors.at(slot, key));
        out[key] = from_float<T>((slope - mean) * probability);
    });
    hide(out, query, attention);
    if (weights) hide(weights, query, attention);
}

#define ATTENTION_PARAMETERS                                                                                           \
    u64 rows, int heads, int queries, int keys, int score_stride, int out_stride, int causal, u64 seed, u64 update,    \
        u64 site, u64 first_example, u32 threshold, float kept
#define ATTENTION                                                                                                      \
    Attention { rows, heads, queries, keys, score_stride, out_stride, causal, seed, update, site, first_example,       \
                threshold, kept }

#define ATTENTION_SOFTMAX(SUFFIX, T)                                                                                   \
    extern "C" __global__ void attention_softmax_##SUFFIX(const float* scores, T* out, ATTENTION_PARAMETERS) {         \
        softmax(scores, out, ATTENTION);                                                                               \
    }                                                                                                                  \
    extern "C" __global__ void attention_softmax_backward_##SUFFIX(                                                    \
        const float* scores, const float* grad, T* weights, T* out, ATTENTION_PARAMETERS) {                            \
        softmax_backward(scores, grad, weights, out, ATTENTION);                                                       \
    }
FOR_BOTH_TYPES(ATTENTION_SOFTMAX)
