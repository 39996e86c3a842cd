// Rows of a table by id. Forward: one block for each row of the result; backward: one for each row of the table.

// Ids that are compared at once: the number of threads of a block, `THREADS_PER_ROW` of the host.
constexpr u32 PIECE = 128;
// Room for matches; they are added up when the next piece might not fit.
constexpr u32 MATCHES = 512;
// Columns of a thread.
constexpr u32 COLUMNS = 8;

template <typename T>
__device__ void embedding_forward(const T* table, const u32* ids, T* out, u64 table_rows, u64 width) {
    u32 id = ids[blockIdx.x];
    out += blockIdx.x * width;
    for (u64 column = threadIdx.x; column < width; column += blockDim.x) {
        out[column] = id < table_rows ? table[id * width + column] : from_float<T>(not_a_number());
    }
}

// Adds rows of `grad` in the order of `matches`.
template <typename T>
__device__ void add_matches(
    const T* grad, const u32* matches, u32 count, u64 width, const u64 (&columns)[COLUMNS], float (&sums)[COLUMNS]) {
#pragma unroll 4
    for (u32 i = 0; i < count; ++i) {
        const T* row = grad + matches[i] * width;
#pragma unroll
        for (u32 k = 0; k < COLUMNS; ++k) sums[k] += to_float(row[columns[k]]);
    }
}

// Every warp checks all ids of a piece, so that all warps agree without a barrier whether any match. Few pieces have any.
template <typename T>
__device__ void embedding_backward(const T* grad, const u32* ids, float* out, u32 count, u64 width) {
    __shared__ u32 matches[MATCHES];
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (u64 first = 0; first < width; first += COLUMNS * PIECE) {
        u64 columns[COLUMNS];
        float sums[COLUMNS];
#pragma unroll
        for (u32 k = 0; k < COLUMNS; ++k) {
            u64 column = first + k * PIECE + threadIdx.x;
            // After the last column it is read again and not written, which saves a branch at each load.
            columns[k] = column < width ? column : width - 1;
            sums[k] = 0.0f;
        }
        u32 found = 0;
        for (u32 piece = 0; piece < count; piece += PIECE) {
            bool equal[PIECE / WARP];
            bool any = false;
#pragma unroll
            for (u32 k = 0; k < PIECE / WARP; ++k) {
                u32 position = piece + k * WARP + lane;
                equal[k] = position < count && ids[position] == blockIdx.x;
                any = any || equal[k];
            }
            if (__ballot_sync(ALL_LANES, any) == 0) continue;
#pragma unroll
            for (u32 k = 0; k < PIECE / WARP; ++k) {
                u32 lanes = __ballot_sync(ALL_LANES, equal[k]);
                u32 before = __popc(lanes & ((1u << lane) - 1));
                if (warp == k && equal[k]) matches[found + before] = piece + k * WARP + lane;
                found += __popc(lanes);
            }
            if (found <= MATCHES - PIECE) continue;
            __syncthreads();
            add_matches(grad, matches, found, width, columns, sums);
            __syncthreads();
            found = 0;
        }
        __syncthreads();
        add_matches(grad, matches, found, width, columns, sums);
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < COLUMNS; ++k) {
            u64 column = first + k * PIECE + threadIdx.x;
            if (column < width) out[blockIdx.x * width + column] = sums[k];
        }
    }
}

#define EMBEDDING(SUFFIX, T)                                                                                           \
    extern "C" __global__ void embedding_forward_##SUFFIX(                                                             \
        const T* table, const u32* ids, T* out, u64 count, u64 table_rows, u64 width) {                                \
        if (blockIdx.x < count) embedding_forward(table, ids, out, table_rows, width);                                 \
    }                                                                                                                  \
    extern "C" __global__ void embedding_backward_##SUFFIX(                                                            \
        const T* grad, const u32* ids, float* out, u64 count, u64 table_rows, u64 width) {                             \
        if (blockIdx.x < table_rows) embedding_backward(grad, ids, out, count, width);                                 \
    }
FOR_BOTH_TYPES(EMBEDDING)
