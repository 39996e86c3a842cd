// Appends a row to sequences that change places. One thread for each element, blockIdx.y is the sequence.

#define APPEND(SUFFIX, T)                                                                                              \
    extern "C" __global__ void append_##SUFFIX(                                                                        \
        const T* past, const u32* sequences, const T* next, T* out, u64 length, u64 width) {                           \
        u64 index = element_index(), sequence = blockIdx.y;                                                            \
        u64 before = length * width, after = before + width;                                                           \
        if (index < before) {                                                                                          \
            out[sequence * after + index] = past[sequences[sequence] * before + index];                                \
        } else if (index < after) {                                                                                    \
            out[sequence * after + index] = next[sequence * width + (index - before)];                                 \
        }                                                                                                              \
    }
FOR_BOTH_TYPES(APPEND)
