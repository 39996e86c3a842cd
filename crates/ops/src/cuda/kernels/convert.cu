// To bf16, for matrix products.

extern "C" __global__ void f32_to_bf16(const float* x, bf16* out, u64 n) {
    each_element(n, [=](u64 index) { return x[index]; }, [=](u64 index, float value) { out[index] = to_bf16(value); });
}
