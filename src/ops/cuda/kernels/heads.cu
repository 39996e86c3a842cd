// Addresses of the matrices of a batched product: one for each head of each example. Strides are in bytes.

extern "C" __global__ void head_pointers(
    u64 base, u64* out, int examples, int heads, u64 example_stride, u64 head_stride) {
    u64 index = element_index();
    if (index >= (u64)examples * heads) return;
    out[index] = base + index / heads * example_stride + index % heads * head_stride;
}
