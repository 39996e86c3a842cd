// Bias rows, column sums, and sums of two matrices.

extern "C" __global__ void fill_rows_f32(const float* bias, float* out, u64 rows, u64 width) {
    each_element(
        rows * width, [=](u64 index) { return bias[index % width]; },
        [=](u64 index, float value) { out[index] = value; });
}

extern "C" __global__ void widen_rows(const bf16* x, const float* bias, float* out, u64 rows, u64 width) {
    each_element(
        rows * width, [=](u64 index) { return to_float(x[index]) + bias[index % width]; },
        [=](u64 index, float value) { out[index] = value; });
}

// One thread for each column of a stripe of rows: `partial[blockIdx.y]` is the sum of the stripe.
template <typename T>
__device__ void column_sums(const T* x, float* partial, u64 rows, u64 width, u64 rows_per_block) {
    u64 column = element_index();
    if (column >= width) return;
    u64 first = blockIdx.y * rows_per_block;
    u64 end = first + rows_per_block < rows ? first + rows_per_block : rows;
    float sum = 0.0f;
#pragma unroll 8
    for (u64 row = first; row < end; ++row) sum += to_float(x[row * width + column]);
    partial[blockIdx.y * width + column] = sum;
}

#define COLUMN_SUMS(SUFFIX, T)                                                                                         \
    extern "C" __global__ void column_sums_##SUFFIX(                                                                   \
        const T* x, float* partial, u64 rows, u64 width, u64 rows_per_block) {                                         \
        column_sums(x, partial, rows, width, rows_per_block);                                                          \
    }
FOR_BOTH_TYPES(COLUMN_SUMS)

template <typename T> __device__ void add_assign(T* sum, const T* term, u64 n) {
    each_element(
        n, [=](u64 index) { return to_float(sum[index]) + to_float(term[index]); },
        [=](u64 index, float value) { sum[index] = from_float<T>(value); });
}

#define ADD_ASSIGN(SUFFIX, T)                                                                                          \
    extern "C" __global__ void add_assign_##SUFFIX(T* sum, const T* term, u64 n) { add_assign(sum, term, n); }
FOR_BOTH_TYPES(ADD_ASSIGN)
