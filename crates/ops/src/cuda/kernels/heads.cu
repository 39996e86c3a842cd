// Addresses of the matrices of batched products: one for each head of each example. Strides are in bytes.

// The number of kinds of matrices of an attention; `MAX_HEAD_LISTS` of the host.
constexpr int LISTS = 12;

struct HeadLists {
    u64 base[LISTS];
    u64 example_stride[LISTS];
    u64 head_stride[LISTS];
};

// Each list has `examples * heads` addresses.
extern "C" __global__ void head_pointers(HeadLists lists, u64* out, int num_lists, int examples, int heads) {
    u64 index = element_index(), each = (u64)examples * heads;
    if (index >= num_lists * each) return;
    u64 list = index / each, head = index % each;
    out[index] = lists.base[list] + head / heads * lists.example_stride[list] + head % heads * lists.head_stride[list];
}
