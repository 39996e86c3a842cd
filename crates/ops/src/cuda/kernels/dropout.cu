// Dropout with the masks of cpu/dropout.rs, a function of the place of an element. Four elements for each thread.

template <typename T>
__device__ void dropout(
    const T* x, T* out, u64 width, u64 seed, u64 update, u64 site, u64 first_example, u32 threshold, float kept) {
    Mask mask{mix_key(seed, update, site, first_example + blockIdx.y), threshold, kept};
    u64 first = (u64)blockIdx.x * blockDim.x * ELEMENTS + threadIdx.x;
    x += blockIdx.y * width;
    out += blockIdx.y * width;
    T values[ELEMENTS];
#pragma unroll
    for (u32 i = 0; i < ELEMENTS; ++i) {
        u64 element = first + i * blockDim.x;
        if (element < width) values[i] = x[element];
    }
#pragma unroll
    for (u32 i = 0; i < ELEMENTS; ++i) {
        u64 element = first + i * blockDim.x;
        if (element < width) out[element] = from_float<T>(to_float(values[i]) * mask.factor((u32)element));
    }
}

#define DROPOUT(SUFFIX, T)                                                                                             \
    extern "C" __global__ void dropout_##SUFFIX(                                                                       \
        const T* x, T* out, u64 width, u64 seed, u64 update, u64 site, u64 first_example, u32 threshold, float kept) { \
        dropout(x, out, width, seed, update, site, first_example, threshold, kept);                                    \
    }
FOR_BOTH_TYPES(DROPOUT)
